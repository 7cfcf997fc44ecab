"""A backup as one file: a gzipped tar archive that can be sent while it is made, with the checksum of every file.

It begins with `backup.json`, which says what it is, and ends with `checksums.json`, the SHA-256 of all files between:
an archive without it was cut short.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from citekite import __version__
from citekite.errors import ArchiveError
from citekite.transfer.snapshot import DATABASE, SERVER

FORMAT = 1
FACTS, CHECKSUMS = "backup.json", "checksums.json"

_PIECE = 1 << 20
# Segments are compressed as they are: the fastest level gains as much as any.
_LEVEL = 1
_GZIP = 31  # the window size that means a gzip header to zlib
_BLOCK = 512


def pack(folder: Path) -> Iterator[bytes]:
    """The archive of all files in a folder, piece by piece."""
    compress = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for piece in _tar(folder):
        if compressed := compress.compress(piece):
            yield compressed
    yield compress.flush()


def read(path: Path, folder: Path | None, report: Callable[[int], None]) -> Mapping[str, Any]:
    """What `backup.json` says, after every file was read, held against its checksum and, with a folder, put there.

    `report` is told how many bytes were read. Raises `ArchiveError` where the archive is damaged, cut short, of a later
    version, no backup, or has a file that would leave the folder.
    """
    try:
        with gzip.open(path) as file:
            with tarfile.open(fileobj=file, mode="r|") as tar:
                facts = _read(path, tar, folder, report)
            while file.read(_PIECE):  # to the end, where gzip has a checksum of its own
                pass
    except FileNotFoundError:
        raise ArchiveError(f"there is no file {str(path)!r}: `citekite backup` writes one") from None
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, FileExistsError, NotADirectoryError) as error:
        raise ArchiveError(f"{path} is damaged, or no backup: {error}; take another copy of it") from None
    return facts


def _tar(folder: Path) -> Iterator[bytes]:
    now = datetime.now(UTC)
    facts = {"format": FORMAT, "created": now.isoformat(timespec="seconds"), "citekite": __version__}
    yield from _member(FACTS, facts, now)
    sums = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found, sum = path.stat(), hashlib.sha256()
        size = found.st_size
        yield _header(name, size, found.st_mtime)
        with path.open("rb") as file:
            for start in range(0, size, _PIECE):
                piece = file.read(min(_PIECE, size - start))
                sum.update(piece)
                yield piece
        yield bytes(-size % _BLOCK)
        sums[name] = sum.hexdigest()
    yield from _member(CHECKSUMS, sums, now)
    yield bytes(2 * _BLOCK)


def _member(name: str, values: Mapping[str, Any], now: datetime) -> Iterator[bytes]:
    content = json.dumps(values).encode()
    yield _header(name, len(content), now.timestamp()) + content + bytes(-len(content) % _BLOCK)


def _header(name: str, size: int, changed: float) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, int(changed)
    return info.tobuf(tarfile.PAX_FORMAT)


def _read(path: Path, tar: tarfile.TarFile, folder: Path | None, report: Callable[[int], None]) -> Mapping[str, Any]:
    facts: Mapping[str, Any] | None = None
    expected: Mapping[str, str] | None = None
    sums: dict[str, str] = {}
    for member in tar:
        content = tar.extractfile(member) if member.isreg() else None
        if content is None or expected is not None:
            raise ArchiveError(f"{path} has {member.name!r} in it, which no backup has: nothing of it was used")
        if facts is None:
            facts = _facts(path, member.name, content)
        elif member.name == CHECKSUMS:
            expected = _object(path, content)
        else:
            _check_name(path, member.name, sums)
            sums[member.name] = _take(content, folder and folder / member.name, report)
    if expected is None:
        raise ArchiveError(f"{path} was cut short: take another copy of it")
    if wrong := sorted(name for name in {*sums, *expected} if sums.get(name) != expected.get(name)):
        raise ArchiveError(f"{path} is damaged: {wrong[0]!r} is not what was written; take another copy of it")
    return {**(facts or {}), "files": len(sums)}


def _facts(path: Path, name: str, content: IO[bytes]) -> Mapping[str, Any]:
    facts = _object(path, content) if name == FACTS else {}
    version = facts.get("format", 0)
    if not isinstance(version, int) or version < 1:
        raise ArchiveError(f"{path} is no backup: `citekite backup` writes one")
    if version > FORMAT:
        raise ArchiveError(
            f"{path} is a backup of version {version}, and this citekite reads up to {FORMAT}: upgrade citekite"
        )
    return facts


def _object(path: Path, content: IO[bytes]) -> dict[str, Any]:
    try:
        found = json.loads(content.read())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ArchiveError(f"{path} is damaged: what it says about itself cannot be read; take another copy of it")
    return found


def _check_name(path: Path, name: str, before: Mapping[str, str]) -> None:
    """Raise for a name that leads out of the two folders of a backup, or is there already."""
    plain = PurePosixPath(name)
    inside = len(plain.parts) > 1 and plain.parts[0] in (DATABASE, SERVER) and ".." not in plain.parts
    if not inside or plain.as_posix() != name or name in before or "\0" in name:
        raise ArchiveError(f"{path} has {name!r} in it, which no backup has: nothing of it was used")


def _take(content: IO[bytes], target: Path | None, report: Callable[[int], None]) -> str:
    """Read a file to its end, into the target where there is one; returns its SHA-256."""
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    # Keys and documents: for the owner alone.
    descriptor = os.open(os.devnull if target is None else target, os.O_WRONLY | os.O_CREAT, 0o600)
    sum = hashlib.sha256()
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(_PIECE):
            sum.update(piece)
            file.write(piece)
            report(len(piece))
    return sum.hexdigest()
