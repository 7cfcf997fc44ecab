"""Opening and closing the embedded database: one process may hold it, and each refusal has its own words."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from citekite.errors import DatabaseLocked, DatabaseOutdated, DatabaseReadOnly, SettingsError, StoreError
from citekite.store.address import read_address

# Milvus Lite runs one server per database in a process, shared by all clients of it; it must outlive the last one.
_holders: Counter[Path] = Counter()
_sessions: Counter[Path] = Counter()
_guard = threading.Lock()
# Opening takes a while, in which no other thread may open or close the same database.
_opening: defaultdict[Path, threading.RLock] = defaultdict(threading.RLock)

UNKNOWN = "unknown process"
# What runs when a database is abandoned may take so long to end.
_END_SECONDS = 60.0


def is_embedded(uri: str) -> bool:
    """Whether a URI names a local database rather than a server."""
    return "://" not in uri


def database_path(uri: str) -> Path:
    """The folder of an embedded database; raises `SettingsError` where Milvus Lite would not take the name.

    Symbolic links are resolved: Milvus Lite would take two names of one database for two databases.
    """
    path = Path(uri).expanduser()
    if path.suffix != ".db":
        raise SettingsError(
            f"uri {uri!r} is neither a server (http://host:19530) nor a local database: its name must end in .db"
        )
    return path.resolve()


def collections_folder(path: Path, database: str) -> Path:
    """Where Milvus Lite keeps the collections of one database, each in a folder of its name."""
    return (path if database == "default" else path / "databases" / database) / "collections"


def clear_indexes(path: Path, database: str, collection: str) -> None:
    """Delete what Milvus Lite derives from the segments of a collection; it makes it anew at the next load."""
    for folder in (collections_folder(path, database) / collection / "partitions").glob("*/indexes"):
        shutil.rmtree(folder)


def check(path: Path) -> None:
    """Raise what would keep Milvus Lite from opening the database, in words; create the folder above it."""
    if path.is_file():
        with path.open("rb") as file:
            outdated = file.read(16).startswith(b"SQLite format 3")
        if outdated:
            raise DatabaseOutdated(
                f"{path} is a database of Milvus Lite 2.x, which version 3 cannot read: "
                "sync into a new one with --uri (the documents are read again)"
            )
        raise StoreError(f"{path} is a file, not a database: choose another --uri")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseReadOnly(
            f"the folder {path.parent} cannot be made: {error.strerror}; choose another --uri"
        ) from None
    if holder := lock_holder(path):
        raise DatabaseLocked(_locked(path, holder))
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK | os.X_OK) or _read_only_mount(target):
        raise DatabaseReadOnly(
            f"{target} cannot be written, and the embedded database needs to even for reading: "
            "mend the permissions, or copy the database to a folder of your own and use --uri"
        )


def _locked(path: Path, holder: str) -> str:
    one = "An embedded database can be open in one process at a time"
    server = read_address(path)
    if server is None or holder not in (f"process {server.pid}", UNKNOWN):
        return (
            f"{path} is open in another process ({holder}). {one}: "
            "wait for it or stop it, or use a Milvus server (--uri http://host:19530)"
        )
    return (
        f"{path} is open in {server}. {one}: search, ask, chat, sync, documents, status, remove, backup and mcp go "
        f"through that server; for anything else stop it (kill {server.pid}), run the command, and start "
        "`citekite serve` again"
    )


def _read_only_mount(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def lock_holder(path: Path) -> str | None:
    """Who holds the database's lock ("process 123"), or None when it is free or held by this process."""
    lock = path / "LOCK"
    if is_held(path):
        return None
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _process_of(os.fstat(descriptor).st_ino)
    finally:
        os.close(descriptor)
    return None


@contextmanager
def kept_away(path: Path) -> Iterator[None]:
    """No other process can open the database inside, and this one cannot open or close it.

    Raises `DatabaseLocked` while another process has it open.
    """
    with opening(path):
        if is_held(path):
            yield
            return
        descriptor = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DatabaseLocked(_locked(path, _process_of(os.fstat(descriptor).st_ino))) from None
            yield
        finally:
            os.close(descriptor)


def _process_of(inode: int) -> str:
    """The process that Linux lists for a lock on this inode."""
    try:
        locks = Path("/proc/locks").read_text()
    except OSError:
        return UNKNOWN
    found = re.search(rf"FLOCK\s+\S+\s+\S+\s+(\d+)\s+\S+:{inode}\s", locks)
    return f"process {found.group(1)}" if found else UNKNOWN


def opening(path: Path) -> threading.RLock:
    """The lock of this process under which a database is opened and closed."""
    with _guard:
        return _opening[path]


@contextmanager
def frugal() -> Iterator[None]:
    """Let what Milvus Lite reads inside lie in the system's memory: pyarrow's own pool would keep a third more."""
    import pyarrow

    before, system = pyarrow.default_memory_pool(), pyarrow.system_memory_pool()
    pyarrow.set_memory_pool(system)
    try:
        yield
    finally:
        pyarrow.set_memory_pool(before)
        system.release_unused()


def is_held(path: Path) -> bool:
    """Whether this process has the database open."""
    with _guard:
        return _holders[path] > 0


def session(path: Path) -> int:
    """How often the database was abandoned in this process: what was opened in an earlier session is of no use."""
    with _guard:
        return _sessions[path]


def hold(path: Path) -> int:
    """Count one more client of this process on the database; returns the session that it belongs to."""
    with _guard:
        _holders[path] += 1
        return _sessions[path]


def release(path: Path, session: int) -> bool:
    """Count one client of a session less; after the last one, returned as True, the database is closed and free."""
    from milvus_lite.server_manager import server_manager_instance

    with _guard:
        if session != _sessions[path]:
            return False
        _holders[path] -= 1
        last = _holders[path] <= 0
        if last:
            del _holders[path]
    if last:
        server_manager_instance.release_server(str(path))
    return last


def abandon(path: Path, session: int) -> None:
    """Leave the database without closing it, so that whoever needs it next opens it anew, from its log.

    To be called after a full disk: Milvus Lite flushes when it closes, and a flush after one that failed, or after a
    write that did, would lose what its log still holds. What is at work ends first; nothing new is accepted.
    """
    from milvus_lite.server_manager import server_manager_instance

    with opening(path):
        with _guard:
            if session != _sessions[path]:  # another client was faster
                return
            _sessions[path] += 1
            _holders.pop(path, None)
        server, database, _ = server_manager_instance._servers.pop(str(path))
        server.stop(grace=_END_SECONDS).wait()
        for collection in database._collections.values():
            collection._bg_executor.shutdown()  # it merges segments, which must not go on beside a second instance
        database._release_lock()
