"""From a source (a file, a folder, a zip archive, a URL, an object store, an upload) to the files in it.

In a folder of this machine, links to files are followed and links to folders are not, so that no walk goes round or
leaves the folder unawares.
"""

from __future__ import annotations

import difflib
import functools
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from citekite.errors import DocumentError, SourceError
from citekite.ingest.archive import Archive, too_large
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.fetch import fetch, parse_url
from citekite.ingest.formats import format_of, suffix_of
from citekite.ingest.object_store import find_objects, normalise_object_url
from citekite.ingest.uploads import parse_upload, upload_path
from citekite.ingest.walk import Entry, chooser, walk
from citekite.reports import Failure

__all__ = ["LoadOptions", "SourceFile", "find_files", "is_under", "normalise_source"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def normalise_source(source: str) -> str:
    """The canonical form of a source: a web address without its fragment, else the absolute path, links unresolved.

    A `file://` URL is the path that it stands for. Raises `SourceError` for a URL that has a password in it or names no
    place, and for an upload without a plain name.

    >>> normalise_source("https://example.com/a?b#c"), normalise_source("/docs/../notes/")
    ('https://example.com/a?b', '/notes')
    >>> normalise_source("file:///my%20docs"), normalise_source("s3://bucket/docs/")
    ('/my docs', 's3://bucket/docs')
    """
    return _scheme_of(source).normalise(source)


def is_under(source: str, root: str) -> bool:
    """Whether a source is the root itself, or a file, archive member or row below it.

    >>> is_under("/docs/a.md", "/docs"), is_under("/docs.zip!/a.md", "/docs.zip"), is_under("/docs2", "/docs")
    (True, True, False)
    """
    return source == root or source.startswith((f"{root.rstrip('/')}/", f"{root}!/", f"{root}#"))


def find_files(source: str, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    """The files of a source, in a stable order; what cannot be taken is a `Failure`, and the rest goes on.

    A file that is named itself is taken whatever its name; `include`, `exclude`, `.gitignore` and hidden names count
    inside folders and archives. Raises `SourceError`, at the first step, when the source itself cannot be read.
    """
    scheme = _scheme_of(source)
    yield from scheme.find(scheme.normalise(source), options)


def _normalise_path(source: str) -> str:
    if not source or "\0" in source:
        raise SourceError(f"{source!r} is not a path or URL")
    return Path(os.path.abspath(source)).as_posix()  # noqa: PTH100 - Path.resolve() would follow links


def _normalise_file_url(url: str) -> str:
    path = unquote(url.partition("://")[2])
    if not path.startswith("/"):
        raise SourceError(f"{url!r} names no absolute path: with three slashes, file:///folder/name, it does")
    return _normalise_path(path)


def _find_local(root: str, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    path = Path(root)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise SourceError(f"no file or folder {root!r}{_similar(path)}") from None
    except OSError as error:
        raise SourceError(f"{root!r} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        yield from walk(_LocalTree(path, options), options)
    elif not stat.S_ISREG(mode):
        raise SourceError(f"{root!r} is neither a file nor a folder")
    else:
        yield from _find_file(path, root, options)


def _find_file(path: Path, source: str, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    """A file that is a source itself, or the members of the archive that is one."""
    try:
        yield from _files_of(path, source, options)
    except DocumentError as error:
        raise SourceError(str(error)) from error


def _files_of(path: Path, source: str, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    if suffix_of(path.name) == ".zip":
        yield from Archive(str(path), source, options).find_files(chooser(options))
    else:
        yield SourceFile(source, path.name, functools.partial(_read, str(path), options.max_file_bytes))


def _normalise_upload(source: str) -> str:
    parse_upload(source)
    return source


def _find_uploaded(source: str, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    path = upload_path(source, options.uploads)
    if not path.is_dir():
        yield from _find_file(path, source, options)
        return
    for name in sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(".")):
        yield from _find_file(upload_path(f"{source}/{name}", options.uploads), f"{source}/{name}", options)


def _normalise_url(source: str) -> str:
    parse_url(source)
    return source.partition("#")[0]


def _find_fetched(url: str, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    fetched = fetch(url, options)
    if format_of(fetched.name, fetched.content_type) == "zip":
        try:
            yield from Archive(fetched.content, url, options).find_files(chooser(options))
        except DocumentError as error:
            raise SourceError(str(error)) from error
        return
    with fetched.content:
        data = fetched.content.read()
    yield SourceFile(url, fetched.name, functools.partial(_not_empty, data), fetched.content_type)


@dataclass(frozen=True, slots=True)
class _Scheme:
    """One kind of source: its canonical form, and the files in it."""

    normalise: Callable[[str], str]
    find: Callable[[str, LoadOptions], Iterator[SourceFile | Failure]]


_PATH = _Scheme(_normalise_path, _find_local)
_WEB = _Scheme(_normalise_url, _find_fetched)
_FILE = _Scheme(_normalise_file_url, _find_local)
_OBJECTS = _Scheme(normalise_object_url, find_objects)
_SCHEMES = {
    "file": _FILE,
    "local": _FILE,
    "http": _WEB,
    "https": _WEB,
    "upload": _Scheme(_normalise_upload, _find_uploaded),
}


def _scheme_of(source: str) -> _Scheme:
    """The kind of a source; a scheme that is none of these is one of fsspec, or refused in words."""
    found = _SCHEME.match(source)
    return _SCHEMES.get(found[1].lower(), _OBJECTS) if found else _PATH


def _not_empty(data: bytes) -> bytes:
    if not data:
        raise DocumentError("it is empty")
    return data


def _read(path: str, limit: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            # Before reading, for the message; the read itself is bounded because a file may grow meanwhile.
            size = os.fstat(file.fileno()).st_size
            data = file.read(limit + 1) if size <= limit else b""
    except OSError as error:
        raise DocumentError(f"it cannot be read: {error.strerror}") from error
    if max(size, len(data)) > limit:
        raise DocumentError(too_large(max(size, len(data)), limit))
    return _not_empty(data)


@dataclass(frozen=True, slots=True)
class _LocalTree:
    """A folder of this machine, to be walked."""

    root: Path
    options: LoadOptions

    def entries(self, folder: str) -> Iterator[Entry]:
        try:
            with os.scandir(self.root / folder) as scan:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in scan]
        except OSError as error:
            raise DocumentError(f"it cannot be read: {error.strerror}") from error
        for name, is_folder in found:
            yield Entry(name, is_folder, functools.partial(self._files, self.root / folder / name))

    def read_text(self, path: str) -> str:
        try:
            return (self.root / path).read_text(encoding="utf-8-sig", errors="surrogateescape")
        except OSError as error:
            raise DocumentError(f"it cannot be read: {error.strerror}") from error

    def source_of(self, path: str) -> str:
        return _printable(self.root / path)

    def _files(self, path: Path) -> Iterator[SourceFile | Failure]:
        if _printable(path) != str(path):
            raise DocumentError("its name is not UTF-8; rename it")
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise DocumentError(f"it cannot be read: {error.strerror}") from error
        if stat.S_ISDIR(mode):  # a link to a folder
            return
        if not stat.S_ISREG(mode):
            raise DocumentError("it is not a regular file")
        yield from _files_of(path, path.as_posix(), self.options)


def _printable(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _similar(path: Path) -> str:
    """A hint at what the user may have meant: an entry with a similar name, where the path stops being right."""
    while not path.parent.is_dir() and path.parent != path:
        path = path.parent
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {posixpath.join(path.parent.as_posix(), close[0])!r}?" if close else ""
