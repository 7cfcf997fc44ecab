"""Python programs as real processes, without the second or two of processor time that their imports take.

A process that is `Forked` is a child of the tests like any other: it has a number, streams, a folder, an environment,
signals and an end of its own. Only its imports were made before, by a template that it is forked off (`forking.py`).
Tests about starting and importing start an interpreter with `subprocess`.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

OURS = ("CITEKITE_", "FIREWORKS_", "OPENAI_", "MILVUS_")
PROGRAM = Path(__file__).with_name("forking.py")
SET_CHILD_SUBREAPER = 36  # of prctl(2): the orphans below this process become children of it


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what citekite reads, plus the given variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**clean, "PYTHONUTF8": "1", "COLUMNS": "120", **variables}


class Forked(subprocess.Popen[str]):
    """`subprocess.Popen` for [this interpreter, "-m", a module, ...], with the keywords for streams, `cwd` and `env`.

    A program whose environment asks for another interpreter (PYTHONPATH, PYTHONUNBUFFERED, ...) has one of its own, as
    has every program where this is not Linux.
    """

    def _execute_child(
        self,
        args: list[Any],
        executable: Any,
        before: Any,
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        *more: Any,
    ) -> None:
        """Where Popen makes its process; the order of the arguments is CPython's."""
        variables = dict(os.environ if env is None else env)
        if sys.platform != "linux" or _of_python(variables) != _of_python(environment()):
            super()._execute_child(args, executable, before, close_fds, pass_fds, cwd, env, *more)  # type: ignore[misc]
            return
        assert args[:2] == [sys.executable, "-m"], args
        pipes = more[3:9]
        streams = [end if end >= 0 else own for own, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        words = [os.fspath(word) for word in args[2:]]
        self.pid = template().fork(words, os.fspath(cwd or Path.cwd()), variables, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class Template:
    """The process that others are forked off; it ends with this one."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, PROGRAM, str(theirs.fileno())],
                env=environment(OPENBLAS_NUM_THREADS="1"),  # it must not start threads, which no fork would have
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self._close)

    def fork(self, words: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> int:
        """The number of a new child of this process, which is `python -m WORDS`."""
        request = json.dumps({"words": words, "folder": folder, "environment": environment})
        with self._asking, taking_orphans():
            socket.send_fds(self._requests, [request.encode()], streams)
            return int(self._requests.recv(20))

    def _close(self) -> None:
        self._requests.close()
        self._process.wait(10)


@cache
def template() -> Template:
    return Template()


@contextmanager
def taking_orphans() -> Iterator[None]:
    """Meanwhile a process that a child of this one leaves behind becomes a child of this one."""
    libc = ctypes.CDLL(None)
    libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _of_python(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}
