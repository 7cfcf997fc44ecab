"""One pass over the sources, compared with the store: which documents changed, and what is stored of none of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from citekite.access import AccessList, Grant
from citekite.errors import DocumentError, SettingsError
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.load import digest_of, load
from citekite.ingest.plan import Change, difference, version_of
from citekite.ingest.sources import find_files, is_under, normalise_source
from citekite.ingest.split import content_of
from citekite.ports import Reporter, Splitter
from citekite.reports import Failure, Progress
from citekite.store.collection import Collection, DocumentState
from citekite.types import Document


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
        self.update += len(change.embed) + len(change.reuse) - change.added
        self.keep += change.keep


class Scan:
    """The pass. `has_vector` maps the content of a chunk to the id of a stored chunk with the same content."""

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
        self._splitter = splitter
        self._options = options
        self._report = report
        self._grant = grant
        # Who may change what, and which list is given, is decided by what is stored now: it has to be so still when the
        # first change is written, and another process may write to a server meanwhile.
        decides = collection is not None and (grant.groups is not None or grant.given is not None)
        self.as_of = collection.reload_record().version if collection is not None and decides else None
        self._states = self._stored(collection)
        self._seen: set[str] = set()
        self._incomplete: set[str] = set()
        self._stale: dict[str, tuple[str, ...]] = {}
        # Not of documents of others: that a text need not be embedded would tell that they have it.
        mine = (state for state in self._states.values() if grant.may_change(state.access))
        self.has_vector = {content_of(id): id for state in mine for id in state.rows}

    def changes(self) -> Iterator[Change]:
        """The changes of all documents that are new or changed, in the order of the sources."""
        files = self._files()
        for number, file in enumerate(files, start=1):
            try:
                yield from self._changes_of(file)
            except DocumentError as error:
                self.fail(file.source, str(error))
            self._report(Progress("reading", number, len(files), "files"))

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

    def _files(self) -> list[SourceFile]:
        files: dict[str, SourceFile] = {}
        for root in self.roots:
            for found in find_files(root, self._options):
                if isinstance(found, Failure):
                    self.fail(found.source, found.reason)
                else:
                    files.setdefault(found.source, found)
        return list(files.values())

    def _changes_of(self, file: SourceFile) -> Iterator[Change]:
        self._seen.add(file.source)
        access = self._access_of(file.source)
        data = file.read()
        if self._is_stored(file.source, version_of(digest_of(data, self._options), self._splitter, access)):
            return
        for document in load(file, self._options, self.tally.warnings.append, data):
            if isinstance(document, Failure):
                self.fail(document.source, document.reason)
                self._incomplete.add(file.source)
                continue
            self._seen.add(document.source)
            try:
                change = self._change_of(document, self._access_of(document.source))
            except DocumentError as error:
                self.fail(document.source, str(error))
            else:
                if change:
                    yield change

    def _change_of(self, document: Document, access: AccessList) -> Change | None:
        digest = version_of(document.digest, self._splitter, access)
        if self._is_stored(document.source, digest):
            return None
        chunks = [replace(chunk, access=access) for chunk in self._splitter.split(document)]
        if not chunks:
            self.fail(document.source, "it has no text")
            return None
        change = difference(document, chunks, digest, self._states.get(document.source), self.has_vector)
        self.tally.count(change)
        if change.stale:
            self._stale[document.source] = change.stale
        return change

    def _access_of(self, source: str) -> AccessList:
        """The access list that a document gets; raises `DocumentError` where it is not to be changed."""
        stored = state.access if (state := self._states.get(source)) else ()
        self._grant.check(stored)
        return self._grant.list_for(stored)

    def _is_stored(self, source: str, digest: str) -> bool:
        """Whether the store holds just that version of the document; it is counted as unchanged then."""
        state = self._states.get(source)
        if state is None or not state.is_complete(digest):
            return False
        self.tally.unchanged += 1
        self.tally.keep += len(state.rows)
        return True

    def _gone(self) -> list[str]:
        return [
            source
            for source, state in self._states.items()
            if source not in self._seen and not self._failed(source) and self._grant.may_change(state.access)
        ]

    def _failed(self, source: str) -> bool:
        return any(is_under(source, failure.source) for failure in self.tally.failures)
