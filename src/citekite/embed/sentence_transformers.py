"""Local models through the sentence-transformers library, an extra: it brings torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from citekite.embed.vectors import unit_vectors
from citekite.errors import SettingsError, importing
from citekite.ports import Vectors
from citekite.providers import embedding_model
from citekite.wellformed import well_formed


class SentenceTransformersEmbedder:
    """A model by its local path or its name, loaded on first use on the device that the library chooses.

    Raises `MissingExtra` where sentence-transformers is not installed, `SettingsError` where the model cannot be
    loaded. https://sbert.net/docs/package_reference/sentence_transformer/SentenceTransformer.html
    """

    concurrency = 1
    # Two of the library's own batches, which it forms by length; on two cores all-MiniLM takes 2 to 4 s for them.
    batch_size = 64

    def __init__(
        self,
        model: str,
        *,
        dimensions: int | None = None,
        document_prefix: str | None = None,
        query_prefix: str | None = None,
    ) -> None:
        known = embedding_model(model)
        self.english_only = known.english_only
        self._model_name = model
        self._known_tokens = known.max_tokens
        self._dimensions = dimensions
        self._dimension = dimensions
        self._document_prefix = known.document_prefix if document_prefix is None else document_prefix
        self._query_prefix = known.query_prefix if query_prefix is None else query_prefix

    @property
    def name(self) -> str:
        suffix = f"@{self._dimensions}" if self._dimensions else ""
        return f"sentence-transformers:{self._model_name}{suffix}"

    @property
    def dimension(self) -> int | None:
        return self._dimension

    @property
    def max_tokens(self) -> int:
        return int(self._model.max_seq_length or self._known_tokens)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._document_prefix + text for text in texts])

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        vector: npt.NDArray[np.float32] = self._embed([self._query_prefix + text])[0]
        return vector

    def _embed(self, texts: list[str]) -> Vectors:
        # prompt="": a prompt that the model's own configuration names would come on top of our prefix
        clean = [well_formed(text) for text in texts]
        vectors = self._model.encode(clean, prompt="", convert_to_numpy=True, show_progress_bar=False)
        self._dimension = vectors.shape[1]
        return unit_vectors(vectors)

    @cached_property
    def _model(self) -> Any:
        with importing("sentence_transformers", "sentence-transformers", "the embedder 'sentence-transformers'"):
            from sentence_transformers import SentenceTransformer
        try:
            return SentenceTransformer(self._model_name, truncate_dim=self._dimensions)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"sentence-transformers cannot load the model {self._model_name!r}: {error}. "
                "Set `embedding_model` to the folder of a model, or to a name on Hugging Face."
            ) from error
