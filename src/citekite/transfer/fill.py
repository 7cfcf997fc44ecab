"""A collection filled with the chunks of another one, vectors included: nothing is embedded.

The chunks go into a generation without a name, which takes it when it is complete and was checked. What a killed run
left is compared chunk by chunk with the origin, and only what is missing or different is sent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from citekite.errors import CollectionExists, DiskFull, StoreError
from citekite.ports import Reporter
from citekite.reports import Progress, TransferReport
from citekite.settings import without_password
from citekite.store.collection import Collection
from citekite.store.milvus import MilvusStore
from citekite.store.record import SCHEMA_VERSION, CollectionRecord
from citekite.store.writer import Writer
from citekite.transfer.origin import Origin, Stored
from citekite.transfer.verify import COMPARED, check_copy, is_same

# A reindex builds the next generation: one after that, so that neither takes what the other left for its own.
_AHEAD = 2


def fill(origin: Origin, store: MilvusStore, name: str, *, replacing: bool, report: Reporter) -> TransferReport:
    """Make the collection `name` of `store` equal to the origin, in content and in what it says about itself.

    Raises `CollectionExists` where there is one of that name, unless it is to be replaced: then it serves until the new
    one is complete. Raises `StoreError` where the origin changed meanwhile, or the copy is not what it should be; the
    next run goes on from there.
    """
    started = time.monotonic()
    current = store.generation(name) if store.find(name) is not None else 0
    if current and not replacing:
        raise CollectionExists(
            f"there is a collection {name!r} at {without_password(store.uri)} already: choose another name for the "
            "copy, or --replace it"
        )
    origin.check(lambda done: report(Progress("checking", done, origin.chunks, "chunks")))
    number = current + _AHEAD
    try:
        left = _find_left(store, name, number, origin.record)
        new = left or store.create_generation(name, number, origin.record)
        with new.writing() as writer:
            filling = _Filling(origin, new, writer, resumed=left is not None)
            filling.run(report)
    except DiskFull:
        store.abandon()
        raise
    # As the last step of writing: the writer has counted, and named a version, for itself.
    made = new.reload_record()
    new.save_record(
        replace(origin.record, lexical=made.lexical, schema_version=made.schema_version, version=made.version)
    )
    if not origin.is_unchanged():
        raise StoreError(
            f"{origin.name} was changed while it was copied: run the same command again, which sends what differs"
        )
    recall = check_copy(origin, new, filling.sample)
    store.swap(name, number)
    return TransferReport(
        uri=without_password(store.uri),
        collection=name,
        chunks=origin.chunks,
        sent=filling.sent,
        kept=filling.kept,
        removed=filling.removed,
        compared=len(filling.sample),
        recall=recall,
        has_lexical=new.has_lexical,
        seconds=time.monotonic() - started,
    )


def _find_left(store: MilvusStore, name: str, number: int, record: CollectionRecord) -> Collection | None:
    """What an earlier run left, if its vectors are from the same embedder; else it is dropped."""
    left = store.find_generation(name, number)
    if left is None:
        return None
    made = left.record
    if (made.embedder, made.dimension, made.schema_version) == (record.embedder, record.dimension, SCHEMA_VERSION):
        return left
    store.drop_generation(name, number)
    return None


class _Filling:
    """One run of sending what the new generation does not have."""

    def __init__(self, origin: Origin, new: Collection, writer: Writer, *, resumed: bool) -> None:
        self._origin = origin
        self._new = new
        self._writer = writer
        self._resumed = resumed
        self.sent = self.kept = self.removed = 0
        self.sample: list[Stored] = []

    def run(self, report: Reporter) -> None:
        """Send what is missing or different, and delete what the origin does not have."""
        ids: set[str] = set()
        stride = max(1, self._origin.chunks // COMPARED)
        for batch in self._origin.batches():
            done = self.sent + self.kept
            self.sample += [stored for place, stored in enumerate(batch, done) if place % stride == 0]
            missing = self._missing(batch) if self._resumed else batch
            if missing:
                self._writer.upsert([entry for entry, _ in missing], np.stack([vector for _, vector in missing]))
            self.sent += len(missing)
            self.kept += len(batch) - len(missing)
            if self._resumed:
                ids.update(entry.chunk.id for entry, _ in batch)
            report(Progress("copying", self.sent + self.kept, self._origin.chunks, "chunks"))
        if self._resumed:
            strays = [row["id"] for row in self._new.scan("", ("id",)) if row["id"] not in ids]
            self._writer.delete(strays)
            self.removed = len(strays)

    def _missing(self, batch: Sequence[Stored]) -> list[Stored]:
        there = {entry.chunk.id: (entry, vector) for entry, vector in self._new.stored([e.chunk.id for e, _ in batch])}
        return [
            stored
            for stored in batch
            if stored[0].chunk.id not in there or not is_same(stored, there[stored[0].chunk.id])
        ]
