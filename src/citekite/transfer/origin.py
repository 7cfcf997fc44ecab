"""Where the chunks of a copy come from: a collection, or a file that was exported from one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt

from citekite.ports import Vectors
from citekite.settings import without_password
from citekite.store.collection import Collection
from citekite.store.milvus import MilvusStore
from citekite.store.record import CollectionRecord
from citekite.store.rows import GET_ROWS, Scored
from citekite.store.writer import Entry

Vector = npt.NDArray[np.float32]
Stored = tuple[Entry, Vector]


class Origin(Protocol):
    """Chunks with their vectors, a few at a time, and what their collection says of itself."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def record(self) -> CollectionRecord:
        """What the collection says about itself."""
        ...

    @property
    def chunks(self) -> int:
        """How many there are."""
        ...

    def check(self, checked: Callable[[int], None]) -> None:
        """Raise a `CitekiteError` where a chunk cannot be taken; `checked` is told how many were looked at."""
        ...

    def batches(self) -> Iterator[Sequence[Stored]]:
        """All chunks, at most `GET_ROWS` at a time, always in the same order."""
        ...

    def nearest(self, vectors: Vectors, limit: int) -> list[Scored]:
        """The nearest chunks to each vector by inner product as (id, score), best first."""
        ...

    def is_unchanged(self) -> bool:
        """Whether it still has the content that it had when it was opened."""
        ...


def open_origin(store: MilvusStore, collection: str) -> StoredOrigin:
    """A collection of a database as the origin; raises `UnknownCollection`."""
    return StoredOrigin(store.open(collection), f"collection {collection!r} at {without_password(store.uri)}")


class StoredOrigin:
    """A collection of a database as the origin of a copy or an export."""

    def __init__(self, collection: Collection, name: str) -> None:
        self.name = name
        self.record = collection.record
        self.chunks = collection.count()
        self._collection = collection

    def check(self, checked: Callable[[int], None]) -> None:
        """Nothing to do: what a collection holds was checked when it was stored."""

    def batches(self) -> Iterator[Sequence[Stored]]:
        """All chunks in the order of the store.

        The ids are read first and the rows by them, because a page of 16,000 rows with long vectors would be more than
        a server sends at once.
        """
        ids = (row["id"] for row in self._collection.scan("", ("id",)))
        while part := list(islice(ids, GET_ROWS)):
            yield self._collection.stored(part)

    def nearest(self, vectors: Vectors, limit: int) -> list[Scored]:
        """What the collection's own dense search finds."""
        return [self._collection.search_dense(vector, limit, "") for vector in vectors]

    def is_unchanged(self) -> bool:
        """Whether nobody has written to the collection since it was opened."""
        return self._collection.reload_record().version == self.record.version
