"""The program of a process that parses files: `python -m citekite.ingest.parser_process MODULE:FUNCTION`.

It reads pickled requests from its standard input and writes a line of JSON for each to its standard output, until the
input ends. Its parent is not to unpickle what a parser may have been made to write. A request that takes too long ends
the process by the alarm of the system, whatever hangs in it, and also when the parent is gone.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import traceback
from dataclasses import asdict, dataclass
from pkgutil import resolve_name
from typing import Any

from citekite.errors import DocumentError
from citekite.ingest.base import LoadOptions
from citekite.ingest.formats import Kind
from citekite.ingest.parse import Parse


@dataclass(frozen=True, slots=True)
class Request:
    """A file to parse within so many seconds."""

    kind: Kind
    name: str
    data: bytes
    options: LoadOptions
    seconds: float


def main() -> None:
    """Answer requests until there are no more."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # they are for the parent, which closes the input then
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    parse: Parse = resolve_name(sys.argv[1])
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as replies:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no reply
        while True:
            try:
                request: Request = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            signal.setitimer(signal.ITIMER_REAL, request.seconds)
            reply = json.dumps(_reply(parse, request))
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(reply, file=replies, flush=True)


def _reply(parse: Parse, request: Request) -> dict[str, Any]:
    remarks: list[str] = []
    try:
        parsed = parse(request.kind, request.name, request.data, request.options, remarks.append)
    except DocumentError as error:
        return {"failure": str(error), "remarks": remarks}
    except MemoryError:
        return {"failure": "parsing it takes more memory than there is", "remarks": remarks}
    except Exception:  # noqa: BLE001 - raised by the parent, with this traceback
        return {"bug": traceback.format_exc(), "remarks": remarks}
    return {"parsed": asdict(parsed), "remarks": remarks}


if __name__ == "__main__":
    main()
