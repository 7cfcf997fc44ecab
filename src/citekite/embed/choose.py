"""Which embedder the settings mean, or the name recorded with a collection."""

from __future__ import annotations

import re

from citekite.embed.api import ApiEmbedder
from citekite.embed.sentence_transformers import SentenceTransformersEmbedder
from citekite.embed.static import MODEL as STATIC_MODEL
from citekite.embed.static import StaticEmbedder
from citekite.endpoint.choose import Endpoints, model_for
from citekite.errors import EmbedderMismatch, SettingsError
from citekite.ports import Embedder
from citekite.settings import EmbedderKind, Settings


def make_embedder(settings: Settings, endpoints: Endpoints | None = None, *, dimension: int | None = None) -> Embedder:
    """The embedder that the settings name, else `api` where they name an endpoint, else `static`.

    `dimension` is that of the collection which it is for, where there is one.

    >>> make_embedder(Settings()).name
    'static:wordllama-l2-supercat-256'
    """
    kind: EmbedderKind = settings.embedder or ("api" if _has_endpoint(settings) else "static")
    if kind == "api":
        return _api(settings, endpoints, settings.embedding_model, settings.dimensions, dimension)
    if kind == "static":
        if settings.embedding_model:
            raise SettingsError(
                f"embedding_model {settings.embedding_model!r} needs another embedder than 'static': set `embedder` to "
                "'sentence-transformers' for a local model, or `provider` or `base_url` for one at an endpoint"
            )
        return _static(settings, settings.dimensions)
    if not settings.embedding_model:
        raise SettingsError(
            "the embedder 'sentence-transformers' needs a model: set `embedding_model` (--embedding-model, "
            "CITEKITE_EMBEDDING_MODEL) to the folder of a model, or to a name on Hugging Face"
        )
    return _sentence_transformers(settings, settings.embedding_model, settings.dimensions)


def make_embedder_named(
    name: str, settings: Settings, endpoints: Endpoints | None = None, *, dimension: int | None = None
) -> Embedder:
    """The embedder that built a collection, from its recorded `name`; addresses, keys and prefixes from the settings.

    `dimension` is that of the collection, where it is known. Raises `SettingsError` where the settings name no endpoint
    for an `api` name, or the name is none of ours.
    """
    kind, _, rest = name.partition(":")
    model, dimensions = _model_and_dimensions(rest)
    if kind == "api" and model:
        if not _has_endpoint(settings):
            raise SettingsError(
                f"the collection was built with the embedder {name!r}, and no model endpoint is set: set "
                "FIREWORKS_API_KEY or OPENAI_API_KEY, or `base_url` (--base-url, CITEKITE_BASE_URL) where it is served"
            )
        return _api(settings, endpoints, model, dimensions, dimension)
    if kind == "sentence-transformers" and model:
        return _sentence_transformers(settings, model, dimensions)
    if kind == "static" and (match := re.fullmatch(rf"{STATIC_MODEL}-(\d+)", rest)):
        return _static(settings, int(match[1]))
    raise SettingsError(
        f"the collection was built with an embedder {name!r} that this version does not have; "
        "`citekite reindex` builds it again with the present one"
    )


def names_embedder(settings: Settings) -> bool:
    """Whether the settings choose an embedder themselves, rather than leave it to the keys that are there."""
    return bool(settings.embedder or settings.embedding_model or settings.dimensions)


def check_embedder(embedder: Embedder, recorded: str, collection: str) -> None:
    """Raise `EmbedderMismatch` where a collection was built with another embedder."""
    if embedder.name != recorded:
        raise EmbedderMismatch(
            f"collection {collection!r} was built with the embedder {recorded!r}, the settings name "
            f"{embedder.name!r}: leave the embedder settings out to use the first, or run `citekite reindex` with the "
            "same settings to embed everything anew with the second"
        )


def _has_endpoint(settings: Settings) -> bool:
    return bool(settings.provider or settings.base_url or settings.embedding_base_url)


def _model_and_dimensions(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.+)@([1-9]\d*)", text)
    return (match[1], int(match[2])) if match else (text, None)


def _api(
    settings: Settings,
    endpoints: Endpoints | None,
    model: str | None,
    dimensions: int | None,
    dimension: int | None,
) -> ApiEmbedder:
    endpoint = (endpoints or Endpoints()).get(settings, "embedding")
    return ApiEmbedder(
        endpoint,
        model or model_for(settings, "embedding", endpoint),
        dimensions=dimensions,
        dimension=dimension,
        document_prefix=settings.document_prefix,
        query_prefix=settings.query_prefix,
        concurrency=settings.concurrency,
        batch_size=settings.batch_size,
    )


def _static(settings: Settings, dimensions: int | None) -> StaticEmbedder:
    return StaticEmbedder(dimensions, document_prefix=settings.document_prefix, query_prefix=settings.query_prefix)


def _sentence_transformers(settings: Settings, model: str, dimensions: int | None) -> SentenceTransformersEmbedder:
    return SentenceTransformersEmbedder(
        model,
        dimensions=dimensions,
        document_prefix=settings.document_prefix,
        query_prefix=settings.query_prefix,
    )
