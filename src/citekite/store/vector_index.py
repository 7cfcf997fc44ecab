"""The dense leg of the embedded database: all vectors of a collection as one memory-mapped matrix beside it.

Milvus Lite loops over every row in Python, so that at 100,000 chunks one search takes ten times as long as the exact
product with a matrix (docs/retrieval.md). The matrix holds nothing of its own: `SearchIndex` knows which content of the
collection it was made from. Changes are appended; a row that left is dead until enough of them are to be left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from citekite.access import AccessList
from citekite.ports import Vectors
from citekite.store.rows import Reader, Scored
from citekite.types import Chunk

Mask = npt.NDArray[np.bool_]

_ID = np.dtype("S64")  # the longest id that the schema takes
_LIST = np.dtype("<u4")  # the number of a chunk's access list
_NUMBER = np.dtype("<f4")
# Fewer rows than one in so many are gathered and multiplied alone; more are quicker as the whole matrix.
_FEW = 8
# The files are written anew without the dead rows when these are more than the living ones.
_LEAST_DEAD = 1_000
_REMEMBERED_READERS = 64
# Of rows with equal scores at the edge of what is wanted, so many more are looked at.
_TIES = 1_000


@dataclass(frozen=True, eq=False)
class _Served:
    """One committed content: mapped files, cut to its rows, and which of these are alive."""

    matrix: npt.NDArray[np.float32]
    ids: npt.NDArray[np.bytes_]
    lists: npt.NDArray[np.uint32]
    access: tuple[AccessList, ...]
    alive: Mask
    seen: dict[str, Mask] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def sees(self, reader: Reader, row: int) -> bool:
        """The check of a row that was found: whether the reader may see it."""
        return reader.sees(self.access[self.lists[row]])

    def visible_to(self, reader: Reader | None) -> Mask:
        """The living rows that a reader sees; remembered, because most questions are asked by few readers."""
        if reader is None:
            return self.alive
        if (known := self.seen.get(reader.key)) is not None:
            return known
        seen = np.array([reader.sees(one) for one in self.access], dtype=bool)
        if len(self.seen) >= _REMEMBERED_READERS:
            self.seen.clear()
        mask: Mask = self.alive & seen[self.lists]
        self.seen[reader.key] = mask
        return mask


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of one content that a search may find."""

    served: _Served
    rows: Mask


class VectorIndex:
    """The vectors of a collection in a folder; what is added or removed is found after `prepare` and `serve`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._served: _Served | None = None
        self._prepared: _Served | None = None
        self._changes: _Changes | None = None

    def open(self) -> bool:
        """Serve what is on disk; returns whether it can be used."""
        try:
            self._served = self._read()
        except (OSError, ValueError, KeyError):
            return False
        return True

    def clear(self) -> None:
        """Forget what is served; the next changes begin with nothing."""
        self._served = None

    def begin(self) -> None:
        """Start changes to what is served."""
        self._changes = _Changes(self._folder, self._served)

    def add(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Add chunks with their vectors; one with the id of a chunk already there replaces it."""
        assert self._changes is not None
        self._changes.add(chunks, vectors)

    def remove(self, ids: Sequence[str]) -> None:
        """Remove chunks by id; an unknown id is ignored."""
        assert self._changes is not None
        self._changes.remove(ids)

    def prepare(self) -> None:
        """Make the changes durable; `serve` makes them visible."""
        assert self._changes is not None
        self._changes.finish()
        self._changes = None
        self._prepared = self._read()

    def serve(self) -> None:
        """Let searches see what was prepared."""
        self._served, self._prepared = self._prepared, None

    def abandon(self) -> None:
        """End changes that are not to be seen."""
        if self._changes is not None:
            with suppress(OSError):  # what is still in a buffer may find no space
                self._changes.close()
        self._changes = self._prepared = None

    @property
    def is_empty(self) -> bool:
        """Whether no vectors are served."""
        return self._served is None or not len(self._served)

    def search(
        self, vector: npt.NDArray[np.float32], limit: int, allowed: Chosen | None, reader: Reader | None
    ) -> Scored:
        """The nearest rows by inner product that are allowed and that the reader sees, best first, ties by id.

        `allowed` is what `choosing` gave, or None for all.
        """
        served = self._served if allowed is None else allowed.served
        if served is None or not len(served):
            return []
        visible = served.visible_to(reader)
        if allowed is not None:
            visible = visible & allowed.rows
        count = int(np.count_nonzero(visible))
        if not count:
            return []
        query = np.ascontiguousarray(vector, dtype=np.float32)
        if count * _FEW < len(served):
            rows = np.flatnonzero(visible)
            scores = served.matrix[rows] @ query
        else:
            rows = np.arange(len(served))
            scores = served.matrix @ query
            if count < len(served):
                scores[~visible] = -np.inf
        # Scored again one by one: a product with a whole matrix rounds by what else is in it, so a reader could tell
        # by the last digit whether there are documents of others.
        best = [int(rows[place]) for place in _best(scores, min(limit, count))]
        seen = [row for row in best if reader is None or served.sees(reader, row)]
        found = [(served.ids[row].decode(), float(np.dot(served.matrix[row], query))) for row in seen]
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))[:limit]

    def choosing(self, ids: Sequence[str]) -> Chosen | None:
        """What lets a search find the chunks with these ids alone; None where there are no vectors to choose from."""
        served = self._served
        return None if served is None else Chosen(served, np.isin(served.ids, _as_ids(ids)))

    def _read(self) -> _Served:
        facts = json.loads((self._folder / "vectors.json").read_text(encoding="utf-8"))
        rows, dimension = facts["rows"], facts["dimension"]
        alive = np.ones(rows, dtype=bool)
        alive[np.load(self._folder / "dead.npy")] = False
        return _Served(
            matrix=_mapped(self._folder / "vectors.bin", _NUMBER, (rows, dimension)),
            ids=_mapped(self._folder / "ids.bin", _ID, (rows,)),
            lists=_mapped(self._folder / "lists.bin", _LIST, (rows,)),
            access=tuple(tuple(one) for one in facts["access"]),
            alive=alive,
        )


class _Changes:
    """Rows appended to the three files, and which of all rows are dead in the end."""

    def __init__(self, folder: Path, base: _Served | None) -> None:
        self._folder = folder
        self._base = base
        self._start = self._rows = 0 if base is None else len(base)
        self._dimension = 0 if base is None else base.matrix.shape[1]
        self._access = {one: number for number, one in enumerate(() if base is None else base.access)}
        self._removed: list[tuple[int, npt.NDArray[np.bytes_]]] = []
        sizes = (_NUMBER.itemsize * self._dimension, _ID.itemsize, _LIST.itemsize)
        names = ("vectors.bin", "ids.bin", "lists.bin")
        self._files = [_appending(folder / name, self._start * size) for name, size in zip(names, sizes, strict=True)]

    def add(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        if not chunks:
            return
        self._dimension = vectors.shape[1]
        lists = [self._access.setdefault(chunk.access, len(self._access)) for chunk in chunks]
        parts = (
            np.ascontiguousarray(vectors, dtype=_NUMBER),
            _as_ids([chunk.id for chunk in chunks]),
            np.array(lists, dtype=_LIST),
        )
        for file, part in zip(self._files, parts, strict=True):
            file.write(part.tobytes())
        self._rows += len(chunks)

    def remove(self, ids: Sequence[str]) -> None:
        if ids:
            self._removed.append((self._rows, _as_ids(ids)))

    def finish(self) -> None:
        for file in self._files:
            _written(file)
        self.close()
        ids = _mapped(self._folder / "ids.bin", _ID, (self._rows,))
        dead = self._dead(ids)
        count = int(np.count_nonzero(dead))
        if count > _LEAST_DEAD and 2 * count > self._rows:
            self._leave_out(dead)
            dead = np.zeros(self._rows, dtype=bool)
        _replace(self._folder / "dead.npy", lambda file: np.save(file, np.flatnonzero(dead)))
        facts = {"rows": self._rows, "dimension": self._dimension, "access": list(self._access)}
        _replace(self._folder / "vectors.json", lambda file: file.write(json.dumps(facts).encode()))

    def close(self) -> None:
        with ExitStack() as stack:
            for file in self._files:
                stack.callback(file.close)

    def _dead(self, ids: npt.NDArray[np.bytes_]) -> Mask:
        """Rows that were dead before, were removed after they came, or whose id comes again later."""
        dead = np.zeros(self._rows, dtype=bool)
        if self._base is not None:
            dead[: self._start] = ~self._base.alive
        if self._rows > self._start:
            order = np.argsort(ids, kind="stable")
            again = ids[order[:-1]] == ids[order[1:]]
            dead[order[:-1][again]] = True
        for position, removed in self._removed:
            dead[:position] |= np.isin(ids[:position], removed)
        return dead

    def _leave_out(self, dead: Mask) -> None:
        """Write the files anew with the living rows alone; who has mapped the old ones keeps them."""
        shapes = ((self._rows, self._dimension), (self._rows,), (self._rows,))
        kinds = (("vectors.bin", _NUMBER), ("ids.bin", _ID), ("lists.bin", _LIST))
        living = np.flatnonzero(~dead)
        for (name, kind), shape in zip(kinds, shapes, strict=True):
            old = _mapped(self._folder / name, kind, shape)

            def write(file: BinaryIO, old: npt.NDArray[np.generic] = old) -> None:
                for start in range(0, len(living), 10_000):
                    file.write(old[living[start : start + 10_000]].tobytes())

            _replace(self._folder / name, write)
        self._rows = len(living)


def _best(scores: npt.NDArray[np.float32], limit: int) -> npt.NDArray[np.intp]:
    """The places of the `limit` highest scores, and of those that equal the last of them."""
    threshold = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    above, equal = np.flatnonzero(scores > threshold), np.flatnonzero(scores == threshold)
    return np.concatenate((above, equal[: limit + _TIES]))


def _as_ids(ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
    return np.array([id.encode() for id in ids], dtype=_ID)


def _mapped(path: Path, kind: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A file as an array that is read from disk as it is used; raises `ValueError` where it is too short."""
    if not shape[0]:
        return np.zeros(shape, dtype=kind)
    return np.asarray(np.memmap(path, dtype=kind, mode="r", shape=shape))


def _appending(path: Path, size: int) -> BinaryIO:
    """A file open after its first `size` bytes, what follows cut off."""
    if not size:
        path.unlink(missing_ok=True)  # a search may have mapped the old one
        return path.open("xb")
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its place, then put it there: who reads the old one keeps it."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        write(file)
        _written(file)
    new.replace(path)


def _written(file: BinaryIO) -> None:
    """Let a file be on the disk itself: the stamp, which says that the index is whole, is written after it."""
    file.flush()
    os.fsync(file.fileno())
