"""The settings as command line options: one table, from which every command takes the rows that it uses."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from citekite.errors import CitekiteError, status_of
from citekite.wellformed import printable

# Name of the setting -> type and help; a test holds the names against `Settings`.
OPTIONS: dict[str, tuple[Any, str]] = {
    "uri": (str, "Milvus: a local .db path, or the URI of a server or of Zilliz Cloud."),
    "token": (str, "Token of the Milvus server or of Zilliz Cloud."),
    "database": (str, "Name of the Milvus database."),
    "collection": (str, "Name of the collection."),
    "consistency": (str, "Consistency level: Strong, Session, Bounded or Eventually."),
    "source_token": (str, "Token of the server that `citekite copy` reads; better set in the environment."),
    "source_database": (str, "Name of the Milvus database that `citekite copy` reads."),
    "store_seconds": (
        float,
        "How long to wait for a Milvus server that restarts, in seconds; a question waits 10 at most.",
    ),
    "bulk_storage": (
        str,
        "Where files for a bulk load are staged: s3://bucket/folder of the Milvus server's own bucket.",
    ),
    "bulk_rows": (int, "From how many rows on a new collection is loaded by files."),
    "include": (list[str], "Take only files that match this glob (repeatable)."),
    "exclude": (list[str], "Leave out files that match this glob (repeatable)."),
    "text_column": (str, "Column or key with the text of a CSV or JSONL row."),
    "max_file_mb": (float, "Largest file, in MB."),
    "max_archive_mb": (float, "Largest unpacked archive, in MB."),
    "parse_seconds": (float, "Longest time to parse one PDF, EPUB or office file, in seconds."),
    "allow_private_urls": (bool, "Allow URLs of private and loopback addresses."),
    "engine": (str, "Where files are read and chunks embedded: local, or ray."),
    "ray_address": (str, "Address of a Ray cluster, or auto; by default the cores of this machine."),
    "splitter": (str, "How documents are split: sections, or separator."),
    "separator": (str, "Where the separator splitter cuts."),
    "chunk_characters": (int, "Longest chunk of the sections splitter, in characters."),
    "provider": (str, "Model endpoint: fireworks, openai or ollama."),
    "base_url": (str, "Base URL of any other OpenAI-style endpoint."),
    "api_key": (str, "Key of the model endpoint; better set in the environment."),
    "model": (str, "Chat model: writes the answers, and whatever else a model writes."),
    "fallback_models": (
        list[str],
        "Chat model at the same endpoint that answers where the one before is unavailable (repeatable).",
    ),
    "max_tokens": (int, "Longest reply of the chat model, in tokens."),
    "temperature": (float, "Sampling temperature of the chat model."),
    "timeout": (
        float,
        "Seconds to wait until an endpoint or web server sends something; a whole reply may take ten times as long.",
    ),
    "retry_seconds": (float, "Time budget for the retries of one request, in seconds."),
    "embedder": (str, "What embeds: static, api or sentence-transformers."),
    "embedding_model": (str, "Embedding model, or the folder of a local one."),
    "embedding_base_url": (str, "Endpoint for embeddings, where it is another one."),
    "embedding_api_key": (str, "Key for embeddings, where it is another one."),
    "dimensions": (int, "Length of the vectors, where the model lets one choose."),
    "document_prefix": (str, "Put in front of every passage; by default what the model asks for."),
    "query_prefix": (str, "Put in front of every question; by default what the model asks for."),
    "concurrency": (int, "Requests to the model endpoint at once."),
    "batch_size": (int, "Most texts in one embedding request."),
    "embedding_price": (float, "Price of a million embedded tokens; --dry-run then shows the cost."),
    "contextual": (
        bool,
        "Let the chat model write a context for each chunk, and index it too; by default as the collection was built.",
    ),
    "mode": (str, "Search legs: hybrid, dense or lexical."),
    "k": (int, "How many passages to retrieve; by default as tuned, else 5."),
    "fusion": (str, "How the legs are fused: convex (weighted scores) or rrf (ranks)."),
    "lexical_weight": (float, "Weight of the lexical leg, 0 to 1; by default as tuned, else by embedder and language."),
    "query_expansion": (str, "Let the chat model write further queries: none, multi-query or hyde."),
    "reranker": (str, "What reorders the passages found: none, api or sentence-transformers."),
    "rerank_model": (str, "Reranking model, or the folder of a local cross-encoder."),
    "rerank_base_url": (str, "Endpoint for reranking, where it is another one."),
    "rerank_api_key": (str, "Key for reranking, where it is another one."),
    "rerank_depth": (int, "How many passages are reranked."),
    "rerank_price": (float, "Price of a million tokens that the reranker reads."),
    "context_tokens": (int, "Token budget of the passages in a prompt."),
    "abstain_threshold": (float, "Least confidence of an answer without a chat model, 0 to 1; by default as tuned."),
    "verify": (str, "How an answer's sentences are checked: overlap, or model."),
    "prompt_price": (float, "Price of a million prompt tokens of the chat model."),
    "completion_price": (float, "Price of a million tokens that the chat model writes."),
    "deep_rounds": (int, "Most rounds of search of a deep answer."),
    "deep_tokens": (int, "Token budget of a deep answer."),
    "deep_seconds": (float, "Time budget of a deep answer, in seconds."),
    "host": (str, "Address to listen on; another one than loopback needs API keys."),
    "port": (int, "Port to listen on; 0 takes a free one."),
    "data_dir": (str, "Folder of keys, uploads, jobs and reports; by default beside the database."),
    "max_streams": (int, "Most requests that are answered at once; further ones are told to come again."),
    "max_upload_mb": (float, "Largest request with files, in MB."),
    "requests_per_minute": (
        int,
        "Most requests of one API key in a minute, on average; an idle one may spend a minute's at once.",
    ),
    "allowed_hosts": (list[str], "Further host names by which the server may be called (repeatable)."),
    "cors_origins": (list[str], "Web origins whose pages may call the server (repeatable)."),
    "mcp_sync": (bool, "Let MCP clients sync sources."),
    "telemetry": (bool, "Export traces and figures by OpenTelemetry, to where the OTEL_* variables say."),
    "telemetry_content": (bool, "Put the texts of questions, passages and answers into traces too."),
    "log_format": (str, "How the server logs: text, or json."),
    "log_level": (str, "What the server logs at least: debug, info, warning or error."),
    "server": (str, "Address of a citekite server to go through."),
    "key": (str, "API key of that server; better set in the environment."),
}

STORE = ("uri", "token", "database", "collection", "consistency", "store_seconds")
ORIGIN = ("source_token", "source_database")
LOAD = (
    "include",
    "exclude",
    "text_column",
    "max_file_mb",
    "max_archive_mb",
    "parse_seconds",
    "allow_private_urls",
    "splitter",
    "separator",
    "chunk_characters",
)
BULK = ("bulk_storage", "bulk_rows")
ENGINE = ("engine", "ray_address")
ENDPOINT = ("provider", "base_url", "api_key", "timeout", "retry_seconds")
EMBED = (
    "embedder",
    "embedding_model",
    "embedding_base_url",
    "embedding_api_key",
    "dimensions",
    "document_prefix",
    "query_prefix",
)
BATCH = ("concurrency", "batch_size", "embedding_price")
CONTEXT = ("contextual",)
RETRIEVE = (
    "k",
    "mode",
    "fusion",
    "lexical_weight",
    "query_expansion",
    "reranker",
    "rerank_model",
    "rerank_base_url",
    "rerank_api_key",
    "rerank_depth",
    "rerank_price",
)
CHAT = ("model", "fallback_models", "max_tokens", "temperature")
PRICE = ("prompt_price", "completion_price")
ANSWER = ("context_tokens", "abstain_threshold", "verify")
DEEP = ("deep_rounds", "deep_tokens", "deep_seconds")
SERVE = (
    "host",
    "port",
    "data_dir",
    "max_streams",
    "max_upload_mb",
    "requests_per_minute",
    "allowed_hosts",
    "cors_origins",
)
MCP = ("mcp_sync",)
WATCH = ("telemetry", "telemetry_content")
LOG = ("log_format", "log_level")
SERVER = ("server", "key")

_SHORT = {"k": ("-k",)}
_PANELS = {
    **dict.fromkeys((*STORE, *ORIGIN, *BULK), "Store"),
    **dict.fromkeys(LOAD, "Load and split"),
    **dict.fromkeys(ENGINE, "Engine"),
    **dict.fromkeys(ENDPOINT, "Model endpoint"),
    **dict.fromkeys((*CHAT, *PRICE), "Chat model"),
    **dict.fromkeys((*EMBED, *BATCH, *CONTEXT), "Embed"),
    **dict.fromkeys(RETRIEVE, "Retrieve"),
    **dict.fromkeys(ANSWER, "Answer"),
    **dict.fromkeys(DEEP, "Deep answer"),
    **dict.fromkeys((*SERVE, *MCP), "Serve"),
    **dict.fromkeys((*WATCH, *LOG), "Watch"),
    **dict.fromkeys(SERVER, "Through a server"),
}


def takes_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of these settings; its first parameter gets the given ones, keyed by name.

    Errors of citekite become a line on standard error and the exit code of their family.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name))
            for name in names
        ]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            given = {name: values.pop(name) for name in names}
            with reported():
                function({name: value for name, value in given.items() if value not in (None, [])}, **values)

        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + options
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


@contextmanager
def reported() -> Iterator[None]:
    """Turn an error of citekite into a line on standard error and an exit code; a bug keeps its traceback."""
    try:
        yield
    except CitekiteError as error:
        print(printable(f"citekite: {error}"), file=sys.stderr)
        raise typer.Exit(status_of(error).exit_code) from None
    except KeyboardInterrupt as error:
        raise typer.Exit(status_of(error).exit_code) from None
    except BrokenPipeError:
        raise typer.Exit(0) from None  # before typer makes it a failure; `main` sees to what is left in the buffer


def _annotation(name: str) -> Any:
    kind, text = OPTIONS[name]
    flag = f"--{name.replace('_', '-')}"
    flags = (flag,) if kind is not bool else (f"{flag}/--no-{name.replace('_', '-')}",)
    option = typer.Option(*flags, *_SHORT.get(name, ()), help=text, rich_help_panel=_PANELS[name], show_default=False)
    return Annotated[kind | None, option]
