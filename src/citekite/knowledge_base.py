"""The knowledge base: documents in, cited answers out. The facade that wires the stages together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from citekite.access import Grant, check_group
from citekite.connection import Connection, resumable
from citekite.contexts import in_own_context
from citekite.errors import AccessDenied, StoreUnreachable, UnknownCollection
from citekite.events import Event, answer_of
from citekite.home import uploads_of
from citekite.preload import preload
from citekite.prices import Prices
from citekite.reports import CollectionStatus, DocumentSummary, Progress, SyncPlan, SyncReport
from citekite.settings import Settings, load_settings
from citekite.store.limits import hurried
from citekite.types import Answer, Hit, Mode, Retrieval, StoredDocument, Turn

if TYPE_CHECKING:
    from citekite.endpoint.traffic import TrafficState
    from citekite.ports import Embedder
    from citekite.retrieve.filter import Filter
    from citekite.store.collection import Collection


def _no_report(progress: Progress) -> None:
    pass


def _never() -> bool:
    return False


class KnowledgeBase:
    """Documents in one Milvus collection, searched and asked.

    `uri` and the keyword arguments are settings and win over the environment and `citekite.toml`; `settings` takes
    ready-made ones instead of all that. Nothing is opened before the first call. Every method raises a
    `CitekiteError` that says what to do. Methods may be called from several threads: a write waits for the one before,
    a search waits for none.

    >>> with KnowledgeBase("./docs.db") as kb:  # doctest: +SKIP
    ...     kb.sync("docs/")
    ...     print(kb.ask("How is data stored in Milvus?"))
    """

    def __init__(self, uri: str | Path | None = None, *, settings: Settings | None = None, **arguments: Any) -> None:
        if settings is None:
            settings = load_settings({"uri": None if uri is None else str(uri), **arguments}).settings
        elif uri is not None or arguments:
            raise TypeError("give either settings or single settings as arguments")
        self.settings = settings
        self._connection = Connection(settings)
        self._groups: frozenset[str] | None = None  # None: everything is seen

    def sync(
        self,
        *sources: str | Path,
        prune: bool = False,
        access: str | Iterable[str] | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        report: Callable[[Progress], None] = _no_report,
        stopped: Callable[[], bool] = _never,
    ) -> SyncReport:
        """Bring the collection to the state of the sources: files, folders, zip archives, URLs.

        Unchanged documents cost nothing, a changed one embeds only its new chunks; `prune` deletes documents that left
        the sources. `access` names the groups that may see the documents, () or "everyone" lets all readers; with None
        a document keeps the list it has, and a new one is for everyone. A document that fails is listed in the report,
        and the rest goes on. `include` and `exclude` are globs in place of those of the settings. `report` is told the
        progress, from one thread at a time; when `stopped` returns True the batch in flight is stored and
        `KeyboardInterrupt` raised.
        """
        from citekite.ingest.pipeline import one_at_a_time
        from citekite.ingest.sync import sync
        from citekite.ingest.traced import traced_sync

        report = one_at_a_time(report)
        with self._connection.changing(), resumable(), traced_sync(self.settings.collection) as told:
            self._connection.store.preload()
            collection = self._connection.find()
            embedder = self._embedder(collection)
            splitter, contexts = self._connection.splitter(embedder, collection, report)
            grant = Grant.make(access, self._groups)
            globs = {"include": include, "exclude": exclude}
            with closing(self._connection.scan(sources, grant, collection, splitter, report, **globs)) as scan:
                done = sync(
                    scan,
                    self._connection.embedding(scan, embedder, contexts, report, stopped),
                    collection,
                    lambda dimension: self._connection.create(embedder, dimension, splitter),
                    prune=prune,
                    splitter=splitter,
                    contexts=contexts,
                    report=report,
                )
            return told(done)

    def plan(
        self,
        *sources: str | Path,
        prune: bool = False,
        access: str | Iterable[str] | None = None,
        report: Callable[[Progress], None] = _no_report,
    ) -> SyncPlan:
        """What `sync` would do with these sources; nothing is embedded, written or created."""
        from citekite.ingest.sync import plan

        with self._connection.lock:
            collection = self._connection.find()
            splitter, contexts = self._connection.splitter(self._embedder(collection), collection, report)
            grant = Grant.make(access, self._groups)
            prices = Prices.from_settings(self.settings)
            with closing(self._connection.scan(sources, grant, collection, splitter, report)) as scan:
                return plan(scan, prune=prune, prices=prices, contextual=contexts is not None)

    def search(
        self, question: str, *, k: int | None = None, filter: str | Filter = "", mode: Mode | None = None
    ) -> list[Hit]:
        """The `k` best chunks for a question, best first, of the documents that the filter admits.

        A text that stands in several places is one hit, with the other places in its `others`. `filter` is a `Filter`,
        or a Milvus expression over the fields source, title, ordinal, page, headings, text, metadata. Raises
        `UnknownCollection` before the first sync and `FilterError` for a filter that cannot be used.
        """
        return list(self.retrieve(question, k=k, filter=filter, mode=mode).hits)

    def retrieve(
        self,
        question: str,
        *,
        k: int | None = None,
        filter: str | Filter = "",
        mode: Mode | None = None,
        explain: bool = False,
    ) -> Retrieval:
        """What `search` returns, with the queries, the time of each stage and remarks; with `explain` how it came."""
        found = self._retrieve(question, k=k, filter=filter, mode=mode)
        prices = Prices.from_settings(self.settings)
        return replace(found, explanation=prices.of_all(found.explanation) if explain else None)

    def _retrieve(self, question: str, *, k: int | None, filter: str | Filter, mode: Mode | None) -> Retrieval:
        from citekite.retrieve.search import SearchPlan, retrieve

        def search(collection: Collection) -> Retrieval:
            plan = SearchPlan.make(self.settings, collection.record, has_lexical=collection.has_lexical, k=k, mode=mode)
            return retrieve(collection, question, plan, self._connection.models, filter=filter)

        session = self._connection.store.session
        with self._connection.telemetry.active(), hurried():
            try:
                return search(self.collection())
            except UnknownCollection:  # a reindex elsewhere may have put another in its place since it was opened
                self._connection.forget()
            except StoreUnreachable:
                if self._connection.store.session == session:
                    raise
                # A write found the disk full, and let go of the database: it is opened anew.
            return search(self.collection())

    def ask(
        self,
        question: str,
        *,
        k: int | None = None,
        filter: str | Filter = "",
        mode: Mode | None = None,
        history: Sequence[Turn] = (),
        deep: bool = False,
        explain: bool = False,
    ) -> Answer:
        """The answer to a question from the documents, with citations; see `ask_stream` for the events of it.

        With a chat model it is written from the passages, without one it is made of their best sentences. `history`
        holds the turns before, for a question that follows up on them. `deep` lets the model split the question and
        search in rounds, within the budget of the `deep_` settings. With `explain`, `explanation` of the answer has its
        stages, with their times, candidates and scores.
        """
        return answer_of(
            self.ask_stream(question, k=k, filter=filter, mode=mode, history=history, deep=deep, explain=explain)
        )

    def ask_stream(
        self,
        question: str,
        *,
        k: int | None = None,
        filter: str | Filter = "",
        mode: Mode | None = None,
        history: Sequence[Turn] = (),
        deep: bool = False,
        explain: bool = False,
        found: Retrieval | None = None,
    ) -> Iterator[Event]:
        """The events of an answer: Step (when `deep`), Retrieved, then Delta and Cited, then Done or Failed.

        `found`, what `retrieve` returned for the question, is answered from instead of a search; a `deep` answer
        searches all the same. With `explain` the answer says how it came about. Closing the iterator ends the model's
        request.
        """
        from citekite.answer.ask import Asked, ask

        preload(*self._connection.models.clients, "citekite.answer.deep")  # while the database is opened
        search = partial(self._retrieve, k=k, filter=filter, mode=mode)
        asked = Asked(question, tuple(history), deep, explain, found)
        return in_own_context(ask(asked, self._connection, self.collection, search))

    def documents(self) -> list[DocumentSummary]:
        """All documents of the collection, sorted by source."""
        return list(self.collection().documents())

    def document(self, id_or_source: str) -> StoredDocument:
        """A document with its text, by its id or its source; raises `UnknownDocument`."""
        return self.collection().document(id_or_source)

    def restricted_to(self, groups: Iterable[str]) -> KnowledgeBase:
        """The same knowledge base for a reader of these groups.

        It finds documents without an access list and those whose list names one of the groups, in every method; what
        it writes is for these groups alone, and it changes no document that others may see. It shares the connection,
        and does not close it.
        """
        names = frozenset(map(check_group, groups))
        view = copy.copy(self)
        view._groups = names if self._groups is None else self._groups & names
        return view

    def in_collection(self, name: str) -> KnowledgeBase:
        """The same for another collection of the database; it shares the connection, and does not close it.

        Raises `SettingsError` for a name that cannot be one.
        """
        settings = Settings.model_validate({**dict(self.settings), "collection": name})
        other = KnowledgeBase(settings=settings)
        other._connection = Connection(settings, beside=self._connection)
        other._groups = self._groups
        return other

    def is_open(self) -> bool:
        """Whether the collection was found, and is held open."""
        return self._connection.is_open

    def status(self) -> CollectionStatus:
        """What the collection holds and how it was made."""
        return self._connection.status(self.collection())

    def create(self) -> None:
        """Make the collection, empty, for the embedder of the settings; raises `CollectionExists`."""
        self._require_everything("making a collection")
        self._connection.create_empty()

    def drop(self) -> None:
        """Delete the collection with all that is in it; raises `UnknownCollection`."""
        self._require_everything("deleting a collection")
        self._connection.drop()

    def check(self) -> None:
        """Raise a `StoreError` where the database cannot be reached; one that no sync has made yet is no fault."""
        with hurried(0):
            self._connection.store.names()

    def warm_up(self) -> None:
        """Load the models and clients that the first question would wait for; no endpoint is asked."""
        self._connection.models.warm_up(collection.record if (collection := self._connection.find()) else None)

    def collections(self) -> list[str]:
        """The names of all collections at the same address, sorted; empty before the first sync."""
        return self._connection.store.names()

    def endpoints(self) -> list[TrafficState]:
        """How it stands with each model that was asked at an endpoint: requests in flight, their limit, an outage."""
        return self._connection.models.endpoints.states()

    def embedder(self) -> Embedder:
        """What embeds the collection; before the first sync, what would."""
        return self._embedder(self._connection.find())

    def probe_embedder(self) -> tuple[str, int]:
        """Embed one word; returns the embedder's name and the length of its vectors."""
        embedder = self.embedder()
        return embedder.name, len(embedder.embed_query("test"))

    def embed(self, text: str) -> list[float]:
        """The vector of a question, as the collection's embedder makes it (unit length)."""
        vector: list[float] = self.embedder().embed_query(text).tolist()
        return vector

    def count(self) -> int:
        """The number of chunks in the collection."""
        return self.collection().count()

    def collection(self) -> Collection:
        """The opened collection, for what reads its chunks or searches a single leg; raises `UnknownCollection`."""
        opened = self._connection.collection()
        return opened if self._groups is None else opened.restricted_to(self._groups)

    def remove(self, source: str | Path) -> int:
        """Delete a document, or all documents below a folder or archive; returns how many chunks there were.

        An uploaded file is deleted with its last document. Raises `StoreError` where nothing of that source is stored,
        and `AccessDenied`, having deleted nothing, where a restricted one may not delete all that it sees of it.
        """
        from citekite.ingest.remove import remove

        with self._connection.changing():
            stored, uploads = self._connection.collection(), uploads_of(self.settings)
            return remove(str(source), stored, self.collection(), Grant(groups=self._groups), uploads)

    def set_tuned(
        self, *, lexical_weight: float | None = None, k: int | None = None, abstain_threshold: float | None = None
    ) -> None:
        """Record with the collection what is used where the settings leave it open; None stands for the default."""
        self._require_everything("tuning")
        with self._connection.changing(), self.collection().writing() as writer:
            writer.set_tuned(lexical_weight=lexical_weight, k=k, abstain_threshold=abstain_threshold)

    def reindex(self, *, report: Callable[[Progress], None] = _no_report) -> int:
        """Embed every chunk anew with the embedder of the settings, into a new collection that then takes the name.

        The old one serves until the swap, and stays when anything fails; an interrupted reindex is continued by the
        next. Returns the number of chunks.
        """
        from citekite.ingest.reindex import reindex

        self._require_everything("a reindex")
        with self._connection.changing(), resumable():
            count = reindex(
                self._connection.store, self.settings.collection, self._connection.models.new_embedder(), report
            )
            self._connection.forget()
            return count

    def close(self) -> None:
        """Close the database; a later call opens it again."""
        if self._groups is None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_everything(self, action: str) -> None:
        if self._groups is not None:
            raise AccessDenied(f"{action} is for the whole collection, and this sees only what its groups may")

    def _embedder(self, collection: Collection | None) -> Embedder:
        return self._connection.models.embedder(collection.record if collection else None)
