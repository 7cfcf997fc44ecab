"""What is known about model providers and embedding models: addresses, key variables, prefixes, sizes.

Small tables on purpose: a name that is not here still works, with the neutral defaults. Sources stand beside the rows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provider:
    """An OpenAI-style endpoint: where it is, which variable holds its key, which models it is asked for by default."""

    name: str
    base_url: str
    key_variable: str
    embedding_model: str
    model: str
    rerank_model: str = ""
    needs_key: bool = True


PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        # https://docs.fireworks.ai/tools-sdks/openai-compatibility
        Provider(
            name="fireworks",
            base_url="https://api.fireworks.ai/inference/v1",
            key_variable="FIREWORKS_API_KEY",
            embedding_model="nomic-ai/nomic-embed-text-v1.5",
            model="accounts/fireworks/models/glm-5p3-flash",
            # POST /rerank in https://docs.fireworks.ai/
            rerank_model="accounts/fireworks/models/qwen3-reranker-8b",
        ),
        # https://platform.openai.com/docs/api-reference
        Provider(
            name="openai",
            base_url="https://api.openai.com/v1",
            key_variable="OPENAI_API_KEY",
            embedding_model="text-embedding-3-small",
            model="gpt-4.1-mini",
        ),
        # https://github.com/ollama/ollama/blob/main/docs/openai.md
        Provider(
            name="ollama",
            base_url="http://127.0.0.1:11434/v1",
            key_variable="",
            embedding_model="nomic-embed-text",
            model="llama3.2",
            needs_key=False,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """How an embedding model wants its input: what is put in front of a passage and of a question, and its limits."""

    document_prefix: str = ""
    query_prefix: str = ""
    dimension: int | None = None
    max_tokens: int = 8192
    english_only: bool = False


# Looked up by the part of the model's name that vendors keep: "nomic-ai/nomic-embed-text-v1.5" on Fireworks is
# "nomic-embed-text" on Ollama. The first row whose key stands in the lower-cased name is taken.
EMBEDDING_MODELS: tuple[tuple[str, EmbeddingModel], ...] = (
    (
        # https://huggingface.co/nomic-ai/nomic-embed-text-v2-moe: multilingual, 512 tokens
        "nomic-embed-text-v2",
        EmbeddingModel("search_document: ", "search_query: ", 768, 512),
    ),
    (
        # https://huggingface.co/nomic-ai/nomic-embed-text-v1.5: both prefixes required
        "nomic-embed-text",
        EmbeddingModel("search_document: ", "search_query: ", 768, 8192, english_only=True),
    ),
    (
        # https://huggingface.co/Qwen/Qwen3-Embedding-8B: an instruction on the query side only
        "qwen3-embedding",
        EmbeddingModel(
            query_prefix=(
                "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
            ),
            max_tokens=32768,
        ),
    ),
    (
        # https://huggingface.co/intfloat/multilingual-e5-large
        "multilingual-e5",
        EmbeddingModel("passage: ", "query: ", max_tokens=512),
    ),
    (
        # https://huggingface.co/mixedbread-ai/mxbai-embed-large-v1
        "mxbai-embed",
        EmbeddingModel(
            query_prefix="Represent this sentence for searching relevant passages: ",
            max_tokens=512,
            english_only=True,
        ),
    ),
    (
        # https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2: trained on 256 word pieces
        "minilm-l6",
        EmbeddingModel(dimension=384, max_tokens=256, english_only=True),
    ),
    # https://platform.openai.com/docs/guides/embeddings
    ("text-embedding-3-small", EmbeddingModel(dimension=1536, max_tokens=8191)),
    ("text-embedding-3-large", EmbeddingModel(dimension=3072, max_tokens=8191)),
)


def embedding_model(name: str) -> EmbeddingModel:
    """What is known about an embedding model by its name, or the neutral defaults.

    >>> embedding_model("nomic-ai/nomic-embed-text-v1.5").query_prefix
    'search_query: '
    >>> embedding_model("something-new").query_prefix
    ''
    """
    lowered = name.lower()
    for key, model in EMBEDDING_MODELS:
        if key in lowered:
            return model
    return EmbeddingModel()
