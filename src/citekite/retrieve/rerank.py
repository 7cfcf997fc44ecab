"""Reranking: a model reads the question together with each passage found, and orders the passages anew."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from citekite.endpoint.choose import Endpoints, model_for
from citekite.endpoint.client import Endpoint
from citekite.errors import EndpointError, SettingsError, importing
from citekite.ports import Reranker
from citekite.settings import Settings
from citekite.types import Hit, Leg
from citekite.wellformed import well_formed

# A question waits for its reranker, and the order of the search is at hand: so many seconds without a byte are
# enough, and no further attempt begins after them.
SECONDS = 10.0

logger = logging.getLogger(__name__)


class ApiReranker:
    """A reranking model at an endpoint with `/rerank`, as Fireworks, Cohere, Jina and vLLM have it."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self.name = f"api:{model}"
        self._endpoint = endpoint
        self._model = model

    def rerank(self, query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
        """The documents as `(index, score)`, best first; the endpoint may leave some out. Raises `EndpointError`."""
        return self._endpoint.rerank(self._model, query, documents, len(documents))


class CrossEncoderReranker:
    """A local cross-encoder by its path or name, loaded on first use on the device that sentence-transformers chooses.

    Raises `MissingExtra` where the library is not installed, `SettingsError` where the model cannot be loaded.
    https://sbert.net/docs/package_reference/cross_encoder/cross_encoder.html
    """

    def __init__(self, model: str) -> None:
        self.name = f"sentence-transformers:{model}"
        self._model_name = model

    def rerank(self, query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
        """The documents as `(index, score)`, best first; the scale of a score is the model's."""
        question = well_formed(query)
        pairs = [(question, well_formed(document)) for document in documents]
        scores = [float(score) for score in self._model.predict(pairs, show_progress_bar=False)]
        return sorted(enumerate(scores), key=lambda pair: (-pair[1], pair[0]))

    @cached_property
    def _model(self) -> Any:
        with importing("sentence_transformers", "sentence-transformers", "the reranker 'sentence-transformers'"):
            from sentence_transformers import CrossEncoder
        try:
            return CrossEncoder(self._model_name)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"sentence-transformers cannot load the cross-encoder {self._model_name!r}: {error}. "
                "Set `rerank_model` to the folder of a model, or to a name on Hugging Face."
            ) from error


def make_reranker(settings: Settings, endpoints: Endpoints | None = None) -> Reranker | None:
    """The reranker that the settings name, or None; `SettingsError` where its endpoint, key or model is missing."""
    if settings.reranker == "none":
        return None
    if settings.reranker == "sentence-transformers":
        if not settings.rerank_model:
            raise SettingsError(
                "the reranker 'sentence-transformers' needs a model: set `rerank_model` (--rerank-model, "
                "CITEKITE_RERANK_MODEL) to the folder of a cross-encoder, or to a name on Hugging Face"
            )
        return CrossEncoderReranker(settings.rerank_model)
    quick = {name: min(getattr(settings, name), SECONDS) for name in ("timeout", "retry_seconds")}
    endpoint = (endpoints or Endpoints()).get(settings.model_copy(update=quick), "rerank")
    return ApiReranker(endpoint, model_for(settings, "rerank", endpoint))


def reranked(question: str, hits: Sequence[Hit], reranker: Reranker) -> tuple[list[Hit], tuple[str, ...]]:
    """The hits in the reranker's order, with its ranks and scores and a leg `rerank`; and a remark where it failed.

    Hits that the reranker leaves out come after the others as they were. When its endpoint fails, so do all of them.
    """
    try:
        ranking = reranker.rerank(question, [hit.chunk.indexed_text for hit in hits])
    except EndpointError as error:
        logger.warning("the reranker %s failed: %s", reranker.name, error)
        return list(hits), (f"The reranker failed, so the passages are in the order of the search: {error}",)
    ordered = [
        replace(hits[index], score=score, legs={**hits[index].legs, "rerank": Leg(rank, score)})
        for rank, (index, score) in enumerate(ranking, start=1)
    ]
    named = {index for index, _ in ranking}
    ordered += [hit for index, hit in enumerate(hits) if index not in named]
    return [replace(hit, rank=rank) for rank, hit in enumerate(ordered, start=1)], ()
