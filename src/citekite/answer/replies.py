"""Replies of a model that have to be JSON: read strictly, asked for once more, and an error after that."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import regex

from citekite.answer.generate import complete
from citekite.errors import EndpointReply
from citekite.ports import Generator, Message
from citekite.types import Usage

T = TypeVar("T")

_FENCED = regex.compile(r"\A```(?:json)?\s*\n(.*)\n\s*```\Z", regex.DOTALL)


def ask_for(generator: Generator, messages: Sequence[Message], read: Callable[[Any], T]) -> tuple[T, Usage]:
    """What `read` makes of the model's JSON reply, and the tokens it took.

    `read` gets the value and raises `ValueError` with what is wrong; the model is then told and asked once more. Raises
    `EndpointReply` when the second reply is no better, and `EndpointError` as the endpoint does.
    """
    usage = Usage()
    asked = list(messages)
    for _ in range(2):
        reply = complete(generator, asked)
        usage += reply.usage
        try:
            return read(_value(reply.text)), usage
        except ValueError as error:
            problem = str(error)
        asked = [
            *messages,
            Message("assistant", reply.text),
            Message("user", f"That cannot be used: {problem}. Reply with the JSON object alone."),
        ]
    raise EndpointReply(f"the model {generator.model!r} did not send the JSON it was asked for: {problem}")


def texts(value: Any, *names: str) -> tuple[str, ...]:
    """The texts of an object that has exactly these keys, none of them blank; raises `ValueError`.

    >>> texts({"question": "Why? ", "answer": "So."}, "question", "answer")
    ('Why?', 'So.')
    """
    if not isinstance(value, dict) or set(value) != set(names):
        raise ValueError(f"it has to be an object with the keys {', '.join(names)}")
    if not all(isinstance(value[name], str) and value[name].strip() for name in names):
        raise ValueError(f"{', '.join(names)} have to be texts that are not empty")
    return tuple(" ".join(value[name].split()) for name in names)


def _value(reply: str) -> Any:
    text = reply.strip()
    if fenced := _FENCED.match(text):
        text = fenced[1]
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error})") from None
