"""One pass over the sources, compared with the store: which documents changed, and what is stored of none of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from citekite.access import Grant
from citekite.errors import SettingsError
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.plan import Change, KnownVectors
from citekite.ingest.read import Failed, Outcome, Reading, Remark, Unchanged, read_file
from citekite.ingest.sources import find_files, is_under, normalise_source
from citekite.ports import Reporter, Splitter
from citekite.reports import Failure, Progress
from citekite.store.collection import Collection, DocumentState


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
        self.update += len(change.entries) - change.added
        self.keep += change.keep


class Scan:
    """The pass: which files there are, and the account of what became of each.

    `files` and `take` are the two halves of `changes`, for who reads the files elsewhere, with `reading`.
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
        self._states = self._stored(collection)
        self.reading = Reading(splitter, options, grant, self._states)
        self._seen: set[str] = set()
        self._incomplete: set[str] = set()
        self._stale: dict[str, tuple[str, ...]] = {}

    def changes(self) -> Iterator[Change]:
        """The changes of all documents that are new or changed, in the order of the sources."""
        files = self.files()
        for number, file in enumerate(files, start=1):
            for outcome in read_file(file, self.reading):
                if (change := self.take(file, outcome)) is not None:
                    yield change
            self._report(Progress("reading", number, len(files), "files"))

    def files(self) -> list[SourceFile]:
        """The files to read, each once; what cannot be taken is reported."""
        files: dict[str, SourceFile] = {}
        for root in self.roots:
            for found in find_files(root, self.reading.options):
                if isinstance(found, Failure):
                    self.fail(found.source, found.reason)
                else:
                    files.setdefault(found.source, found)
        self._seen.update(files)
        return list(files.values())

    def take(self, file: SourceFile, outcome: Outcome) -> Change | None:
        """Enter what became of a document of a file into the account; returns what there is to write of it."""
        match outcome:
            case Change():
                self._seen.add(outcome.document.source)
                self.tally.count(outcome)
                if outcome.stale:
                    self._stale[outcome.document.source] = outcome.stale
                return outcome
            case Unchanged():
                self._seen.add(outcome.source)
                self.tally.unchanged += 1
                self.tally.keep += outcome.chunks
            case Failed():
                self.fail(outcome.source, outcome.reason)
                if outcome.unnamed:
                    self._incomplete.add(file.source)
            case Remark():
                self.tally.warnings.append(Failure(outcome.source, outcome.text))
        return None

    def known_vectors(self) -> KnownVectors:
        """The vectors in the store that may be used again."""
        # Not of documents of others: that a text need not be embedded would tell that they have it.
        mine = (state for state in self._states.values() if self.reading.grant.may_change(state.access))
        return KnownVectors(id for state in mine for id in state.rows)

    def fail(self, source: str, reason: str) -> None:
        """Report a document that could not be taken in; what is stored of it stays."""
        self.tally.failures.append(Failure(source, reason))

    def keep(self, source: str, id: str) -> None:
        """Keep a chunk of a document from being stale: it was stored although its document asks for another."""
        self._stale[source] = tuple(stale for stale in self._stale.get(source, ()) if stale != id)

    def stale(self) -> list[str]:
        """Ids of chunks that left their document (after `changes`); none of a document that failed."""
        ids = [id for source, stale in self._stale.items() if not self._failed(source) for id in stale]
        for source in self._gone():
            table = source.rpartition("#")[0]
            # A row that left its table. A row that cannot be read may be any of those that are missing.
            if table in self._seen and table not in self._incomplete:
                ids += self._states[source].rows
        return ids

    def pruned(self) -> dict[str, list[str]]:
        """Ids by source of the documents that left the sources (after `changes`)."""
        return {
            source: list(self._states[source].rows)
            for source in self._gone()
            if source.rpartition("#")[0] not in self._seen
        }

    def _stored(self, collection: Collection | None) -> dict[str, DocumentState]:
        if collection is None:
            return {}
        states = collection.states(self.roots)
        return {source: state for source, state in states.items() if any(is_under(source, root) for root in self.roots)}

    def _gone(self) -> list[str]:
        return [
            source
            for source, state in self._states.items()
            if source not in self._seen and not self._failed(source) and self.reading.grant.may_change(state.access)
        ]

    def _failed(self, source: str) -> bool:
        return any(is_under(source, failure.source) for failure in self.tally.failures)
