"""The parts that a reader would see in a collection: its folders, sites and single documents, not too many of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# As many as there are colours that everybody can tell apart.
MOST_PARTS = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A folder, a site or a document, by the path it has in common with what lies in it."""

    path: str
    sources: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Folder:
    path: str
    weight: int = 0
    sources: list[str] = field(default_factory=list)
    inner: dict[str, _Folder] = field(default_factory=dict)

    @staticmethod
    def of(weights: Mapping[str, int]) -> _Folder:
        """The tree of all sources."""
        root = _Folder("")
        for source in sorted(weights):
            here = root
            weight = weights[source]
            here.add(source, weight)
            for step in _steps(source):
                here = here.inner.setdefault(step, _Folder(step))
                here.add(source, weight)
        return root

    def add(self, source: str, weight: int) -> None:
        self.sources.append(source)
        self.weight += weight

    def narrowed(self) -> _Folder:
        """The folder, or the document, that all of it lies in."""
        here = self
        while len(here.inner) == 1:
            here = next(iter(here.inner.values()))
        return here

    def opened(self) -> list[_Folder]:
        """What lies in it; itself where that is one document."""
        here = self.narrowed()
        return list(here.inner.values()) or [here]


def parts_of(weights: Mapping[str, int]) -> list[Part]:
    """The parts of a collection of sources, each with its weight (its number of chunks), the heaviest part first.

    The top folder is opened, then the heaviest folder again and again: as long as there are at most `MOST_PARTS`, and
    it has more than its share of all. The top folder, and one with more than four fifths of all, is opened whatever
    lies in it, so there may be more.

    >>> [part.path for part in parts_of({"/docs/a/1.md": 3, "/docs/a/2.md": 1, "/docs/b/3.md": 2})]
    ['/docs/a/1.md', '/docs/b/3.md', '/docs/a/2.md']
    """
    parts = _Folder.of(weights).opened() if weights else []
    whole = sum(weights.values())
    waiting = list(parts)
    while waiting:
        heaviest = max(waiting, key=lambda part: part.weight)
        waiting.remove(heaviest)
        inner = heaviest.opened()
        fits = heaviest.weight > whole / MOST_PARTS and len(parts) - 1 + len(inner) <= MOST_PARTS
        if len(heaviest.sources) > 1 and (fits or heaviest.weight > 0.8 * whole):
            parts.remove(heaviest)
            parts += inner
            waiting += inner
    parts.sort(key=lambda part: (-part.weight, part.path))
    return [Part(part.narrowed().path, tuple(part.sources)) for part in parts]


def _steps(source: str) -> list[str]:
    """The folders above a source, from the top down, and the source; a folder ends with a slash, and may be a page too.

    >>> _steps("https://a.org/docs/x.html")
    ['https://a.org/', 'https://a.org/docs/', 'https://a.org/docs/x.html']
    >>> _steps("/docs/x.md")
    ['/', '/docs/', '/docs/x.md']
    """
    start = source.find("://") + 3 if "://" in source else 0
    return [*(source[: at + 1] for at in range(start, len(source)) if source[at] == "/"), source]
