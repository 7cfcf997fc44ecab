"""What survives a power cut: files that were written are on the disk itself before anything says that they are.

Milvus Lite writes its manifest through to the disk, but not the segments that it names, so that a power cut within
half a minute could leave a manifest that names empty files, and no collection of the database would open.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

_guard = threading.Lock()


def sync(path: Path) -> None:
    """Let a file's content, or the names in a folder, be on the disk; one that has gone meanwhile needs nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """The same for all files and folders below one, and for its own name; quick where little is not yet on the disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))
    sync(folder.parent)


def sync_segments() -> None:
    """Let Milvus Lite write each segment through to the disk before its manifest names it; once for the process."""
    from milvus_lite.engine import compaction, flush

    with _guard:
        for module, name in ((flush, "write_data_file"), (flush, "write_delta_file"), (compaction, "write_data_file")):
            write = getattr(module, name)
            if not hasattr(write, "__wrapped__"):
                setattr(module, name, _synced(write))


def _synced(write: Callable[..., str]) -> Callable[..., str]:
    """A function that writes a file of a partition, with the file and its folder on the disk when it returns."""

    @wraps(write)
    def write_through(table: Any, partition: str, *arguments: Any, **named: Any) -> str:
        written = write(table, partition, *arguments, **named)
        file = Path(partition, written)
        sync(file)
        sync(file.parent)
        sync(Path(partition))
        return written

    return write_through
