"""The embedded default: wordllama's static token vectors, bundled in its wheel, so no key and no download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
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
        tokenizer, table = self._model
        sums = np.zeros((len(texts), self._dimension), dtype=np.float32)
        encodings = tokenizer.encode_batch_fast(list(map(well_formed, texts)), add_special_tokens=False)
        for row, encoding in zip(sums, encodings, strict=True):
            ids = encoding.ids
            for start in range(0, len(ids), self.max_tokens):
                row += table[ids[start : start + self.max_tokens], : self._dimension].sum(axis=0)
        return unit_vectors(sums)

    @cached_property
    def _model(self) -> tuple[Any, Vectors]:
        """The tokenizer and the table of the tokens' vectors, read from the files in wordllama's wheel.

        Not by wordllama: importing it takes longer than reading both (it brings requests), its plain load() asks the
        network for the tokenizer, and it sets up the root logger.
        """
        from safetensors import safe_open
        from tokenizers import Tokenizer

        folder = _wordllama_folder()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        with safe_open(folder / "weights" / "l2_supercat_256.safetensors", framework="np") as weights:
            table: Vectors = weights.get_tensor("embedding.weight").astype(np.float32)
        return tokenizer, table


_CHOICES = ", ".join(map(str, DIMENSIONS[:-1])) + f" or {DIMENSIONS[-1]}"


def _wordllama_folder() -> Path:
    """Where wordllama is installed, without importing it."""
    found = find_spec("wordllama")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            "wordllama is not installed: install citekite with its dependencies", name="wordllama"
        )
    return Path(found.origin).parent
