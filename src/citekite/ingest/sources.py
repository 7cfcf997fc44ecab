"""From a source (a file, a folder, a zip archive, a URL, an upload) to the files in it.

A folder is walked in the order of names. Hidden entries and what `.gitignore` files exclude are passed over, links to
files are followed, links to folders are not (so that no walk goes round or leaves the folder unawares).
"""

from __future__ import annotations

import difflib
import functools
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from citekite.errors import DocumentError, SourceError
from citekite.ingest.archive import Archive, too_large
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.fetch import fetch, parse_url
from citekite.ingest.formats import format_of, is_without_text, suffix_of
from citekite.ingest.uploads import parse_upload, upload_path
from citekite.reports import Failure

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["LoadOptions", "SourceFile", "find_files", "is_under", "normalise_source"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_EVERYTHING = ("**",)


def normalise_source(source: str) -> str:
    """The canonical form of a source: a URL as given without its fragment, else the absolute path, links unresolved.

    Raises `SourceError` for a URL that is not http(s) or has a password in it, and for an upload without a plain name.

    >>> normalise_source("https://example.com/a?b#c"), normalise_source("/docs/../notes/")
    ('https://example.com/a?b', '/notes')
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


def _find_local(root: str, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    path = Path(root)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise SourceError(f"no file or folder {root!r}{_similar(path)}") from None
    except OSError as error:
        raise SourceError(f"{root!r} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        yield from _Walk(path, options).files()
    elif not stat.S_ISREG(mode):
        raise SourceError(f"{root!r} is neither a file nor a folder")
    else:
        yield from _find_file(path, root, options)


def _find_file(path: Path, source: str, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    """A file that is a source itself, or the members of the archive that is one."""
    if suffix_of(path.name) != ".zip":
        yield _local_file(path, source, options)
        return
    try:
        yield from Archive(str(path), source, options).find_files(_chooser(options))
    except DocumentError as error:
        raise SourceError(str(error)) from error


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
            yield from Archive(fetched.content, url, options).find_files(_chooser(options))
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
_SCHEMES = {"http": _WEB, "https": _WEB, "upload": _Scheme(_normalise_upload, _find_uploaded)}


def _scheme_of(source: str) -> _Scheme:
    """The kind of a source; an unknown scheme is left to the web's parser, which refuses it in words."""
    found = _SCHEME.match(source)
    return _SCHEMES.get(found[1].lower(), _WEB) if found else _PATH


def _not_empty(data: bytes) -> bytes:
    if not data:
        raise DocumentError("it is empty")
    return data


def _local_file(path: Path, source: str, options: LoadOptions) -> SourceFile:
    return SourceFile(source, path.name, functools.partial(_read, str(path), options.max_file_bytes))


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
class _Ignore:
    """The rules of one `.gitignore` file, and the folder in which it lies."""

    folder: Path
    rules: GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be entered, and the rules that hold in it."""

    path: Path
    ignores: tuple[_Ignore, ...]


class _Walk:
    """One walk over a folder; without recursion, because folders nest deeper than Python calls may."""

    def __init__(self, root: Path, options: LoadOptions) -> None:
        self._root = root
        self._options = options
        self._chosen = _chooser(options)

    def files(self) -> Iterator[SourceFile | Failure]:
        levels = [self._entries(_Folder(self._root, ()))]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
            elif isinstance(entry, _Folder):
                levels.append(self._entries(entry))
            else:
                yield entry

    def _entries(self, entered: _Folder) -> Iterator[SourceFile | Failure | _Folder]:
        folder, ignores = entered.path, entered.ignores
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            ignores += tuple(_read_ignore(folder / entry.name) for entry in entries if entry.name == ".gitignore")
        except OSError as error:
            yield Failure(str(error.filename or folder), f"it cannot be read: {error.strerror}")
            return
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not _ignored(path, ignores, folder=True) and not self._excluded(path):
                    yield _Folder(path, ignores)
            elif not _ignored(path, ignores, folder=False):
                yield from self._file(path)

    def _excluded(self, folder: Path) -> bool:
        """Whether all of a folder is excluded, so that it need not be entered."""
        return self._exclude_folder(folder.relative_to(self._root).as_posix() + "/")

    @functools.cached_property
    def _exclude_folder(self) -> Callable[[str], bool]:
        return _globs(self._options.exclude).match_file

    def _file(self, path: Path) -> Iterator[SourceFile | Failure]:
        if is_without_text(path.name) or not self._chosen(path.relative_to(self._root).as_posix()):
            return
        printable = os.fsencode(path).decode("utf-8", "backslashreplace")
        if printable != str(path):
            yield Failure(printable, "its name is not UTF-8; rename it")
            return
        try:
            mode = path.stat().st_mode
        except OSError as error:
            yield Failure(printable, f"it cannot be read: {error.strerror}")
            return
        if stat.S_ISDIR(mode):  # a link to a folder
            return
        if not stat.S_ISREG(mode):
            yield Failure(printable, "it is not a regular file")
        elif suffix_of(path.name) == ".zip":
            yield from self._archive(path)
        else:
            yield _local_file(path, path.as_posix(), self._options)

    def _archive(self, path: Path) -> Iterator[SourceFile | Failure]:
        try:
            yield from Archive(str(path), path.as_posix(), self._options).find_files(self._chosen)
        except DocumentError as error:
            yield Failure(path.as_posix(), str(error))


def _chooser(options: LoadOptions) -> Callable[[str], bool]:
    """Whether a path relative to the root passes `include` and `exclude`, and may hold text."""
    include, exclude = _globs(options.include or _EVERYTHING), _globs(options.exclude)
    return lambda path: not is_without_text(path) and include.match_file(path) and not exclude.match_file(path)


def _globs(patterns: Iterable[str]) -> GitIgnoreSpec:
    """Globs as in `.gitignore`: `*.md` at any depth, `docs/*.md` from the root, `**` for any number of folders."""
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise SourceError(f"include and exclude take globs such as '*.md' or 'docs/**': {error}") from None


def _read_ignore(path: Path) -> _Ignore:
    from pathspec import GitIgnoreSpec
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    patterns = []
    for line in path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n"):
        try:
            patterns.append(GitIgnoreSpecPattern(line.removesuffix("\r")))
        except ValueError:
            continue  # as git does with a line that is no pattern
    return _Ignore(path.parent, GitIgnoreSpec(patterns))


def _ignored(path: Path, ignores: tuple[_Ignore, ...], *, folder: bool) -> bool:
    """As git decides: the deepest `.gitignore` that has a matching rule, and the last such rule in it."""
    for ignore in reversed(ignores):
        relative = path.relative_to(ignore.folder).as_posix() + ("/" if folder else "")
        if (include := ignore.rules.check_file(relative).include) is not None:
            return include
    return False


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
