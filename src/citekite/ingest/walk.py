"""One walk over a folder, wherever it lies: in the order of names, without what is hidden or `.gitignore` excludes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from citekite.errors import DocumentError, SourceError
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.formats import is_without_text
from citekite.reports import Failure

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_RULES = ".gitignore"
_EVERYTHING = ("**",)


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder; `files()` gives the file, or the members of an archive, or raises `DocumentError`."""

    name: str
    is_folder: bool
    files: Callable[[], Iterator[SourceFile | Failure]]


class Tree(Protocol):
    """A folder and what lies below it; paths in it are relative, with slashes, and the folder itself is ''."""

    def entries(self, folder: str) -> Iterable[Entry]:
        """What lies in a folder, in any order; raises `DocumentError`."""
        ...

    def read_text(self, path: str) -> str:
        """The text of a small file; raises `DocumentError`."""
        ...

    def source_of(self, path: str) -> str:
        """The path as a source, for messages."""
        ...


def walk(tree: Tree, options: LoadOptions) -> Iterator[SourceFile | Failure]:
    """The files of a tree by the order of names; what cannot be taken is a `Failure`, and the rest goes on.

    Without recursion, because folders nest deeper than Python calls may.
    """
    visit = _Visit(tree, options)
    levels = [visit.entries(_Folder("", ()))]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
        elif isinstance(entry, _Folder):
            levels.append(visit.entries(entry))
        else:
            yield entry


def chooser(options: LoadOptions) -> Callable[[str], bool]:
    """Whether a path relative to the root passes `include` and `exclude`, and may hold text."""
    include, exclude = _globs(options.include or _EVERYTHING), _globs(options.exclude)
    return lambda path: not is_without_text(path) and include.match_file(path) and not exclude.match_file(path)


@dataclass(frozen=True, slots=True)
class _Ignore:
    """The rules of one `.gitignore` file, and what the paths begin with for which they are meant."""

    prefix: str
    rules: GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be entered, and the rules that hold in it."""

    path: str
    ignores: tuple[_Ignore, ...]


class _Visit:
    def __init__(self, tree: Tree, options: LoadOptions) -> None:
        self._tree = tree
        self._chosen = chooser(options)
        self._excluded = _globs(options.exclude).match_file

    def entries(self, folder: _Folder) -> Iterator[SourceFile | Failure | _Folder]:
        prefix, ignores = f"{folder.path}/" if folder.path else "", folder.ignores
        reached = folder.path
        try:
            entries = sorted(self._tree.entries(folder.path), key=lambda entry: entry.name)
            if any(entry.name == _RULES and not entry.is_folder for entry in entries):
                reached = prefix + _RULES
                ignores += (_Ignore(prefix, _parse_rules(self._tree.read_text(reached))),)
        except DocumentError as error:
            yield Failure(self._tree.source_of(reached), str(error))
            return
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if not entry.is_folder:
                if self._chosen(path) and not _ignored(path, ignores):
                    yield from self._files(path, entry)
            # A folder that is excluded as a whole need not be entered.
            elif not _ignored(f"{path}/", ignores) and not self._excluded(f"{path}/"):
                yield _Folder(path, ignores)

    def _files(self, path: str, entry: Entry) -> Iterator[SourceFile | Failure]:
        try:
            yield from entry.files()
        except DocumentError as error:
            yield Failure(self._tree.source_of(path), str(error))


def _globs(patterns: Iterable[str]) -> GitIgnoreSpec:
    """Globs as in `.gitignore`: `*.md` at any depth, `docs/*.md` from the root, `**` for any number of folders."""
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise SourceError(f"include and exclude take globs such as '*.md' or 'docs/**': {error}") from None


def _parse_rules(text: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    patterns = []
    for line in text.split("\n"):
        try:
            patterns.append(GitIgnoreSpecPattern(line.removesuffix("\r")))
        except ValueError:
            continue  # as git does with a line that is no pattern
    return GitIgnoreSpec(patterns)


def _ignored(path: str, ignores: tuple[_Ignore, ...]) -> bool:
    """As git decides: the deepest `.gitignore` that has a matching rule, and the last such rule in it.

    The path of a folder ends with a slash.
    """
    for ignore in reversed(ignores):
        if (include := ignore.rules.check_file(path.removeprefix(ignore.prefix)).include) is not None:
            return include
    return False
