"""What the workers of a Ray cluster do for a sync: read files, embed chunks, and store them where many may write.

What passes between them is a table with one column of pickles (Ray Data moves Arrow tables). A worker that dies is
replaced, and its batch done again: so a batch has one outcome, whatever order its requests return in, and a text that
was claimed for a chunk stays with that chunk. `CitekiteError`s travel as values, to be raised where the sync was begun.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from citekite.embed.batching import Embedded, Refused, embed_in_batches
from citekite.errors import CitekiteError
from citekite.ingest.base import SourceFile
from citekite.ingest.embedding import Borrowed, Written, indexed_text
from citekite.ingest.pipeline import begun_ahead
from citekite.ingest.plan import Change
from citekite.ingest.read import Outcome, Reading, read_file
from citekite.ingest.scan import READS_AT_ONCE
from citekite.ingest.split import content_of
from citekite.ingest.stored import KnownVectors
from citekite.settings import Settings
from citekite.store.writer import Entry

if TYPE_CHECKING:
    import pyarrow as pa

    from citekite.store.writer import SharedWriter

# Items of one table that a reader hands on.
_ITEMS = 512


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a document of the file with this number, without its text; None tells that the file is read."""

    number: int
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Broken:
    """The error that ends the sync."""

    error: CitekiteError


def packed(items: Iterable[object]) -> pa.Table:
    """Items as a table."""
    import pyarrow as pa

    # Not of NumPy, which would cut zeros at the end and pad all to the longest.
    return pa.table({"item": pa.array([pickle.dumps(item) for item in items], pa.large_binary())})


def unpacked(table: pa.Table) -> list[Any]:
    """The items of a table."""
    return [pickle.loads(item) for item in table["item"].to_pylist()]


class Ledger:
    """Which chunk each new text is embedded for, and whether the workers store it: one actor for the whole sync.

    If it is lost it begins anew: some texts are then embedded twice, and what was shared goes to the driver again.
    """

    def __init__(self, known: KnownVectors) -> None:
        self._known = known
        self._claimed: dict[str, str] = {}
        self._shared = False

    def claim(self, ids: Sequence[str]) -> tuple[list[str | None], bool]:
        """For each chunk None where its text is to be embedded for it, else the chunk whose vector it gets.

        And whether the collection is open for the workers to write.
        """
        return [self._lender(id) for id in ids], self._shared

    def share(self) -> None:
        """Let the workers write from now on."""
        self._shared = True

    def _lender(self, id: str) -> str | None:
        if (lender := self._known.get(id)) is not None:
            return lender
        owner = self._claimed.setdefault(content_of(id), id)
        return None if owner == id else owner


class ReadFiles:
    """From tables of numbered files to tables of `Told` and entries to store."""

    def __init__(self, reading: Any) -> None:
        import ray

        self._reading: Reading = ray.get(reading)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        numbered = unpacked(table)
        for (number, _), told in begun_ahead(numbered, self._read, lambda pair: pair[1].is_remote, READS_AT_ONCE):
            items: list[object] = []
            for item in told:
                items.append(item)
                if len(items) == _ITEMS:
                    yield packed(items)
                    items = []
            yield packed([*items, Told(number, None)])

    def _read(self, numbered: tuple[int, SourceFile]) -> Iterator[object]:
        number, file = numbered
        try:
            for outcome in read_file(file, self._reading):
                if isinstance(outcome, Change):
                    yield from outcome.entries
                    outcome = replace(outcome, entries=(), document=replace(outcome.document, text="", pages=()))
                yield Told(number, outcome)
        except CitekiteError as error:
            yield Broken(error)


class EmbedEntries:
    """From tables of entries to tables of what became of them; all else in a table is passed on.

    The model is loaded once. Entries are embedded, or borrow a vector, and are stored where the ledger says so.
    """

    def __init__(self, settings: Settings, embedder: str, dimension: int | None, ledger: Any) -> None:
        from citekite.embed.choose import make_embedder_named

        self._settings = settings
        self._embedder = make_embedder_named(embedder, settings, dimension=dimension)
        self._ledger = ledger

    def __call__(self, table: pa.Table) -> pa.Table:
        items = unpacked(table)
        results = [item for item in items if not isinstance(item, Entry)]
        try:
            for result in self._results([item for item in items if isinstance(item, Entry)]):
                results.append(result)  # noqa: PERF402 - what came before an error is kept
        except CitekiteError as error:
            results.append(Broken(error))
        return packed(results)

    def _results(self, entries: list[Entry]) -> Iterator[Embedded[Entry] | Refused[Entry] | Borrowed | Written]:
        if not entries:
            return
        import ray

        lenders, shared = ray.get(self._ledger.claim.remote([entry.chunk.id for entry in entries]))
        placed = list(zip(entries, lenders, strict=True))
        yield Borrowed([(entry, lender) for entry, lender in placed if lender is not None])
        fresh = [entry for entry, lender in placed if lender is None]
        for result in self._embedded(fresh):
            if isinstance(result, Embedded) and shared:
                yield self._written(result)
            else:
                yield result

    def _embedded(self, entries: list[Entry]) -> Iterator[Embedded[Entry] | Refused[Entry]]:
        """What was embedded in the order of the entries, then the error that ended it."""
        results: list[Embedded[Entry] | Refused[Entry]] = []
        failure: CitekiteError | None = None
        try:
            for result in embed_in_batches(self._embedder, entries, indexed_text):
                results.append(result)  # noqa: PERF402 - as above
        except CitekiteError as error:
            failure = error
        place = {entry.chunk.id: number for number, entry in enumerate(entries)}
        yield from sorted(results, key=lambda result: place[result.items[0].chunk.id])
        if failure is not None:
            raise failure

    def _written(self, embedded: Embedded[Entry]) -> Written:
        counts = self._writer.store(embedded.items, embedded.vectors)
        return Written(embedded.chunks, embedded.texts, *counts)

    @cached_property
    def _writer(self) -> SharedWriter:
        from citekite.store.milvus import MilvusStore

        return MilvusStore.from_settings(self._settings).open(self._settings.collection).shared_writer()
