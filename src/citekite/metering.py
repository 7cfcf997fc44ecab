"""Calls of models at an endpoint: each is timed, counted and told to whoever keeps account of what runs here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from citekite import telemetry
from citekite.contexts import undo
from citekite.explanation import ModelUse, Purpose
from citekite.ports import Piece
from citekite.providers import PROVIDERS
from citekite.tokens import estimate_tokens
from citekite.types import Usage

Meter = Callable[[ModelUse], None]

# As the conventions of OpenTelemetry name them; reranking has no name there.
_OPERATIONS: dict[Purpose, str] = {"chat": "chat", "embedding": "embeddings", "rerank": "rerank"}
_PROVIDER_OF = {urlsplit(provider.base_url).netloc: provider.name for provider in PROVIDERS.values()}

_meters: ContextVar[tuple[Meter, ...]] = ContextVar("meters", default=())


@contextmanager
def metered(meter: Meter) -> Iterator[None]:
    """Let `meter` be told of each call of a model that ends inside, besides those who are told already.

    It is called in the thread that made the call, which may be any that runs in a copy of this context.
    """
    token = _meters.set((*_meters.get(), meter))
    try:
        yield
    finally:
        undo(_meters, token)


class ModelCall:
    """One call of a model, with its retries, to be entered; `sent` are the texts of the request.

    For messages `roles` says whose each is; `request` are further attributes of the conventions, such as `max_tokens`.
    Tokens add up over the replies that came, also those that were of no use; a call that got no reply counts nothing.
    """

    def __init__(
        self,
        purpose: Purpose,
        model: str,
        address: str,
        sent: Sequence[str],
        *,
        roles: Sequence[str] = (),
        **request: Any,
    ) -> None:
        self._purpose, self._model, self._sent, self._roles = purpose, model, sent, roles
        parts = urlsplit(address)
        self._attributes: dict[str, Any] = {
            "gen_ai.operation.name": _OPERATIONS[purpose],
            "gen_ai.provider.name": _PROVIDER_OF.get(parts.netloc, "openai"),  # whose protocol it speaks
            "gen_ai.request.model": model,
            "server.address": parts.hostname,
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
        }
        request_attributes = {f"gen_ai.request.{name}": value for name, value in request.items()}
        self._span = telemetry.span(
            f"{_OPERATIONS[purpose]} {model}",
            {**self._attributes, **request_attributes},
            kind="client",
            current=False,  # nothing runs inside, and a stream is read in pieces
        )
        self._told = Usage()
        self._untold = Usage()
        self._text = ""
        self._streaming = False

    @classmethod
    def of(cls, purpose: Purpose, address: str, body: Mapping[str, Any]) -> Self:
        """The call that the body of a request in OpenAI's form asks for."""
        match purpose:
            case "chat":
                roles, sent = ([message[part] for message in body["messages"]] for part in ("role", "content"))
                request = {name: body[name] for name in ("max_tokens", "temperature", "stream")}
                return cls(purpose, body["model"], address, sent, roles=roles, **request)
            case "embedding":
                return cls(purpose, body["model"], address, body["input"])
            case "rerank":
                return cls(purpose, body["model"], address, [body["query"], *body["documents"]])

    def __enter__(self) -> Self:
        self._span.__enter__()
        self._began = time.perf_counter()
        return self

    def replied(self, reply: Any) -> Any:
        """Count a reply that is no stream, by what it says itself, else by an estimate, and hand it on."""
        usage, model = _told_by(reply)
        if usage is None:
            self._untold += self._estimate()
        else:
            self._told += usage
        if model:
            self._span.set({"gen_ai.response.model": model})
        return reply

    def heard(self, piece: Piece) -> Piece:
        """Count a piece of a streamed reply, and hand it on."""
        if not self._streaming:
            self._streaming = True
            self._span.set({"gen_ai.response.time_to_first_chunk": time.perf_counter() - self._began})
        self._text += piece.text
        if piece.usage:
            self._told += piece.usage
        if piece.finish_reason:
            self._span.set({"gen_ai.response.finish_reasons": (piece.finish_reason,)})
        if piece.answered_by:
            self._span.set({"gen_ai.response.model": piece.answered_by})
        return piece

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._began
        if self._streaming and self._told == Usage():  # it was not told, or left before it came
            self._untold += self._estimate()
        self._report(seconds, error)
        self._span.__exit__(kind, error, trace)

    def _estimate(self) -> Usage:
        """About what one reply took."""
        return Usage(sum(map(estimate_tokens, self._sent)), estimate_tokens(self._text))

    def _report(self, seconds: float, error: BaseException | None) -> None:
        told = {"input": self._told.prompt_tokens, "output": self._told.completion_tokens}
        tokens = {name: count for name, count in told.items() if count}
        self._span.set({f"gen_ai.usage.{name}_tokens": count for name, count in tokens.items()})
        self._span.set_content(self._content)
        failed = {"error.type": type(error).__name__} if isinstance(error, Exception) else {}
        telemetry.current().used(seconds, tokens, {**self._attributes, **failed})
        self._tell_meters(seconds)

    def _content(self) -> dict[str, Any]:
        if not self._roles:
            return {"citekite.content.sent": list(self._sent)}
        asked = [_message(role, text) for role, text in zip(self._roles, self._sent, strict=True)]
        return {"gen_ai.input.messages": asked, "gen_ai.output.messages": [_message("assistant", self._text)]}

    def _tell_meters(self, seconds: float) -> None:
        used = self._told + self._untold
        if used != Usage():
            use = ModelUse(self._purpose, self._model, used, self._untold != Usage(), seconds)
            for meter in _meters.get():
                meter(use)


def _message(role: str, text: str) -> dict[str, Any]:
    """A message as the conventions have it."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _told_by(reply: Any) -> tuple[Usage | None, str]:
    """The tokens that a reply without text says it took (None where it does not say), and the model that it names."""
    values = reply if isinstance(reply, dict) else {}
    usage = values.get("usage")
    counts = [usage.get(name) for name in ("prompt_tokens", "total_tokens")] if isinstance(usage, dict) else []
    told = next((count for count in counts if isinstance(count, int)), None)
    return None if told is None else Usage(told), str(values.get("model") or "")
