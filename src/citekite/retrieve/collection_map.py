"""The map of a collection: where its chunks lie in two dimensions, by document and by part."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

import numpy as np
import numpy.typing as npt

from citekite.retrieve.parts import Part, parts_of
from citekite.retrieve.projection import Projection, project
from citekite.store.collection import Collection
from citekite.store.schema import DENSE

# More points than this are no clearer to look at, and a browser draws these at 60 pictures a second.
MOST_POINTS = 5_000
# Chunks are asked for by the documents they are in, so many documents at once: a server reads the filter's whole text.
_DOCUMENTS_AT_ONCE = 200

_FIELDS = ("id", "source", "title", "headings", DENSE)


@dataclass(frozen=True, slots=True)
class MapPoint:
    """A chunk on the map; `heading` is the last of its heading path."""

    id: str
    document_id: str
    x: float
    y: float
    title: str
    heading: str


@dataclass(frozen=True, slots=True)
class MapSource:
    """A document on the map with all its chunks, also those that are not drawn; `part` is an index of the parts."""

    document_id: str
    source: str
    title: str
    chunks: int
    part: int


@dataclass(frozen=True, slots=True)
class MapPart:
    """A folder, a site or a document that is told from the others by its colour."""

    name: str
    path: str
    documents: int
    chunks: int


@dataclass(frozen=True, slots=True)
class CollectionMap:
    """The points (at most `MOST_POINTS` of all `chunks`), the documents and the parts, the heaviest first."""

    points: tuple[MapPoint, ...]
    sources: tuple[MapSource, ...]
    parts: tuple[MapPart, ...]
    chunks: int
    projection: Projection | None

    def place(self, vectors: npt.ArrayLike) -> list[tuple[float, float]]:
        """Where vectors of the collection's embedder lie on this map."""
        if self.projection is None:
            return [(0.0, 0.0) for _ in np.asarray(vectors)]
        return [(float(x), float(y)) for x, y in self.projection.place(vectors).round(4)]


def draw(collection: Collection) -> CollectionMap:
    """The map of what this reader of the collection sees; the same content gives the same map."""
    documents = {row["source"]: row for row in collection.scan("ordinal == 0", ("id", "source", "title", "chunks"))}
    weights = {source: int(documents[source]["chunks"]) for source in sorted(documents)}
    parts = parts_of(weights)
    number = {source: at for at, part in enumerate(parts) for source in part.sources}
    rows = sorted(
        (row for row in _rows(collection, weights) if row["source"] in number), key=lambda row: str(row["id"])
    )
    projection, places = None, np.zeros((0, 2))
    if rows:
        vectors = np.stack([np.asarray(row[DENSE], dtype=np.float32) for row in rows])
        projection = project(vectors, [number[row["source"]] for row in rows])
        places = projection.place(vectors).round(4)
    return CollectionMap(
        points=tuple(_point(row, x, y) for row, (x, y) in zip(rows, places.tolist(), strict=True)),
        sources=tuple(
            MapSource(_document_id(documents[source]), source, documents[source]["title"], chunks, number[source])
            for source, chunks in weights.items()
        ),
        parts=_named(parts, documents, weights),
        chunks=sum(weights.values()),
        projection=projection,
    )


def _rows(collection: Collection, weights: Mapping[str, int]) -> Iterator[Mapping[str, Any]]:
    """All chunks with their vectors, or of many the same ones each time."""
    if sum(weights.values()) <= MOST_POINTS:
        yield from collection.scan("", _FIELDS)
        return
    places = list(_sample(weights).items())
    for start in range(0, len(places), _DOCUMENTS_AT_ONCE):
        chunks = collection.at(dict(places[start : start + _DOCUMENTS_AT_ONCE]))
        vectors = collection.vectors([chunk.id for chunk in chunks])
        for chunk in chunks:
            if chunk.id in vectors:
                values = (chunk.id, chunk.source, chunk.title, chunk.headings, vectors[chunk.id])
                yield dict(zip(_FIELDS, values, strict=True))


def _sample(weights: Mapping[str, int]) -> dict[str, list[int]]:
    """The ordinals to draw, by source: by chance as far as the text goes, and yet the same ones again.

    What is drawn of a document stays drawn as the collection grows, until others come before it.
    """
    places = ((source, ordinal) for source, chunks in weights.items() for ordinal in range(chunks))
    chosen: dict[str, list[int]] = {}
    for source, ordinal in nsmallest(MOST_POINTS, places, key=_chance):
        chosen.setdefault(source, []).append(ordinal)
    return chosen


def _chance(place: tuple[str, int]) -> bytes:
    return hashlib.blake2b(f"{place[0]}#{place[1]}".encode(), digest_size=8).digest()


def _point(row: Mapping[str, Any], x: float, y: float) -> MapPoint:
    headings = list(row["headings"])
    return MapPoint(row["id"], _document_id(row), x, y, row["title"], headings[-1] if headings else row["title"])


def _document_id(row: Mapping[str, Any]) -> str:
    return str(row["id"]).partition("-")[0]


def _named(
    parts: Sequence[Part], documents: Mapping[str, Mapping[str, Any]], weights: Mapping[str, int]
) -> tuple[MapPart, ...]:
    """The parts with short names: a document's title, a folder's own name, its path where two have that name."""
    names = [_short(part, documents) for part in parts]
    repeated = Counter(names)
    return tuple(
        MapPart(
            name=name if repeated[name] == 1 else part.path,
            path=part.path,
            documents=len(part.sources),
            chunks=_sum(weights, part.sources),
        )
        for name, part in zip(names, parts, strict=True)
    )


def _short(part: Part, documents: Mapping[str, Mapping[str, Any]]) -> str:
    if part.path == "upload://shared/":
        return "uploads"
    title = documents[part.path]["title"] if part.path in documents else ""
    return title or part.path.rstrip("/").rpartition("/")[2] or part.path


def _sum(weights: Mapping[str, int], sources: Iterable[str]) -> int:
    return sum(weights[source] for source in sources)
