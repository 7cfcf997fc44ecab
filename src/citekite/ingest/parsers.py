"""Processes that parse files: one that hangs or crashes costs the file that did it, and is replaced.

Not by `multiprocessing`: its spawned processes run the user's main module again, and a pool of `concurrent.futures`
that loses one process loses the work of all.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from citekite.errors import DocumentError
from citekite.ingest.base import LoadOptions, Parsed, Warn
from citekite.ingest.formats import Kind
from citekite.ingest.parser_process import Request

PROGRAM = "citekite.ingest.parser_process"
END_SECONDS = 5
_STOPPED = "it was not parsed: the sync has stopped"


class Parsers:
    """As many processes as there are cores, started when they are needed; threads may share it.

    A file has `seconds` to be parsed. `function` names what the processes call, as `module:function`. In another
    process, where it is pickled to, it starts processes of its own.
    """

    def __init__(self, seconds: float, function: str = "citekite.ingest.parse:parse_apart") -> None:
        self.processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._seconds = seconds
        self._function = function
        self._room = threading.BoundedSemaphore(self.processes)
        self._lock = threading.Lock()
        self._busy: set[_Process] = set()
        self._idle: list[_Process] = []
        self._closed = False

    def __reduce__(self) -> tuple[type[Parsers], tuple[float, str]]:
        return Parsers, (self._seconds, self._function)

    def parse(self, kind: Kind, name: str, data: bytes, options: LoadOptions, warn: Warn) -> Parsed:
        """What `parse_apart` makes of a file; waits for a process that is free.

        Raises `DocumentError`, also where the file takes too long or ends its process.
        """
        with self._room:
            process = self._free()
            try:
                reply = process.ask(Request(kind, name, data, options, self._seconds))
            except BaseException:
                process.kill()
                self._end(process)
                raise
            if reply is None:
                raise DocumentError(self._reason(self._end(process)))
            self._keep(process)
        for remark in reply["remarks"]:
            warn(remark)
        if "bug" in reply:
            raise RuntimeError(f"a parser failed on {name!r}:\n{reply['bug']}")
        if "failure" in reply:
            raise DocumentError(reply["failure"])
        return _parsed(reply["parsed"])

    def close(self) -> None:
        """End the processes, also those at work; what they parse fails."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for process in self._busy:
                process.kill()
        for process in idle:
            process.kill()
            process.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _free(self) -> _Process:
        with self._lock:
            if self._closed:
                raise DocumentError(_STOPPED)
            while self._idle and not self._idle[-1].is_alive():
                self._idle.pop().end()
            process = self._idle.pop() if self._idle else _Process(self._function)
            self._busy.add(process)
            return process

    def _keep(self, process: _Process) -> None:
        with self._lock:
            self._busy.discard(process)
            if not self._closed:
                self._idle.append(process)
                return
        process.end()

    def _end(self, process: _Process) -> int:
        """The status with which a process ended that is not to be asked any more."""
        with self._lock:
            self._busy.discard(process)
        return process.end()

    def _reason(self, status: int) -> str:
        if self._closed:
            return _STOPPED
        if status == -signal.SIGALRM:
            return (
                f"parsing it took more than {self._seconds:g} s; raise parse_seconds to give it longer, or leave it "
                "out with exclude"
            )
        if status >= 0:
            return f"its parser ended with status {status}"
        name = signal.Signals(-status).name
        hint = ", as a system does that runs out of memory" if status == -signal.SIGKILL else ""
        return f"its parser crashed ({name}{hint})"


class _Process:
    """One process, which answers one request after the other."""

    def __init__(self, function: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", PROGRAM, function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def ask(self, request: Request) -> Any:
        """The reply, or None where the process ended without one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int:
        """Its status, once it has ended; it has lost its input by then, so it will."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _parsed(fields: dict[str, Any]) -> Parsed:
    return Parsed(**{**fields, "pages": tuple(fields["pages"])})
