"""The database of the settings and the collection in it that is worked with, opened at first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from citekite.errors import CollectionExists, DiskFull, EndpointReply, EndpointUnavailable, SettingsError
from citekite.models import Models
from citekite.reports import CollectionStatus
from citekite.settings import Settings
from citekite.telemetry import Telemetry, make_telemetry

if TYPE_CHECKING:
    from citekite.access import Grant
    from citekite.ingest.context_writer import ContextWriter
    from citekite.ingest.embedding import Embedding
    from citekite.ingest.scan import Scan
    from citekite.ports import Embedder, Reporter, Splitter
    from citekite.store.collection import Collection
    from citekite.store.milvus import MilvusStore


class Connection:
    """What the knowledge bases of one collection share: store, opened collection, models.

    Threads may use it; `lock` is held by what writes, so that a write waits for the one before. With `beside` the store
    is that of another connection, which closes it, and what is known of the model endpoints is shared.
    """

    def __init__(self, settings: Settings, beside: Connection | None = None) -> None:
        self.settings = settings
        self._beside = beside
        self.models: Models = Models(settings, beside.models if beside else None)
        self.lock = threading.RLock()
        self._opened: tuple[int, Collection] | None = None  # with the session of the store

    @property
    def is_open(self) -> bool:
        """Whether the collection was found, and is held open."""
        return self._opened is not None

    @cached_property
    def store(self) -> MilvusStore:
        """The store that the settings name; not connected before it is used."""
        if self._beside is not None:
            return self._beside.store
        from citekite.store.milvus import MilvusStore

        return MilvusStore.from_settings(self.settings)

    @cached_property
    def telemetry(self) -> Telemetry:
        """What records what runs here; raises `MissingExtra`."""
        return self._beside.telemetry if self._beside is not None else make_telemetry(self.settings)

    def collection(self) -> Collection:
        """The opened collection; raises `UnknownCollection`."""
        if (opened := self._current()) is not None:  # a search need not wait for a sync to end
            return opened
        with self.lock:
            if (opened := self._current()) is None:
                opened = self._keep(self.store.open(self.settings.collection))
            return opened

    def find(self) -> Collection | None:
        """The opened collection, or None before the first sync."""
        with self.lock:
            if (opened := self._current()) is None and (found := self.store.find(self.settings.collection)) is not None:
                opened = self._keep(found)
            return opened

    def create(self, embedder: Embedder, dimension: int, splitter: Splitter) -> Collection:
        """A new empty collection for vectors of that length."""
        from citekite.ingest.contextual import contextual_model
        from citekite.store.record import CollectionRecord

        record = CollectionRecord(
            embedder=embedder.name,
            dimension=dimension,
            english_only=embedder.english_only,
            splitter=splitter.fingerprint,
            contextual=contextual_model(splitter),
        )
        return self._keep(self.store.create(self.settings.collection, record))

    def create_empty(self) -> None:
        """Make the collection for the embedder of the settings; raises `CollectionExists`."""
        with self.changing():
            if self.find() is not None:
                raise CollectionExists(f"there is a collection {self.settings.collection!r} already")
            embedder = self.models.embedder(None)
            splitter, _ = self.splitter(embedder, None, lambda progress: None)
            self.create(embedder, len(embedder.embed_query("test")), splitter)

    def drop(self) -> None:
        """Delete the collection with all that is in it; raises `UnknownCollection`."""
        with self.changing():
            self.store.drop(self.settings.collection)
            self.forget()

    def status(self, collection: Collection) -> CollectionStatus:
        """What the collection, as a reader sees it, holds and how it was made."""
        documents = collection.documents()
        record = collection.reload_record()
        return CollectionStatus(
            uri=self.settings.uri,
            server=self.store.server_version(),
            collection=self.settings.collection,
            collections=tuple(self.store.names()),
            documents=len(documents),
            chunks=collection.count(),
            embedder=record.embedder,
            dimension=record.dimension,
            splitter=record.splitter,
            contextual=record.contextual,
            tuned=record.tuned,
        )

    def splitter(
        self, embedder: Embedder, collection: Collection | None, report: Reporter
    ) -> tuple[Splitter, ContextWriter | None]:
        """The splitter, and what writes contexts for its chunks in a contextual collection."""
        from citekite.ingest.context_writer import splitter_and_contexts

        generator = self.models.context_model(collection.record if collection else None)
        return splitter_and_contexts(self.settings, embedder.max_tokens, generator, report)

    def scan(
        self,
        sources: Sequence[str | Path],
        grant: Grant,
        collection: Collection | None,
        splitter: Splitter,
        report: Reporter,
        **globs: Sequence[str] | None,
    ) -> Scan:
        """One pass over the sources; `include` and `exclude` among `globs` take the place of those of the settings."""
        from citekite.ingest.base import LoadOptions
        from citekite.ingest.scan import Scan

        given = {name: tuple(patterns) for name, patterns in globs.items() if patterns is not None}
        options = LoadOptions.from_settings(self.settings.model_copy(update=given))
        return Scan([str(source) for source in sources], collection, splitter, options, report, grant)

    def embedding(
        self,
        scan: Scan,
        embedder: Embedder,
        contexts: ContextWriter | None,
        report: Reporter,
        stopped: Callable[[], bool],
    ) -> Embedding:
        """The stage of a sync that reads and embeds, on the engine of the settings."""
        if self.settings.engine == "local":
            from citekite.ingest.embedding import LocalEmbedding

            return LocalEmbedding(scan, embedder, contexts, stopped)
        if contexts is not None:
            raise SettingsError(
                "the engine 'ray' writes no contexts: use --engine local for this collection, or --no-contextual, "
                "which drops the contexts that it has"
            )
        from citekite.ingest.ray_engine import RayEmbedding

        return RayEmbedding(scan, self.settings, embedder, report, stopped)

    def forget(self) -> None:
        """Open the collection anew at the next use: another one may have taken its name."""
        self._opened = None

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock of what writes; when the disk is full, let go of the database without another flush."""
        with self.lock, self.telemetry.active():
            try:
                yield
            except DiskFull:
                self.store.abandon()  # what is opened is kept: its search index serves on when it is opened anew
                raise

    def _current(self) -> Collection | None:
        """What was opened, unless the database was abandoned since then."""
        opened = self._opened
        return opened[1] if opened is not None and opened[0] == self.store.session else None

    def _keep(self, collection: Collection) -> Collection:
        self._opened = self.store.session, collection
        return collection

    def close(self) -> None:
        """Close the database; a later use opens it again."""
        with self.lock:
            self._opened = None
            if (store := self.__dict__.pop("store", None)) is not None and self._beside is None:
                store.close()


@contextmanager
def resumable() -> Iterator[None]:
    """Let a fault of the model endpoint say that what was embedded is stored, and not lost."""
    try:
        yield
    except (EndpointUnavailable, EndpointReply) as error:
        told = f"{error} What was embedded until then is stored: the same command goes on from there."
        raise type(error)(told) from None
