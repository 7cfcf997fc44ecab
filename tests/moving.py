"""What the tests of copies and exports share: collections of made-up rows, without any embedder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from citekite.reports import Progress, TransferReport
from citekite.store.milvus import MilvusStore
from citekite.store.record import CollectionRecord
from citekite.store.writer import Entry
from citekite.transfer.fill import fill
from citekite.transfer.origin import Stored, StoredOrigin
from citekite.types import Chunk

DIMENSION = 8
RECORD = CollectionRecord(
    embedder="static:test",
    dimension=DIMENSION,
    english_only=True,
    splitter="sections/1",
    contextual="a-model",
    lexical_weight=0.25,
    k=7,
)


def stored(number: int, text: str = "") -> Stored:
    """A row that has something in every field, with a vector of unit length."""
    chunk = Chunk(
        id=f"{number // 4:016x}-{number:04d}",
        source=f"/docs/{number // 4}.md",
        title=f"Bird {number // 4}",
        ordinal=number % 4,
        start=40 * (number % 4),
        end=40 * (number % 4) + 30,
        text=text or f"Bird {number} has the habit {number * 7 % 1000}.",
        headings=("Birds", f"Habit {number % 4}"),
        line=3 * (number % 4) + 1,
        page=number % 3 or None,
        metadata={"lang": "en", "number": number, "tags": ["a", None, 1.5]},
        context=f"Of bird {number}.",
        access=("hr", "legal_2") if number % 5 == 0 else (),
    )
    vector = np.random.default_rng(number).normal(size=DIMENSION).astype(np.float32)
    return Entry(chunk, f"digest{number // 4}", 4), vector / np.linalg.norm(vector)


def make(uri: Path | str, count: int, name: str = "citekite") -> None:
    """A collection of `count` rows."""
    with MilvusStore(str(uri)) as store:
        change(store.create(name, RECORD), [stored(number) for number in range(count)])


def change(collection: object, rows: Sequence[Stored], deleted: Sequence[str] = ()) -> None:
    """Write and delete rows, as a sync would."""
    with collection.writing() as writer:  # type: ignore[attr-defined]
        if rows:
            writer.upsert([entry for entry, _ in rows], np.stack([vector for _, vector in rows]))
        writer.delete(deleted)


def contents(uri: Path | str, name: str = "citekite") -> dict[str, tuple[Entry, tuple[float, ...]]]:
    """Every row by its id, with its vector to the last bit."""
    with MilvusStore(str(uri)) as store:
        batches = StoredOrigin(store.open(name), name).batches()
        return {entry.chunk.id: (entry, tuple(vector.tolist())) for batch in batches for entry, vector in batch}


def record(uri: Path | str, name: str = "citekite") -> CollectionRecord:
    with MilvusStore(str(uri)) as store:
        return store.open(name).record


def silent(progress: Progress) -> None:
    pass


def copied(origin_uri: Path, uri: Path, kind: type[StoredOrigin] = StoredOrigin, **options: bool) -> TransferReport:
    """A copy from one database to another, through an origin of some kind."""
    with MilvusStore(str(origin_uri)) as source, MilvusStore(str(uri)) as store:
        origin = kind(source.open("citekite"), "the origin")
        return fill(origin, store, "citekite", **{"replacing": False, **options}, report=silent)


class Interrupted(StoredOrigin):
    """An origin that breaks off after its first batch."""

    def batches(self) -> Iterator[Sequence[Stored]]:
        yield next(super().batches())
        raise KeyboardInterrupt
