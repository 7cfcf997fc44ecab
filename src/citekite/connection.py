"""The database of the settings and the collection in it that is worked with, opened at first use."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from citekite.models import Models
from citekite.settings import Settings

if TYPE_CHECKING:
    from citekite.ports import Embedder, Splitter
    from citekite.store.collection import Collection
    from citekite.store.milvus import MilvusStore


class Connection:
    """What the knowledge bases of one collection share: store, opened collection, models.

    Threads may use it; `lock` is held by what writes, so that a write waits for the one before.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.models = Models(settings)
        self.lock = threading.RLock()
        self._opened: Collection | None = None

    @cached_property
    def store(self) -> MilvusStore:
        """The store that the settings name; not connected before it is used."""
        from citekite.store.milvus import MilvusStore

        return MilvusStore.from_settings(self.settings)

    def collection(self) -> Collection:
        """The opened collection; raises `UnknownCollection`."""
        if (opened := self._opened) is not None:  # a search need not wait for a sync to end
            return opened
        with self.lock:
            if self._opened is None:
                self._opened = self.store.open(self.settings.collection)
            return self._opened

    def find(self) -> Collection | None:
        """The opened collection, or None before the first sync."""
        with self.lock:
            if self._opened is None:
                self._opened = self.store.find(self.settings.collection)
            return self._opened

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
        self._opened = self.store.create(self.settings.collection, record)
        return self._opened

    def forget(self) -> None:
        """Open the collection anew at the next use: another one may have taken its name."""
        self._opened = None

    def abandon(self) -> None:
        """Let go without another flush, after a full disk."""
        self._opened = None
        self.store.abandon()

    def close(self) -> None:
        """Close the database; a later use opens it again."""
        with self.lock:
            self._opened = None
            if "store" in self.__dict__:
                self.store.close()
                del self.__dict__["store"]
