"""The chat model that writes answers: streamed, without the model's thoughts."""

from __future__ import annotations

import math
import time
from collections.abc import Generator as GeneratorType
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from citekite.endpoint.choose import Endpoints, model_for
from citekite.endpoint.client import Endpoint
from citekite.errors import EndpointError, EndpointReply, EndpointUnavailable, ModelNotFound, SettingsError
from citekite.ports import Generator, Message, Piece
from citekite.settings import Settings
from citekite.types import Usage

T = TypeVar("T")

OPENING, CLOSING = "<think>", "</think>"

# What another model at the same endpoint may do better. A refused key or request is refused to all of them.
FALLING_BACK = (ModelNotFound, EndpointUnavailable, EndpointReply)
# A question that waits is better answered by the next model than after the whole retry budget.
SECONDS_BEFORE_FALLBACK = 10.0


class ChatModel:
    """A chat model at an endpoint; `max_tokens` bounds an answer, `temperature` 0 is the least random.

    `fallbacks` are models at the same endpoint, the next of which answers where one is missing or unavailable before
    it has written anything. Who is `patient` waits out an outage as far as the retry budget goes.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        fallbacks: Sequence[str] = (),
        max_tokens: int = 1024,
        temperature: float = 0.0,
        patient: bool = False,
    ) -> None:
        self.model = model
        self._models = tuple(dict.fromkeys((model, *fallbacks)))
        self._endpoint = endpoint
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._patient = patient

    def stream(self, messages: Sequence[Message], *, seconds: float = math.inf) -> Iterator[Piece]:
        """The reply in pieces of text, and a last piece with the reason it stopped (`length`: cut short) and the usage.

        After `seconds` the reply ends where it is. Closing the iterator ends the request. Raises `EndpointError`; one
        after the first piece was not retried.
        """
        started = time.monotonic()
        failed: dict[str, EndpointError] = {}
        for model in self._models:
            spent = time.monotonic() - started
            with closing(self._ask(model, messages, seconds - spent, self._budget(model, spent))) as pieces:
                try:
                    first = next(pieces)
                except FALLING_BACK as error:
                    failed[model] = error
                    continue
                if failed:
                    yield Piece(model=model, note=_instead(model, failed))
                yield first
                yield from pieces
                return
        raise _all_failed(failed)

    def _ask(
        self, model: str, messages: Sequence[Message], seconds: float, budget: float
    ) -> GeneratorType[Piece, None, None]:
        pieces = self._endpoint.chat(
            model,
            messages,
            max_tokens=self._max_tokens,
            temperature=self._temperature,
            seconds=seconds,
            retry_seconds=budget,
            patient=self._patient,
        )
        return without_thoughts(pieces)

    def _budget(self, model: str, spent: float) -> float:
        """The seconds of retries for a model after the ones before it: little where there is another behind it."""
        whole = self._endpoint.retry_seconds
        if model == self._models[-1]:
            return max(0.0, whole - spent)
        return min(SECONDS_BEFORE_FALLBACK, whole / len(self._models))


def without_thoughts(pieces: Iterator[Piece]) -> GeneratorType[Piece, None, None]:
    """The pieces without a `<think>...</think>` block at the start, however the text was cut into pieces.

    Some servers leave the thoughts of a reasoning model in its text.
    """
    held = ""
    decided = False
    with closing(pieces):  # type: ignore[type-var]
        for piece in pieces:
            if decided:
                yield piece
                continue
            held += piece.text
            text = _after_thoughts(held)
            if piece.finish_reason and text is None and not held.lstrip().startswith(OPENING):
                text = held  # the beginning of `<think>` was all there came
            decided = text is not None
            if text or piece.finish_reason or piece.usage:
                yield replace(piece, text=text or "")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply: its text, the tokens that the endpoint counted, and the reason that it gave for stopping."""

    text: str
    usage: Usage
    finish_reason: str | None


def complete(generator: Generator, messages: Sequence[Message], *, seconds: float = math.inf) -> Reply:
    """The reply to `messages`, waited for as a whole; after `seconds` it is what has come. Raises `EndpointError`."""
    text, usage, reason = "", Usage(), None
    with closing_stream(generator.stream(messages, seconds=seconds)) as stream:
        for piece in stream:
            text += piece.text
            usage = piece.usage or usage
            reason = piece.finish_reason or reason
    return Reply(text, usage, reason)


def empty_reply(model: str, reason: str | None) -> EndpointReply:
    """The error for a reply without text that stopped for that reason."""
    cause = f"it stopped with finish_reason {reason!r}"
    remedy = (
        "a thinking model needs a larger `max_tokens` (--max-tokens)"
        if reason == "length"
        else "ask again, or set another `model`"
    )
    return EndpointReply(f"the model {model!r} sent no answer ({cause}): {remedy}.")


@contextmanager
def closing_stream(stream: Iterator[T]) -> Iterator[Iterator[T]]:
    """Closes a stream where it can be closed: an iterator need not have `close`."""
    try:
        yield stream
    finally:
        if close := getattr(stream, "close", None):
            close()


def make_generator(settings: Settings, endpoints: Endpoints | None = None, *, alone: bool = False) -> Generator | None:
    """The chat model that the settings name, or None where they name none: answers are then extracted.

    `alone` is for work in which one model has to write everything, and that waits for it: without fallbacks, and
    patient. Raises `SettingsError` for a model without an endpoint, a preset without its key, or an endpoint without a
    model.
    """
    if not (settings.provider or settings.base_url):
        if settings.model:
            raise SettingsError(
                f"model {settings.model!r} is set but no endpoint that serves it: set `provider` (--provider, "
                "CITEKITE_PROVIDER) or `base_url` (--base-url, CITEKITE_BASE_URL)"
            )
        return None
    endpoint = (endpoints or Endpoints()).get(settings, "chat")
    return ChatModel(
        endpoint,
        model_for(settings, "chat", endpoint),
        fallbacks=() if alone else settings.fallback_models,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        patient=alone,
    )


def _instead(model: str, failed: dict[str, EndpointError]) -> str:
    """The remark on an answer of another model than the one that was asked for; of each fault, what it was."""
    why = "; ".join(f"{name!r} was unavailable: {str(error).partition('. ')[0]}" for name, error in failed.items())
    return f"The model {model!r} answered, because {why.rstrip('.')}."


def _all_failed(failed: dict[str, EndpointError]) -> EndpointError:
    """The fault of the model that was asked for, with those of its fallbacks."""
    first, *others = failed.values()
    if not others:
        return first
    fallbacks = " ".join(f"{name!r}: {failed[name]}" for name in list(failed)[1:])
    return type(first)(f"{first} The fallback models failed too. {fallbacks}")


def _after_thoughts(text: str) -> str | None:
    """What follows the thoughts at the start of `text`; None while that cannot be told."""
    start = text.lstrip()
    if start.startswith(OPENING):
        _, closed, answer = start.partition(CLOSING)
        return answer.lstrip() or None if closed else None
    return None if OPENING.startswith(start) else text
