"""Files that clients send: received within limits, checked, kept under plain names, and taken back where they fail."""

from __future__ import annotations

import errno
import json
import os
import posixpath
import secrets
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from citekite.errors import DiskFull, DocumentError, SettingsError, SourceError, TooLarge
from citekite.ingest.archive import Archive, too_large
from citekite.ingest.base import LoadOptions
from citekite.ingest.formats import is_without_text, suffix_of
from citekite.ingest.sniff import checked_name
from citekite.ingest.uploads import SHARED, plain_name, space_of, upload_source
from citekite.store.durable import sync

MOST_FILES = 1000
_PIECE = 1 << 20
_STAGED = ".staged"
_PREVIOUS = ".previous-"
# The groups of a space, which its name does not tell: a sync of its files after a crash is for these again.
_ACCESS = ".access.json"


async def receive(request: Request) -> FormData:
    """The form of a request, its files on disk and not in memory; raises `SettingsError` for what is no form.

    How large it may be is seen to before it gets here. The caller closes the form.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise SettingsError("files are sent as multipart/form-data, each as a part named 'files'")
    try:
        with _room_in(Path(tempfile.gettempdir())):
            return await MultiPartParser(request.headers, request.stream(), max_files=MOST_FILES).parse()
    except MultiPartException as error:
        raise SettingsError(f"the form cannot be read: {error.message}") from None
    except ClientDisconnect:
        raise SettingsError("the upload broke off") from None


@dataclass(frozen=True, slots=True)
class Staged:
    """Files that were checked and wait beside the uploads until a job puts them in place.

    `uploads` is the folder of the collection's uploads, `folder` that of these files alone; `access` names the groups
    that may see the documents.
    """

    uploads: Path
    access: tuple[str, ...]
    folder: Path
    names: tuple[str, ...]

    @property
    def space(self) -> str:
        """The folder in `uploads` and the part of the source that stand for the access list."""
        return space_of(self.access)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that the files are to be."""
        return tuple(upload_source(self.space, name) for name in self.names)

    def place(self) -> None:
        """Put the files where their sources say; what each one replaces is kept aside."""
        space = self.uploads / self.space
        with _room_in(self.uploads):
            space.mkdir(parents=True, exist_ok=True)
            (space / _ACCESS).write_text(json.dumps(self.access), encoding="utf-8")
            for name in self.names:
                previous = space / f"{_PREVIOUS}{name}"
                previous.unlink(missing_ok=True)
                if (space / name).exists():
                    _copy(space / name, previous)
                (self.folder / name).replace(space / name)
            for written in (space / _ACCESS, space, self.uploads, self.uploads.parent):
                sync(written)
        self.discard()

    def settle(self, failed: Collection[str], is_stored: Callable[[str], bool]) -> None:
        """Keep what the collection now holds: a file that failed gives way to the one it replaced, or goes.

        `failed` are the sources that were not taken in, `is_stored` tells whether anything of a source is stored.
        """
        for name, source in zip(self.names, self.sources, strict=True):
            file = self.uploads / self.space / name
            previous = file.with_name(f"{_PREVIOUS}{name}")
            if source in failed and previous.exists():
                previous.replace(file)
            elif source in failed and not is_stored(source):
                file.unlink(missing_ok=True)
            previous.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete files that are not in place."""
        shutil.rmtree(self.folder, ignore_errors=True)


def stage(files: Iterable[UploadFile], uploads: Path, access: tuple[str, ...], options: LoadOptions) -> Staged:
    """Check files and write them beside the uploads, safe from a crash; all of them or, after an error, none.

    Raises `TooLarge` for a file over the limit, `SourceError` with the reason for each one that is not taken.
    """
    folder = uploads.parent / _STAGED / secrets.token_hex(8)
    names: list[str] = []
    refused: list[str] = []
    try:
        with _room_in(uploads):
            folder.mkdir(parents=True)
            for file in files:
                try:
                    name = _free(checked_name(plain_name(file.filename or ""), file.file), names)
                    _check_size(name, file, options)
                    _write(file.file, folder / name)
                except DocumentError as error:
                    refused.append(str(error))
                else:
                    names.append(name)
        if refused:
            raise SourceError(f"nothing was taken: {'; '.join(refused)}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Staged(uploads, access, folder, tuple(names))


@contextmanager
def _room_in(folder: Path) -> Iterator[None]:
    """Say of a disk that is full what is to be done."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"no space is left for uploads in {folder}: free some, then upload again") from error


def _check_size(name: str, file: UploadFile, options: LoadOptions) -> None:
    """Hold a file against the limits of a sync: those on size, and those on what an archive unpacks to."""
    if not file.size:
        raise DocumentError(f"{name!r} is empty")
    if suffix_of(name) == ".zip":
        # The descriptor is its own: the archive closes the file that it was given.
        with open(os.dup(file.file.fileno()), "rb") as copy:  # noqa: PTH123 - a descriptor has no path
            list(Archive(copy, name, options).find_files(lambda path: not is_without_text(path)))
        file.file.seek(0)
    elif file.size > options.max_file_bytes:
        raise TooLarge(f"{name!r}: {too_large(file.size, options.max_file_bytes)}")


def _free(name: str, taken: list[str]) -> str:
    """The name, numbered where the same request has it already; names that differ in case alone count as one."""
    stem, suffix = posixpath.splitext(name)
    used = {each.casefold() for each in taken}
    number = 2
    while name.casefold() in used:
        name, number = f"{stem}-{number}{suffix}", number + 1
    return name


def _write(file: IO[bytes], path: Path) -> None:
    with path.open("xb") as target:
        shutil.copyfileobj(file, target, _PIECE)
        target.flush()
        os.fsync(target.fileno())


def _copy(file: Path, copy: Path) -> None:
    """A second name for a file, or where the file system has no such thing a second file."""
    try:
        os.link(file, copy)
    except OSError:
        shutil.copyfile(file, copy)


def clear(home: Path) -> None:
    """Delete what a server that was killed left half done: files that no job put in place, and those put aside."""
    shutil.rmtree(home / "uploads" / _STAGED, ignore_errors=True)
    for previous in (home / "uploads").glob(f"*/*/{_PREVIOUS}*"):
        previous.unlink(missing_ok=True)


def access_of(space: str, uploads: Path) -> tuple[str, ...]:
    """The access list of the documents in a space; raises `SourceError` for a space that is not there."""
    if space == SHARED:
        return ()
    try:
        return tuple(json.loads((uploads / space / _ACCESS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise no_uploads_in(space) from None


def no_uploads_in(space: str) -> SourceError:
    """The error for a space that is not there, or not there for the caller."""
    return SourceError(f"there are no uploads in {upload_source(space, '')!r}")
