"""One pass over the sources, compared with the store: which documents changed, and what is stored of none of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from citekite.access import Grant
from citekite.errors import SettingsError
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.parsers import Parsers
from citekite.ingest.pipeline import begun_ahead, read_ahead
from citekite.ingest.plan import Change
from citekite.ingest.read import Failed, Outcome, Reading, Remark, Unchanged, is_slow, read_file
from citekite.ingest.sources import find_files, is_under, normalise_source
from citekite.ingest.stored import KnownVectors, Stored, key_of
from citekite.ports import Reporter, Splitter
from citekite.reports import Failure, Progress
from citekite.store.collection import Collection, DocumentState, RowVersion

# Files that are listed ahead of the reading: of fewer, the progress has a total from the start.
LISTED_AHEAD = 5_000
# Files that are read at once where reading is slow: one of an object store takes some 50 ms, nearly all of it waiting.
READS_AT_ONCE = 16


@dataclass(slots=True)
class Tally:
    """The counts of a pass, as they grow."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    add: int = 0
    update: int = 0
    keep: int = 0
    failures: list[Failure] = field(default_factory=list)
    warnings: list[Failure] = field(default_factory=list)

    def count(self, change: Change) -> None:
        """Count a document that is new or changed."""
        self.new += change.is_new
        self.changed += not change.is_new
        self.add += change.added
        self.update += change.updated
        self.keep += change.keep


class Scan:
    """The pass: which files there are, and the account of what became of each.

    `files` and `take` are the two halves of `changes`, for who reads the files elsewhere, with `reading`. It is to be
    closed.
    """

    def __init__(
        self,
        sources: Sequence[str],
        collection: Collection | None,
        splitter: Splitter,
        options: LoadOptions,
        report: Reporter,
        grant: Grant,
    ) -> None:
        if collection is not None and not collection.record.has_access and grant.for_new:
            raise SettingsError(
                "the collection was made by an earlier citekite and has no field for access lists: `citekite reindex` "
                "adds it; the same command then works"
            )
        self.roots = list(dict.fromkeys(normalise_source(source) for source in sources))
        self.tally = Tally()
        self._report = report
        # Who may change what, and which list is given, is decided by what is stored now: it has to be so still when the
        # first change is written, and another process may write to a server meanwhile.
        decides = collection is not None and (grant.groups is not None or grant.given is not None)
        self.as_of = collection.reload_record().version if collection is not None and decides else None
        self._collection = collection
        self._stored = Stored(self._versions())
        self._parsers = Parsers(options.parse_seconds)
        self.reading = Reading(splitter, options, grant, self._stored, self._parsers.parse)
        self._seen: set[int] = set()
        self._listed: int | None = None
        self._incomplete: set[int] = set()
        self._stale: dict[str, tuple[str, ...]] = {}

    def changes(self) -> Iterator[Change]:
        """The changes of all documents that are new or changed, in the order of the sources."""
        with closing(read_ahead(self.files(), LISTED_AHEAD)) as files:
            begun = begun_ahead(files, self._read, is_slow, max(2 * self._parsers.processes, READS_AT_ONCE))
            for number, (file, outcomes) in enumerate(begun, start=1):
                for outcome in outcomes:
                    if (change := self.take(file, outcome)) is not None:
                        yield change
                self._report(Progress("reading", number, self._listed, "files"))

    def files(self) -> Iterator[SourceFile]:
        """The files to read, each once; raises `SourceError`, at the first step, where a source cannot be read."""
        walks = [_started(find_files(root, self.reading.options)) for root in self.roots]
        given: set[int] = set()
        number = 0
        for found in itertools.chain.from_iterable(walks):
            if isinstance(found, Failure):
                self.fail(found.source, found.reason)
                continue
            key = key_of(found.source)
            if len(self.roots) > 1:  # one walk finds nothing twice
                if key in given:
                    continue
                given.add(key)
            self._seen.add(key)
            number += 1
            yield found
        self._listed = number

    def close(self) -> None:
        """End the processes that parse."""
        self._parsers.close()

    def take(self, file: SourceFile, outcome: Outcome) -> Change | None:
        """Enter what became of a document of a file into the account; returns what there is to write of it."""
        match outcome:
            case Change():
                self._seen.add(key_of(outcome.document.source))
                self.tally.count(outcome)
                if outcome.stale:
                    self._stale[outcome.document.source] = outcome.stale
                return outcome
            case Unchanged():
                self._seen.add(key_of(outcome.source))
                self.tally.unchanged += 1
                self.tally.keep += outcome.chunks
            case Failed():
                self.fail(outcome.source, outcome.reason)
                if outcome.unnamed:
                    self._incomplete.add(key_of(file.source))
            case Remark():
                self.tally.warnings.append(Failure(outcome.source, outcome.text))
        return None

    def _read(self, file: SourceFile) -> Iterator[Outcome]:
        return read_file(file, self.reading)

    def known_vectors(self) -> KnownVectors:
        """The vectors in the store that may be used again."""
        # Not of documents of others: that a text need not be embedded would tell that they have it.
        return KnownVectors(self._stored.changeable(self.reading.grant))

    def fail(self, source: str, reason: str) -> None:
        """Report a document that could not be taken in; what is stored of it stays."""
        self.tally.failures.append(Failure(source, reason))

    def keep(self, source: str, id: str) -> None:
        """Keep a chunk of a document from being stale: it was stored although its document asks for another."""
        self._stale[source] = tuple(stale for stale in self._stale.get(source, ()) if stale != id)

    def stale(self) -> list[str]:
        """Ids of chunks that left their document (after `changes`); none of a document that failed."""
        ids = [id for source, stale in self._stale.items() if not self._failed(source) for id in stale]
        for key, state in self._gone().items():
            table = self._stored.table(key)
            # A row that left its table. A row that cannot be read may be any of those that are missing.
            if table in self._seen and table not in self._incomplete:
                ids += state.rows
        return ids

    def pruned(self) -> list[list[str]]:
        """Ids of the documents that left the sources (after `changes`), those of one document together."""
        return [list(state.rows) for key, state in self._gone().items() if self._stored.table(key) not in self._seen]

    def _versions(self) -> Iterator[RowVersion]:
        if self._collection is None:
            return
        for number, root in enumerate(self.roots):
            for row in self._collection.versions(root):
                if is_under(row.source, root) and not any(is_under(row.source, other) for other in self.roots[:number]):
                    yield row

    def _gone(self) -> dict[int, DocumentState]:
        """The documents that were not seen, did not fail, and may be deleted."""
        gone = self._stored.gone(self._seen, self.reading.grant)
        if not gone or not self.tally.failures:
            return gone
        assert self._collection is not None
        first = {next(iter(state.rows)): key for key, state in gone.items()}
        sources = self._collection.sources_of(list(first))
        return {key: gone[key] for id, key in first.items() if id in sources and not self._failed(sources[id])}

    def _failed(self, source: str) -> bool:
        return any(is_under(source, failure.source) for failure in self.tally.failures)


def _started(walk: Iterator[SourceFile | Failure]) -> Iterator[SourceFile | Failure]:
    """The walk, its first step done: that is when it finds out that its source cannot be read."""
    return itertools.chain(list(itertools.islice(walk, 1)), walk)
