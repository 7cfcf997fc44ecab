"""An OpenAI-style model endpoint: the one place that talks through the openai SDK.

The SDK's own retries are off: `retry.py` has the policy, `endpoint_faults.py` says in our errors what went wrong, and
`endpoint_replies.py` checks what came. An optional field that the endpoint refuses (`encoding_format`,
`stream_options`, ...) is left out from then on.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from citekite.endpoint_faults import Context, explain, model_setting, readable_address
from citekite.endpoint_network import TOTAL_TIMEOUTS, bounded
from citekite.endpoint_replies import json_of, model_names, pieces_of, ranking_of, vectors_of
from citekite.errors import EndpointError, EndpointUnavailable, SettingsError
from citekite.ports import Message, Piece, Vectors
from citekite.providers import PROVIDERS
from citekite.retry import call_with_retries
from citekite.settings import Settings
from citekite.wellformed import well_formed

if TYPE_CHECKING:
    from httpx2 import Timeout
    from openai import OpenAI, Stream
    from openai.types.chat import ChatCompletionChunk

T = TypeVar("T")
Body = dict[str, Any]
Purpose = Literal["chat", "embedding", "rerank"]

CONNECT_SECONDS = 10.0
# Asking for the list of models serves only to make an error message better.
LISTING_SECONDS = 5.0

# Fields that an endpoint may refuse, and what its 400 or 422 then says. A temperature that is merely out of range is
# the user's to mend; one that the model does not know at all (reasoning models) is left out.
_UNKNOWN = r"unsupported|not support|only the default|unrecogni[sz]ed|unknown|unexpected|not permitted|deprecated|extra"
_REFUSALS = {
    "encoding_format": re.compile("encoding_format"),
    "stream_options": re.compile("stream_options"),
    "max_tokens": re.compile("max_completion_tokens"),
    "temperature": re.compile(rf"temperature.*({_UNKNOWN})|({_UNKNOWN}).*temperature", re.DOTALL),
}


class Endpoint:
    """A client of one base URL; safe to use from many threads.

    `timeout` is the most seconds without a byte from the endpoint, and ten times as many the most for a whole reply;
    `retry_seconds` is the time budget of one request with its retries, `connections` how many are kept open,
    `key_names` where the user has set the key. Every method raises an `EndpointError` with a sentence to act on; the
    key is in no repr, log or error. Within `cancelled_when` a request ends with `Cancelled` soon after nobody waits.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | str = "",
        *,
        timeout: float = 60.0,
        retry_seconds: float = 120.0,
        connections: int = 16,
        key_names: str = "CITEKITE_API_KEY",
    ) -> None:
        self.base_url = _checked_address(base_url)
        self.address = readable_address(base_url)
        self.timeout = timeout
        self.retry_seconds = retry_seconds
        self._key = _checked_key(api_key, key_names)
        self._connections = connections
        self._key_names = key_names
        self._lock = threading.Lock()
        self._answered = False
        self._refused: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"Endpoint({self.address!r})"

    def embeddings(
        self, model: str, inputs: Sequence[str], dimensions: int | None = None, *, expected: int | None = None
    ) -> Vectors:
        """The vectors of the inputs, shape `(len(inputs), dimension)`, as the model scales them, all finite.

        `dimensions` asks the model for that length; `expected` is the length known from earlier replies. A reply of
        another length or with vectors missing is asked for again like any unreadable one, then `EndpointReply`.
        """
        body: Body = {
            "model": model,
            "input": [well_formed(text) for text in inputs],
            "encoding_format": "base64",  # a quarter of the bytes, and read 14 times as fast as numbers
        }
        if dimensions:
            body["dimensions"] = dimensions

        def send(body: Body) -> Vectors:
            return vectors_of(self._post("/embeddings", body), len(inputs), dimensions or expected)

        return self._call(send, body, "embedding_model")

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        seconds: float = math.inf,
    ) -> Iterator[Piece]:
        """The reply in pieces of text, then one piece with the reason it stopped and the usage.

        The request is sent when the first piece is asked for and repeated only until that has come; closing the
        iterator ends it. A stream that breaks off later raises `EndpointUnavailable`. After `seconds` the reply ends
        with the reason `time`, and where nothing has come, retries end.
        """
        ends = time.monotonic() + seconds
        body: Body = {
            "model": model,
            "messages": [{"role": message.role, "content": well_formed(message.content)} for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,  # always: Fireworks refuses a longer answer otherwise
            "stream_options": {"include_usage": True},
        }
        first, rest, close = self._call(
            lambda body: self._open_stream(body, ends), body, "model", min(self.retry_seconds, seconds)
        )
        import openai

        try:
            yield first
            yield from rest
        except (openai.APIError, ValueError) as error:
            raise EndpointUnavailable(
                f"the answer of {self.address} broke off: {self._context.clip(error)}. Ask again."
            ) from None
        finally:
            close()

    def rerank(self, model: str, query: str, documents: Sequence[str], top_n: int) -> list[tuple[int, float]]:
        """The best documents as `(index, score)`, best first, at most `top_n`; the scale of a score is the model's."""
        body: Body = {
            "model": model,
            "query": well_formed(query),
            "documents": [well_formed(document) for document in documents],
            "top_n": top_n,
        }

        def send(body: Body) -> list[tuple[int, float]]:
            return ranking_of(self._post("/rerank", body), len(documents))

        return self._call(send, body, "rerank_model")[:top_n]

    def models(self, *, retry_seconds: float | None = None) -> list[str]:
        """The names of the models that the endpoint lists, in its order."""
        import httpx2

        def send(_: Body) -> list[str]:
            return model_names(json_of(self._client.get("/models", cast_to=httpx2.Response)))

        return self._call(send, {}, None, retry_seconds)

    def listed_models(self) -> list[str] | EndpointError:
        """The names of the models for an error message, or why they cannot be listed; quick to give up."""
        try:
            return self.models(retry_seconds=min(LISTING_SECONDS, self.retry_seconds))
        except EndpointError as error:
            return error

    def _post(self, path: str, body: Body) -> Any:
        import httpx2

        return json_of(self._client.post(path, cast_to=httpx2.Response, body=body))

    def _open_stream(self, body: Body, ends: float) -> tuple[Piece, Iterator[Piece], Callable[[], None]]:
        # create() has an overload for each literal `stream`, which a dict cannot tell
        stream: Stream[ChatCompletionChunk] = cast(Any, self._client.chat.completions).create(
            **body, timeout=self._patience(max(0.01, ends - time.monotonic()))
        )
        pieces = pieces_of(stream, ends)
        try:
            return next(pieces), pieces, stream.close
        except BaseException:
            stream.close()
            raise

    def _call(
        self, send: Callable[[Body], T], body: Body, setting: str | None, retry_seconds: float | None = None
    ) -> T:
        """`send(body)` within the retry budget, the body without what the endpoint has refused for its model."""
        import openai

        def attempt() -> T:
            while True:
                fitting = self._fit(body)
                try:
                    result = send(fitting)
                except (openai.APIError, ValueError) as error:
                    if not self._learn(fitting, error):
                        raise explain(error, self._context, body.get("model"), setting, self._answered) from None
                else:
                    self._answered = True
                    return result

        return call_with_retries(attempt, self.retry_seconds if retry_seconds is None else retry_seconds)

    def _fit(self, body: Body) -> Body:
        fitting = {field: value for field, value in body.items() if (body["model"], field) not in self._refused}
        if "max_tokens" in body and "max_tokens" not in fitting:
            fitting["max_completion_tokens"] = body["max_tokens"]
        return fitting

    def _learn(self, body: Body, error: Exception) -> bool:
        """Whether the error says that a field we can do without is not taken; remembers it."""
        if getattr(error, "status_code", None) not in (400, 422):
            return False
        said = f"{error} {getattr(error, 'body', '')}".lower()
        refused = {(body["model"], field) for field, text in _REFUSALS.items() if field in body and text.search(said)}
        self._refused |= refused
        return bool(refused)

    def _patience(self, most: float = math.inf) -> Timeout:
        """How long a request may be silent: the timeout, or `most` seconds where they are fewer."""
        import httpx2

        seconds = min(self.timeout, most)
        return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS), pool=None)

    @cached_property
    def _context(self) -> Context:
        return Context(
            address=self.address,
            key=self._key,
            key_names=self._key_names,
            timeout=self.timeout,
            listed_models=self.listed_models,
        )

    @property
    def _client(self) -> OpenAI:
        with self._lock:
            return self._made_client

    @cached_property
    def _made_client(self) -> OpenAI:
        import httpx2
        import openai

        timeout = self._patience()
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=self._connections)
        key = self._key or "none"
        # Given by name, so that the SDK takes none of them from OPENAI_* variables, which are not for this address.
        headers: dict[str, Any] = {"Authorization": f"Bearer {key}"}
        if not (urlsplit(self.base_url).hostname or "").endswith("openai.com"):
            headers |= {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        return openai.OpenAI(
            api_key=key,
            base_url=self.base_url,
            max_retries=0,
            timeout=timeout,
            default_headers=headers,
            http_client=bounded(
                openai.DefaultHttpxClient(timeout=timeout, limits=limits), TOTAL_TIMEOUTS * self.timeout
            ),
        )


def endpoint_for(settings: Settings, purpose: Purpose) -> Endpoint:
    """The endpoint that the settings name for the purpose; `SettingsError` where there is none, or no key."""
    provider = PROVIDERS[settings.provider] if settings.provider else None
    own_url, own_key, own_name = {
        "chat": (None, None, None),
        "embedding": (settings.embedding_base_url, settings.embedding_api_key, "CITEKITE_EMBEDDING_API_KEY"),
        "rerank": (settings.rerank_base_url, settings.rerank_api_key, "CITEKITE_RERANK_API_KEY"),
    }[purpose]
    url = own_url or settings.base_url or (provider and provider.base_url)
    if not url:
        raise SettingsError(
            "no model endpoint is set: set FIREWORKS_API_KEY or OPENAI_API_KEY, `provider` (--provider, "
            "CITEKITE_PROVIDER) or `base_url` (--base-url, CITEKITE_BASE_URL)"
        )
    key = own_key or settings.api_key
    if key is None and provider and provider.needs_key and url == provider.base_url:
        raise SettingsError(f"provider {provider.name!r} needs a key: set {provider.key_variable} to it")
    names = (provider.key_variable if provider else None, "CITEKITE_API_KEY", own_name)
    return Endpoint(
        url,
        key or "",
        timeout=settings.timeout,
        retry_seconds=settings.retry_seconds,
        connections=settings.concurrency,
        key_names=" or ".join(name for name in names if name),
    )


def model_for(settings: Settings, purpose: Purpose, endpoint: Endpoint) -> str:
    """The model that the settings name for the purpose, else the preset's; `SettingsError` lists what there is."""
    provider = PROVIDERS[settings.provider] if settings.provider else None
    setting, model, default = {
        "chat": ("model", settings.model, provider and provider.model),
        "embedding": ("embedding_model", settings.embedding_model, provider and provider.embedding_model),
        # another vendor's address has another vendor's rerankers
        "rerank": (
            "rerank_model",
            settings.rerank_model,
            provider and not settings.rerank_base_url and provider.rerank_model,
        ),
    }[purpose]
    if name := model or default:
        return name
    raise SettingsError(
        f"no {purpose} model is set for the endpoint {endpoint.address}. "
        f"{model_setting(setting, '', endpoint.listed_models())}"
    )


def _checked_address(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(
            f"base_url {base_url!r} is no address: set it to one such as https://api.fireworks.ai/inference/v1"
        )
    return base_url


def _checked_key(api_key: SecretStr | str, names: str) -> str:
    key = (api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key).strip()
    if not (key.isascii() and key.isprintable()):
        raise SettingsError(f"the key in {names} has characters that a key cannot have; copy it again")
    return key
