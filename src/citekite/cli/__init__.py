"""The command line: thin, one module a group of commands; nothing heavy is imported before a command runs."""

from __future__ import annotations

import atexit
import os
import sys
import threading

BEGIN = """\
citekite answers questions from your own documents, with citations.

To begin:
  citekite sync ./docs                            read a folder into ./citekite.db
  citekite ask "How is data stored in Milvus?"    an answer with its sources
  citekite search "consistency levels"            the passages alone

No key is needed. With FIREWORKS_API_KEY (or OPENAI_API_KEY) set, a chat model writes the answers.
`citekite --help` lists all commands."""


def command() -> None:
    """Run the command line as a process of its own, which ends here.

    An interpreter that ends takes all modules apart, for a third of a second after Milvus' client was imported; the
    database is closed by then, and what else has to be done at an end is done.
    """
    try:
        main()
        status = 0
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        status = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Run the command line; the exit codes are those of `citekite.errors.STATUS`."""
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (`| head`): what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run() -> None:
    if len(sys.argv) == 1:
        print(BEGIN)
        return
    import logging

    from citekite.cli.app import app

    # The commands show what a reader has to know; a warning of the log would show it a second time.
    logging.getLogger("citekite").addHandler(logging.NullHandler())
    app()
