"""Embeddings from any OpenAI-style endpoint."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from citekite.embed.vectors import unit_vectors
from citekite.endpoint.client import Endpoint
from citekite.ports import Vectors
from citekite.providers import embedding_model


class ApiEmbedder:
    """An embedding model behind an endpoint; prefixes and limits by the model's name unless given.

    `dimensions` asks the model for shorter vectors. All have one dimension: `dimension` where that is known, as from a
    collection, else that of the first reply; a reply of another is asked for again. Errors: `EndpointError`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        dimensions: int | None = None,
        dimension: int | None = None,
        document_prefix: str | None = None,
        query_prefix: str | None = None,
        concurrency: int = 16,
        batch_size: int = 256,
    ) -> None:
        known = embedding_model(model)
        self._concurrency = concurrency
        self.batch_size = batch_size
        self.max_tokens = known.max_tokens
        self.english_only = known.english_only
        self._endpoint = endpoint
        self._model = model
        self._dimensions = dimensions
        self._dimension = dimensions or dimension
        self._lock = threading.Lock()
        self._document_prefix = known.document_prefix if document_prefix is None else document_prefix
        self._query_prefix = known.query_prefix if query_prefix is None else query_prefix

    @property
    def concurrency(self) -> int:
        """How many calls may run at once: as many as set, and fewer while the endpoint is overloaded."""
        return min(self._concurrency, self._endpoint.traffic(self._model).limiter.limit)

    @property
    def name(self) -> str:
        return f"api:{self._model}@{self._dimensions}" if self._dimensions else f"api:{self._model}"

    @property
    def dimension(self) -> int | None:
        return self._dimension

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._document_prefix + text for text in texts], patient=True)

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        vector: npt.NDArray[np.float32] = self._embed([self._query_prefix + text], patient=False)[0]
        return vector

    def _embed(self, texts: list[str], *, patient: bool) -> Vectors:
        return unit_vectors(
            self._endpoint.embeddings(self._model, texts, self._dimensions, expected=self._expect, patient=patient)
        )

    def _expect(self, dimension: int) -> int:
        """The dimension that all vectors have: of replies that come at the same time, one is the first."""
        with self._lock:
            self._dimension = self._dimension or dimension
            return self._dimension
