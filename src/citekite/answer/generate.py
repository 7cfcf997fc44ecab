"""The chat model that writes answers: streamed, without the model's thoughts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from citekite.endpoint import Endpoint, endpoint_for, model_for
from citekite.errors import SettingsError
from citekite.ports import Generator, Message, Piece
from citekite.settings import Settings
from citekite.types import Usage

OPENING, CLOSING = "<think>", "</think>"


class ChatModel:
    """A chat model at an endpoint; `max_tokens` bounds an answer, `temperature` 0 is the least random."""

    def __init__(self, endpoint: Endpoint, model: str, *, max_tokens: int = 1024, temperature: float = 0.0) -> None:
        self.model = model
        self._endpoint = endpoint
        self._max_tokens = max_tokens
        self._temperature = temperature

    def stream(self, messages: Sequence[Message]) -> Iterator[Piece]:
        """The reply in pieces of text, and a last piece with the reason it stopped (`length`: cut short) and the usage.

        Closing the iterator ends the request. Raises `EndpointError`; one after the first piece was not retried.
        """
        pieces = self._endpoint.chat(self.model, messages, max_tokens=self._max_tokens, temperature=self._temperature)
        return without_thoughts(pieces)


def whole_reply(generator: Generator, messages: Sequence[Message]) -> tuple[str, Usage]:
    """The text of a reply that is of use only as a whole, and what it took; raises `EndpointError`."""
    text, usage = "", Usage()
    for piece in generator.stream(messages):
        text += piece.text
        usage = piece.usage or usage
    return text, usage


def without_thoughts(pieces: Iterator[Piece]) -> Iterator[Piece]:
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


def make_generator(settings: Settings) -> Generator | None:
    """The chat model that the settings name, or None where they name none: answers are then extracted.

    Raises `SettingsError` for a model without an endpoint, a preset without its key, or an endpoint without a model.
    """
    if not (settings.provider or settings.base_url):
        if settings.model:
            raise SettingsError(
                f"model {settings.model!r} is set but no endpoint that serves it: set `provider` (--provider, "
                "CITEKITE_PROVIDER) or `base_url` (--base-url, CITEKITE_BASE_URL)"
            )
        return None
    endpoint = endpoint_for(settings, "chat")
    return ChatModel(
        endpoint,
        model_for(settings, "chat", endpoint),
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
    )


def _after_thoughts(text: str) -> str | None:
    """What follows the thoughts at the start of `text`; None while that cannot be told."""
    start = text.lstrip()
    if start.startswith(OPENING):
        _, closed, answer = start.partition(CLOSING)
        return answer.lstrip() or None if closed else None
    return None if OPENING.startswith(start) else text
