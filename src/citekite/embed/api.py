"""Embeddings from any OpenAI-style endpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from citekite.embed.vectors import unit_vectors
from citekite.endpoint import Endpoint
from citekite.ports import Vectors
from citekite.providers import embedding_model


class ApiEmbedder:
    """An embedding model behind an endpoint; prefixes and limits by the model's name unless given.

    `dimensions` asks the model for shorter vectors. The dimension is known from the first reply on, and every later
    one must have the same. Errors: `EndpointError`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        dimensions: int | None = None,
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
        self._dimension = dimensions
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
        vectors = self._endpoint.embeddings(
            self._model, texts, self._dimensions, expected=lambda: self._dimension, patient=patient
        )
        self._dimension = vectors.shape[1]
        return unit_vectors(vectors)
