"""The files of an embedded database, and of its server's folder, as they are between two changes.

What Milvus Lite never writes again, its segments, is linked and not copied, so that changes wait for milliseconds.
All else, which it appends to or replaces, is copied; what it can make anew, the indexes of its segments and our search
index beside it, is left out. It merges segments in the background, so a look at which files there are is only good if
the next look shows the same.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from citekite.errors import SettingsError, StoreError, UnknownCollection
from citekite.home import home_of
from citekite.settings import Settings, without_password
from citekite.store.embedded import check, database_path, is_embedded, kept_away
from citekite.store.gate import gate_of
from citekite.transfer.placing import workspace

# The parts of a snapshot: the database, and of the server's folder what a server elsewhere goes on with.
DATABASE, SERVER = "database", "server"
LISTS = ("keys.sqlite", "usage.sqlite")
SERVER_PARTS = (*LISTS, "uploads", "reports")

# Merging the segments of 100,000 chunks takes a few seconds.
_SETTLE_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_PASSED_OVER = ("LOCK", "indexes", ".database-staging", ".staged")

Look = dict[Path, tuple[int, int, int]]


@contextmanager
def snapshot(settings: Settings, *, seconds: float | None = None) -> Iterator[Path]:
    """A folder with the parts, `database` and `server`; it is deleted at the end, the files in it must not be changed.

    Waits until nobody writes to the database, `seconds` at most: then `TimeoutError` is raised. Raises `SettingsError`
    for a server, and `DatabaseLocked` where another process has the database open.
    """
    path = _database(settings)
    with workspace(path.with_name(f"{path.name}.backup")) as folder:
        with gate_of(path).looking(seconds), kept_away(path):
            _keep(path, folder / DATABASE, lambda file: file.suffix == ".parquet")
            _keep_server(home_of(settings), folder / SERVER)
        yield folder


def _database(settings: Settings) -> Path:
    if not is_embedded(settings.uri):
        raise SettingsError(
            f"a backup is of an embedded database, and {without_password(settings.uri)} is a server: `citekite export` "
            "writes a collection of it to a file; Milvus' own tool for whole servers is milvus-backup"
        )
    path = database_path(settings.uri)
    if not path.exists():
        raise UnknownCollection(f"there is no database at {settings.uri} yet: `citekite sync FOLDER` makes it")
    if path.is_file():
        check(path)  # which says what kind of file it is
    return path


def _keep_server(home: Path, target: Path) -> None:
    target.mkdir()
    for name in ("uploads", "reports"):
        if (home / name).is_dir():
            # A file of a client never has a dot in front, and gives way to another one and is not changed.
            _keep(home / name, target / name, lambda file: not file.name.startswith("."))
    for name in LISTS:
        if (home / name).exists():
            with closing(sqlite3.connect(home / name)) as kept, closing(sqlite3.connect(target / name)) as copy:
                kept.backup(copy)


def _keep(source: Path, target: Path, is_final: Callable[[Path], bool]) -> None:
    """Link the files that are final and copy the others, all of one moment."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    before = _look(source)
    while True:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        with suppress(FileNotFoundError):  # it was there a moment ago: the next look shows that it is gone
            for file in before:
                _keep_file(source / file, target / file, is_final(file))
        after = _look(source)
        if after == before:
            return
        if time.monotonic() > deadline:
            raise StoreError(f"{source} kept changing for {_SETTLE_SECONDS:.0f} s: run the same command again")
        time.sleep(_LOOK_SECONDS)
        before = after


def _keep_file(file: Path, target: Path, is_final: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_final:
        with suppress(OSError):  # another file system, or one without links
            os.link(file, target)
            return
    shutil.copyfile(file, target)


def _look(folder: Path) -> Look:
    """The files that count, each with what changes when it does."""
    found: Look = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _PASSED_OVER]
        for name in names:
            if name in _PASSED_OVER or name.endswith(".tmp") or name.startswith(".previous-"):
                continue
            with suppress(FileNotFoundError):
                facts = (Path(place) / name).stat()
                found[(Path(place) / name).relative_to(folder)] = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
    return found
