"""Zip archives: members by name, none of which escapes, within limits on unpacked size and on ratio."""

from __future__ import annotations

import functools
import io
import lzma
import posixpath
import re
import stat
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO

from citekite.errors import DocumentError
from citekite.ingest.base import MEGABYTE, LoadOptions, SourceFile, megabytes
from citekite.reports import Failure

# What unpacks to less than this harms nobody, however well it was packed.
_RATIO_FLOOR = MEGABYTE
_PIECE = 1 << 16
# Opening an archive makes an object of a kilobyte for each member, before anything can be looked at.
MOST_MEMBERS = 100_000
_LEAST_MEMBER = 30 + 46 + 2  # bytes: two headers, and the name twice
_ENTRY = b"PK\x01\x02"
# What zipfile raises on damaged archives; NotImplementedError is a compression method that it does not have.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, OSError, ValueError, RuntimeError),
)


class Archive:
    """A zip archive whose members are read on demand, and counted while they are inflated.

    `content` is a path or a seekable binary file; `source` names the archive in messages and in front of its members.
    The archive is open from the first of its members that is read to the last: a folder may hold more archives than
    a process may have open files. A file given as `content` is closed with the last `SourceFile` that came of it.
    """

    def __init__(self, content: str | IO[bytes], source: str, options: LoadOptions) -> None:
        if not isinstance(content, str):
            weakref.finalize(self, content.close)
        self._content = content
        self._source = source
        self._options = options
        self._open: zipfile.ZipFile | None = None
        self._unread: set[int] = set()
        self._inflated: dict[int, int] = {}
        self._total = 0

    def __reduce__(self) -> tuple[type[Archive], tuple[str, str, LoadOptions]]:
        """In another process the file is opened anew; what was fetched into a temporary one stays in its own."""
        if not isinstance(self._content, str):
            raise TypeError(f"{self._source} is a temporary file of this process: read its members here")
        return Archive, (self._content, self._source, self._options)

    def find_files(self, chosen: Callable[[str], bool]) -> Iterator[SourceFile | Failure]:
        """The members whose path is `chosen`, by path; a member that cannot be taken is a `Failure`.

        Raises `DocumentError` when it is no zip, or when those members together would unpack beyond a limit: then none
        is read.
        """
        members: dict[str, zipfile.ZipInfo] = {}
        failures: list[Failure] = []
        with self._opened() as archive:
            for member in archive.infolist():
                path = member.orig_filename
                if path.endswith("/") or _hidden(path):  # is_dir() fails for a member without a name
                    continue
                source = f"{self._source}!/{path.encode('utf-8', 'backslashreplace').decode()}"
                if reason := _escape(path) or (_refusal(member) if chosen(path) else None):
                    failures.append(Failure(source, reason))
                elif chosen(path):
                    if path in members:
                        failures.append(Failure(source, "the archive holds it more than once; the last one was taken"))
                    members[path] = member
            check_unpacked_size(archive, list(members.values()), self._source, self._options)
        self._unread = {member.header_offset for member in members.values()}
        yield from failures
        for path, member in sorted(members.items()):
            yield SourceFile(f"{self._source}!/{path}", posixpath.basename(path), functools.partial(self.read, member))

    def read(self, member: zipfile.ZipInfo) -> bytes:
        """The bytes of a member; raises `DocumentError`: too large, empty, encrypted, damaged."""
        pieces: list[bytes] = []
        size = 0
        self._open = self._open or self._opened()
        try:
            with self._open.open(member) as file:
                while piece := file.read(_PIECE):
                    size += len(piece)
                    self._count(member, size)
                    pieces.append(piece)
        except DAMAGE as error:
            raise DocumentError(f"it cannot be unpacked: {error}") from error
        finally:
            self._unread.discard(member.header_offset)
            if not self._unread:
                self._open.close()
                self._open = None
        if not size:
            raise DocumentError("it is empty")
        return b"".join(pieces)

    def _opened(self) -> zipfile.ZipFile:
        try:
            if _most_members(self._content) > MOST_MEMBERS:
                raise DocumentError(
                    f"{self._source} has more than {MOST_MEMBERS:,} members: unpack it and sync the folder"
                )
            return zipfile.ZipFile(self._content)
        except DAMAGE as error:
            raise DocumentError(f"{self._source} is not a zip archive that can be read: {error}") from error

    def _count(self, member: zipfile.ZipInfo, size: int) -> None:
        """Hold the limits against what really came out, whatever the archive's headers declare."""
        options = self._options
        if size > options.max_file_bytes:
            raise DocumentError(too_large(size, options.max_file_bytes))
        if size > _RATIO_FLOOR and size > options.max_archive_ratio * max(member.compress_size, 1):
            raise DocumentError(f"it unpacks to more than {options.max_archive_ratio} times its size, as a bomb does")
        # By member, because a member may be read twice.
        self._total += max(0, size - self._inflated.get(member.header_offset, 0))
        self._inflated[member.header_offset] = max(size, self._inflated.get(member.header_offset, 0))
        if self._total > options.max_archive_bytes:
            raise DocumentError(_too_much(self._source, options))


def check_unpacked_size(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], source: str, options: LoadOptions
) -> None:
    """Raise `DocumentError` when the members declare more than the limits on unpacked size or on ratio.

    The packed size is at most that of the file: in some bombs members overlap, and each declares the same bytes.
    """
    unpacked = sum(member.file_size for member in members)
    if unpacked > options.max_archive_bytes:
        raise DocumentError(_too_much(source, options))
    packed = min(sum(member.compress_size for member in members), archive.start_dir)
    if unpacked > _RATIO_FLOOR and unpacked > options.max_archive_ratio * max(packed, 1):
        raise DocumentError(
            f"{source} unpacks to {megabytes(unpacked)}, more than {options.max_archive_ratio} times its packed size, "
            "as a zip bomb does; unpack it yourself and sync the folder if it is sound"
        )


def _most_members(content: str | IO[bytes]) -> int:
    """At most how many members an archive has, whatever its headers declare: each has an entry with this signature."""
    with Path(content).open("rb") if isinstance(content, str) else nullcontext(content) as file:
        if file.seek(0, io.SEEK_END) < MOST_MEMBERS * _LEAST_MEMBER:
            return 0
        file.seek(0)
        count, rest = 0, b""
        while piece := file.read(1 << 20):
            count += (rest + piece).count(_ENTRY)
            rest = piece[-len(_ENTRY) + 1 :]
        return count


def too_large(size: int, limit: int) -> str:
    """The reason for refusing a file over the size limit."""
    return f"it has {megabytes(size)} or more, over the limit of {megabytes(limit)}; raise max_file_mb to take it in"


def _too_much(source: str, options: LoadOptions) -> str:
    limit = megabytes(options.max_archive_bytes)
    return f"{source} unpacks to more than the limit of {limit}; raise max_archive_mb to take it in"


def _hidden(path: str) -> bool:
    """Hidden as in a folder; `..` is no hidden name but an escape, to be reported."""
    parts = [part for part in re.split(r"[/\\]", path) if part not in ("", ".", "..")]
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _escape(path: str) -> str | None:
    """Why a member's name is not taken: unpacked under it, the member could land outside."""
    if "\0" in path or "\\" in path or re.match(r"[A-Za-z]:", path) or path.startswith("/"):
        return f"its name {path!r} is not a relative path with forward slashes; it was not unpacked"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return f"its name {path!r} leads outside the archive or is not in plain form; it was not unpacked"
    return None


def _refusal(member: zipfile.ZipInfo) -> str | None:
    """Why a member is not taken: a link, encryption, an archive in the archive."""
    if stat.S_ISLNK(member.external_attr >> 16):
        return "it is a symbolic link; links in archives are not followed"
    if member.flag_bits & 0x1:
        return "it is encrypted; unpack the archive with its password and sync the folder"
    if member.orig_filename.lower().endswith(".zip"):
        return "it is an archive inside an archive; unpack the outer one and sync the folder"
    return None
