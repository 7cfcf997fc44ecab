"""The seams, as Protocols: what a stage needs of the next, and what another implementation has to offer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from citekite.reports import Progress
from citekite.types import Chunk, Document, Usage

Vectors = npt.NDArray[np.float32]
Reporter = Callable[[Progress], None]


class Splitter(Protocol):
    """Cuts a document into chunks."""

    @property
    def fingerprint(self) -> str:
        """Name and settings; a change of it makes every document count as changed."""
        ...

    def split(self, document: Document) -> list[Chunk]:
        """The document's chunks in order; `document.text[c.start:c.end] == c.text` for each."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors of unit length."""

    @property
    def name(self) -> str:
        """Kind and model, such as `api:nomic-ai/nomic-embed-text-v1.5`; recorded with the collection."""
        ...

    @property
    def dimension(self) -> int | None:
        """The length of a vector; None while it is not known (the first vectors tell)."""
        ...

    @property
    def english_only(self) -> bool:
        """Whether the model was made for English alone (the lexical leg then weighs more elsewhere)."""
        ...

    @property
    def max_tokens(self) -> int:
        """The most tokens of one text that the model reads."""
        ...

    @property
    def concurrency(self) -> int:
        """How many calls of `embed_documents` may run at once, from threads."""
        ...

    @property
    def batch_size(self) -> int:
        """The most texts of one call of `embed_documents`."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """The vectors of one batch of passages, shape `(len(texts), dimension)`, checked and of unit length."""
        ...

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        """The vector of a question, shape `(dimension,)`, of unit length."""
        ...


class Reranker(Protocol):
    """Orders passages by how well they answer a question, reading both together."""

    @property
    def name(self) -> str:
        """Kind and model, such as `api:accounts/fireworks/models/qwen3-reranker-8b`."""
        ...

    def rerank(self, query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
        """The documents as `(index, score)`, best first; raises `CitekiteError`."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """One message to a chat model; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed reply: text, or at the end the reason it stopped, the usage, and who `answered_by` itself.

    Where another model writes than the generator's own, a piece before all text names it, and `note` says why.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str = ""
    note: str = ""
    answered_by: str = field(default="", compare=False)


class Generator(Protocol):
    """A chat model that streams."""

    @property
    def model(self) -> str:
        """The model's name at its endpoint."""
        ...

    def stream(self, messages: Sequence[Message], *, seconds: float = math.inf) -> Iterator[Piece]:
        """The reply in pieces, as far as it comes within `seconds`; closing the iterator ends the request.

        Raises `EndpointError`, also where nothing comes in that time.
        """
        ...
