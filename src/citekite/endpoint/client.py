"""An OpenAI-style model endpoint: the one place that talks through the openai SDK.

The SDK's own retries are off: `retry.py` has the policy, `traffic.py` says who may send when, `fields.py` what is left
out, `faults.py` says in our errors what went wrong, and `replies.py` checks what came.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from citekite.endpoint.faults import Context, explain, readable_address
from citekite.endpoint.fields import Body, RefusedFields
from citekite.endpoint.network import TOTAL_TIMEOUTS, bounded
from citekite.endpoint.replies import json_of, model_names, over_limit, pieces_of, ranking_of, vectors_of
from citekite.endpoint.traffic import Traffic, TrafficState, Turn
from citekite.errors import EndpointError, EndpointUnavailable, SettingsError
from citekite.metering import ModelCall
from citekite.ports import Message, Piece, Vectors
from citekite.retry import call_with_retries
from citekite.wellformed import well_formed

if TYPE_CHECKING:
    from httpx2 import Response, Timeout
    from openai import OpenAI, Stream
    from openai.types.chat import ChatCompletionChunk

R = TypeVar("R")
T = TypeVar("T")

CONNECT_SECONDS = 10.0
# Asking for the list of models serves only to make an error message better.
LISTING_SECONDS = 5.0


class Endpoint:
    """A client of one base URL; safe to use from many threads.

    `timeout` is the most seconds without a byte from the endpoint, and ten times as many the most for a whole reply;
    `retry_seconds` is the time budget of one request with its retries, `connections` how many are kept open,
    `most_at_once` how many requests for one model may ever be in flight (fewer while the endpoint is overloaded),
    `key_names` where the user has set the key. Every method raises an `EndpointError` with a sentence to act on; the
    key is in no repr, log or error. Within `cancelled_when` a request ends with `Cancelled` soon after nobody waits.

    Who is `patient` waits out an outage as far as the budget goes; who is not is told of a known one at once.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | str = "",
        *,
        timeout: float = 60.0,
        retry_seconds: float = 120.0,
        connections: int = 16,
        most_at_once: int = 256,
        key_names: str = "CITEKITE_API_KEY",
    ) -> None:
        self.base_url = _checked_address(base_url)
        self.address = readable_address(base_url)
        self.timeout = timeout
        self.retry_seconds = retry_seconds
        self._key = _checked_key(api_key, key_names)
        self._connections = connections
        self._most_at_once = most_at_once
        self._key_names = key_names
        self._lock = threading.Lock()
        self._traffic: dict[str, Traffic] = {}
        self._answered = False
        self._refused = RefusedFields()

    def __repr__(self) -> str:
        return f"Endpoint({self.address!r})"

    @property
    def identity(self) -> tuple[object, ...]:
        """What two endpoints that may be one object have in common."""
        return (
            self.base_url,
            self._key,
            self.timeout,
            self.retry_seconds,
            self._connections,
            self._most_at_once,
            self._key_names,
        )

    def traffic(self, model: str) -> Traffic:
        """The requests for that model: how many may be in flight, and whether it answers."""
        with self._lock:
            return self._traffic.setdefault(model, Traffic(self._most_at_once))

    def states(self) -> list[TrafficState]:
        """How it stands with each model that was asked."""
        with self._lock:
            asked = [(model, traffic) for model, traffic in self._traffic.items() if model]
        return [traffic.state(self.address, model) for model, traffic in asked]

    def embeddings(
        self,
        model: str,
        inputs: Sequence[str],
        dimensions: int | None = None,
        *,
        expected: Callable[[int], int] = lambda length: length,
        patient: bool = False,
    ) -> Vectors:
        """The vectors of the inputs, shape `(len(inputs), dimension)`, as the model scales them, all finite.

        `dimensions` asks the model for that length; `expected` says which length is right when it is told that of a
        reply. A reply of another length or with vectors missing is asked for again like any unreadable one, then
        `EndpointReply`.
        """
        body: Body = {
            "model": model,
            "input": [well_formed(text) for text in inputs],
            "encoding_format": "base64",  # a quarter of the bytes, and read 14 times as fast as numbers
        }
        if dimensions:
            body["dimensions"] = dimensions

        with ModelCall.of("embedding", self.base_url, body) as call:

            def read(response: Response) -> Vectors:
                return vectors_of(call.replied(json_of(response)), len(inputs), expected)

            with self._call(
                partial(self._post, "/embeddings"), read, body, "embedding_model", patient=patient
            ) as found:
                return found

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        seconds: float = math.inf,
        retry_seconds: float = math.inf,
        patient: bool = False,
    ) -> Iterator[Piece]:
        """The reply in pieces of text, then one piece with the reason it stopped and the usage.

        The request is sent when the first piece is asked for and repeated only until that has come, for
        `retry_seconds` where they are fewer than the endpoint's; closing the iterator ends it. A stream that breaks
        off later raises `EndpointUnavailable`. After `seconds` the reply ends with the reason `time`, and where nothing
        has come, retries end.
        """
        import openai

        ends = time.monotonic() + seconds
        body: Body = {
            "model": model,
            "messages": [{"role": message.role, "content": well_formed(message.content)} for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,  # always: Fireworks refuses a longer answer otherwise
            "stream_options": {"include_usage": True},
        }
        budget = min(self.retry_seconds, seconds, retry_seconds)
        request, read = partial(self._open_stream, ends), partial(_begun, ends)
        with (
            ModelCall.of("chat", self.base_url, body) as call,
            self._call(request, read, body, "model", budget=budget, patient=patient) as (first, rest, close),
        ):
            try:
                yield from map(call.heard, itertools.chain((first,), rest))
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

        with ModelCall.of("rerank", self.base_url, body) as call:

            def read(response: Response) -> list[tuple[int, float]]:
                return ranking_of(call.replied(json_of(response)), len(documents))

            with self._call(partial(self._post, "/rerank"), read, body, "rerank_model") as ranking:
                return ranking[:top_n]

    def models(self, *, retry_seconds: float | None = None) -> list[str]:
        """The names of the models that the endpoint lists, in its order."""
        import httpx2

        def request(_: Body) -> Response:
            return self._client.get("/models", cast_to=httpx2.Response)

        def read(response: Response) -> list[str]:
            return model_names(json_of(response))

        with self._call(request, read, {}, None, budget=retry_seconds) as names:
            return names

    def listed_models(self) -> list[str] | EndpointError:
        """The names of the models for an error message, or why they cannot be listed; quick to give up."""
        try:
            return self.models(retry_seconds=min(LISTING_SECONDS, self.retry_seconds))
        except EndpointError as error:
            return error

    def _post(self, path: str, body: Body) -> Response:
        import httpx2

        return self._client.post(path, cast_to=httpx2.Response, body=body)

    def _open_stream(self, ends: float, body: Body) -> Stream[ChatCompletionChunk]:
        # create() has an overload for each literal `stream`, which a dict cannot tell
        stream: Stream[ChatCompletionChunk] = cast(Any, self._client.chat.completions).create(
            **body, timeout=self._patience(max(0.01, ends - time.monotonic()))
        )
        return stream

    @contextmanager
    def _call(
        self,
        request: Callable[[Body], R],
        read: Callable[[R], T],
        body: Body,
        setting: str | None,
        *,
        budget: float | None = None,
        patient: bool = False,
    ) -> Iterator[T]:
        """What `read` makes of the reply to `request(body)`, within the budget; in flight until the `with` ends."""
        traffic = self.traffic(body.get("model", ""))
        seconds = self.retry_seconds if budget is None else budget
        waited = 0.0
        with ExitStack() as place:

            def attempt() -> T:
                nonlocal waited
                turn = traffic.turn(patient=patient, seconds=seconds)
                try:
                    with turn:
                        result = self._send(request, read, body, setting, turn)
                        place.callback(turn.keep())
                        return result
                finally:
                    waited += turn.waited

            # To wait for other requests is no reason to give up.
            yield call_with_retries(attempt, seconds, clock=lambda: time.monotonic() - waited)

    def _send(
        self, request: Callable[[Body], R], read: Callable[[R], T], body: Body, setting: str | None, turn: Turn
    ) -> T:
        """One request, the body without what the endpoint has refused for its model."""
        import openai

        while True:
            fitting = self._refused.fit(body)
            try:
                reply = request(fitting)
                result = read(reply)
            except (openai.APIError, ValueError) as error:
                if not self._refused.learn(fitting, error):
                    fault = explain(error, self._context, body.get("model"), setting, self._answered)
                    raise turn.failed(fault) from None
            else:
                self._answered = True
                turn.accepted(over_limit=over_limit(reply))
                return result

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


def _begun(ends: float, stream: Stream[ChatCompletionChunk]) -> tuple[Piece, Iterator[Piece], Callable[[], None]]:
    """The first piece of a stream, the others, and what closes it."""
    pieces = pieces_of(stream, ends)
    try:
        return next(pieces), pieces, stream.close
    except BaseException:
        stream.close()
        raise


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
