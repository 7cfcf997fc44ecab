"""A parser that does what its file says: what the processes of the tests call in place of the real one."""

from __future__ import annotations

import ctypes
import os

from citekite.errors import DocumentError
from citekite.ingest.base import LoadOptions, Parsed, Warn


def parse(kind: str, name: str, data: bytes, options: LoadOptions, warn: Warn) -> Parsed:
    """Hang, crash, end, fail, print or return, by the words of the file."""
    words = data.decode()
    if "hang" in words:
        while True:
            pass
    if "crash" in words:
        ctypes.string_at(0)
    if "end" in words:
        os._exit(3)
    if "fail" in words:
        raise DocumentError("it is damaged")
    if "bug" in words:
        raise KeyError("nobody expects this")
    if "print" in words:
        print("a library prints this", flush=True)
    warn(f"process {os.getpid()}")
    return Parsed(f"{kind} {name}: {words}", "Title", {"author": "A. Bird"}, 3, (0, 5))
