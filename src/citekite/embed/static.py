"""The embedded default: wordllama's static token vectors, bundled in its wheel, so no key and no download."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from citekite.embed.vectors import unit_vectors
from citekite.errors import SettingsError
from citekite.ports import Vectors
from citekite.wellformed import well_formed

# The bundled model is trained so that its first 64 or 128 components also serve (Matryoshka).
# https://huggingface.co/dleemiller/word-llama-l2-supercat
MODEL = "wordllama-l2-supercat"
DIMENSIONS = (64, 128, 256)


class StaticEmbedder:
    """The mean of the tokens' vectors, from tables in memory; loaded on first use, without network.

    `dimensions` is 64, 128 or 256 (the default); anything else raises `SettingsError`.

    >>> embedder = StaticEmbedder()
    >>> embedder.name, embedder.embed_query("Where does Milvus store data?").shape
    ('static:wordllama-l2-supercat-256', (256,))
    """

    english_only = True
    # No limit of the model: the mean of a longer text says little, and its tokens cost memory (1 KB each).
    max_tokens = 8192
    # The tokenizer uses all cores by itself.
    concurrency = 1
    # Rows for one insert of the store; the speed is the same from 64 up.
    batch_size = 512

    def __init__(
        self, dimensions: int | None = None, *, document_prefix: str | None = None, query_prefix: str | None = None
    ) -> None:
        if dimensions is not None and dimensions not in DIMENSIONS:
            raise SettingsError(f"the static embedder has no {dimensions!r} dimensions: set `dimensions` to {_CHOICES}")
        self._dimension = dimensions or DIMENSIONS[-1]
        self._document_prefix = document_prefix or ""
        self._query_prefix = query_prefix or ""

    @property
    def name(self) -> str:
        return f"static:{MODEL}-{self._dimension}"

    @property
    def dimension(self) -> int | None:
        return self._dimension

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._document_prefix + text for text in texts])

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        vector: npt.NDArray[np.float32] = self._embed([self._query_prefix + text])[0]
        return vector

    def _embed(self, texts: list[str]) -> Vectors:
        # wordllama's own embed() pads every text to the longest of its batch and divides by zero for a text without
        # tokens; summing row by row is 2.4 times as fast as that on texts sorted by length, and needs neither.
        table = self._model.embedding
        sums = np.zeros((len(texts), self._dimension), dtype=np.float32)
        encodings = self._model.tokenizer.encode_batch_fast(list(map(well_formed, texts)), add_special_tokens=False)
        for row, encoding in zip(sums, encodings, strict=True):
            ids = encoding.ids
            for start in range(0, len(ids), self.max_tokens):
                row += table[ids[start : start + self.max_tokens], : self._dimension].sum(axis=0)
        return unit_vectors(sums)

    @cached_property
    def _model(self) -> Any:
        wordllama = _import_wordllama()
        # Its own folder as the cache: that is where the wheel has weights and tokenizer, and plain load() would ask
        # the network for the tokenizer.
        model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
        model.tokenizer.no_padding()
        return model


_CHOICES = ", ".join(map(str, DIMENSIONS[:-1])) + f" or {DIMENSIONS[-1]}"


def _import_wordllama() -> Any:
    """Import wordllama without what it does to the root logger.

    It calls `logging.basicConfig(level=INFO)`, which does nothing where the root logger has a handler: it gets one for
    as long as the import takes.
    """
    root, placeholder = logging.getLogger(), logging.NullHandler()
    root.addHandler(placeholder)
    try:
        import wordllama
    finally:
        root.removeHandler(placeholder)
    return wordllama
