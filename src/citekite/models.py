"""The models that a knowledge base works with, each made from the settings when it is first needed."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from citekite.errors import SettingsError
from citekite.settings import Settings

if TYPE_CHECKING:
    from citekite.endpoint.choose import Endpoints
    from citekite.ports import Embedder, Generator, Reranker
    from citekite.store.record import CollectionRecord


class Models:
    """Embedder, reranker and chat model of one knowledge base; safe to use from several threads.

    What is learned of their endpoints is shared with the models `beside`.
    """

    def __init__(self, settings: Settings, beside: Models | None = None) -> None:
        self._settings = settings
        self._beside = beside
        self._embedder: Embedder | None = None
        self._endpoints: Endpoints | None = None
        self._lock = threading.RLock()

    @property
    def endpoints(self) -> Endpoints:
        """The endpoints where the models are."""
        from citekite.endpoint.choose import Endpoints

        with self._lock:
            if self._endpoints is None:
                self._endpoints = self._beside.endpoints if self._beside is not None else Endpoints()
            return self._endpoints

    def embedder(self, record: CollectionRecord | None) -> Embedder:
        """The embedder for a collection with that record: the settings decide; where they leave it open, the record.

        Raises `EmbedderMismatch` where the settings name another embedder than the one that built the collection.
        """
        from citekite.embed.choose import check_embedder, make_embedder, make_embedder_named, names_embedder

        with self._lock:
            if self._embedder is None:
                dimension = record.dimension if record else None
                recorded = record.embedder if record and not names_embedder(self._settings) else None
                self._embedder = (
                    make_embedder_named(recorded, self._settings, self.endpoints, dimension=dimension)
                    if recorded
                    else make_embedder(self._settings, self.endpoints, dimension=dimension)
                )
            if record is not None:
                check_embedder(self._embedder, record.embedder, self._settings.collection)
            return self._embedder

    @property
    def clients(self) -> tuple[str, ...]:
        """The modules of the endpoint's client, in the order in which they are needed; none without an endpoint."""
        if not (self._settings.provider or self._settings.base_url):
            return ()
        return ("openai", "openai.resources.embeddings", "openai.resources.chat.completions")

    def warm_up(self, record: CollectionRecord | None) -> None:
        """Load what the first question would wait for; no endpoint is asked."""
        local = not self.embedder(record).name.startswith("api:")
        if local:
            self.embedder(record).embed_query("question")
        if self.generator is not None or not local:
            import openai  # noqa: F401

    def new_embedder(self) -> Embedder:
        """The embedder of the settings alone, also for what is asked next: the collection is built anew with it."""
        from citekite.embed.choose import make_embedder

        with self._lock:
            self._embedder = make_embedder(self._settings, self.endpoints)
            return self._embedder

    def context_model(self, record: CollectionRecord | None) -> Generator | None:
        """The chat model that writes contexts, None for a collection without: the settings decide, else the record.

        Raises `SettingsError` where contexts are wanted and the settings name no chat model.
        """
        from citekite.answer.generate import make_generator

        recorded = record.contextual if record is not None else ""
        if self._settings.contextual is False or not (self._settings.contextual or recorded):
            return None
        if record is not None and not record.has_contexts:
            raise SettingsError(
                f"collection {self._settings.collection!r} was made by an earlier citekite and has no field for "
                "contexts: `citekite reindex` adds it; the same command then works"
            )
        if not (self._settings.provider or self._settings.base_url):
            wanted = f"the collection was built with contexts by {recorded!r}" if recorded else "contextual is set"
            without = "drops all contexts of the collection" if recorded else "stores the chunks without"
            raise SettingsError(
                f"{wanted}, but no endpoint of a model that writes them: set FIREWORKS_API_KEY or OPENAI_API_KEY, or "
                f"`base_url` (--base-url, CITEKITE_BASE_URL) and `model`; --no-contextual {without}"
            )
        # Contexts are recorded with the model that wrote them, so no other one may write some.
        named = {} if self._settings.contextual or not recorded else {"model": recorded}
        return make_generator(self._settings.model_copy(update=named), self.endpoints, alone=True)

    @cached_property
    def generator(self) -> Generator | None:
        """The chat model, or None where the settings name none."""
        from citekite.answer.generate import make_generator

        return make_generator(self._settings, self.endpoints)

    @cached_property
    def reranker(self) -> Reranker | None:
        """The reranker, or None where the settings name none."""
        from citekite.retrieve.rerank import make_reranker

        return make_reranker(self._settings, self.endpoints)
