"""An answer as OpenAI's chat completion, whole and in chunks, with its sources as Markdown at the end of the text."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from citekite.render import answer_json
from citekite.types import Answer, Chunk, Citation, Usage, describe_location

HEADING = "\n\n**Sources**\n\n"
# What Markdown could read as something else than a name.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|!~&])")
_NOT_IN_ADDRESS = re.compile(r"[\s<>\\]")
_EXTRA = ("citations", "outcome", "confidence", "notes")


def sources(answer: Answer) -> str:
    """The Markdown list of an answer's sources that goes behind its text; empty where it cites nothing."""
    if not answer.citations:
        return ""
    return HEADING + "\n".join(f"- [{one.number}] {_places(one)}" for one in answer.citations)


def without_sources(text: str) -> str:
    """An answer that a client sends back, without the list that was put behind it."""
    return text.partition(HEADING)[0]


def _places(citation: Citation) -> str:
    return "; also in ".join(_place(one.hit.chunk, one.line) for one in (citation, *citation.also))


def _place(chunk: Chunk, line: int) -> str:
    """Where a citation stands, as Markdown: a link where it has an address. What is not ours in it stays plain text."""
    place = _MARKDOWN.sub(r"\\\1", " ".join(describe_location(chunk, line).split()))
    if not chunk.source.startswith(("http://", "https://")):
        return place
    address = _NOT_IN_ADDRESS.sub(lambda found: quote(found[0]), chunk.source)
    return f"[{place}](<{address}>)"


def usage_json(usage: Usage) -> dict[str, int]:
    """What the model endpoint counted; all 0 without a chat model."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


@dataclass(frozen=True, slots=True)
class Reply:
    """The frame of one completion; `model` is the collection that answers."""

    model: str
    with_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, answer: Answer) -> dict[str, Any]:
        """The whole answer; `citations` and what else OpenAI has no field for stand in its message."""
        message = {
            "role": "assistant",
            "content": answer.text + sources(answer),
            "refusal": None,
            **_extra(answer),
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(answer)}
        return {**self._frame("chat.completion"), "choices": [choice], "usage": usage_json(answer.usage)}

    def begin(self) -> dict[str, Any]:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> dict[str, Any]:
        """A chunk of the answer's text."""
        return self._chunk({"content": text})

    def end(self, answer: Answer) -> list[dict[str, Any]]:
        """The last chunks: the sources with the citations beside them, why the text ends, the usage if asked for."""
        chunks = [
            self._chunk({"content": sources(answer), **_extra(answer)}),
            self._chunk({}, _finish_reason(answer)),
        ]
        if self.with_usage:
            chunks.append(
                {**self._frame("chat.completion.chunk"), "choices": [], "usage": usage_json(answer.usage)},
            )
        return chunks

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self.with_usage else {}
        return {**self._frame("chat.completion.chunk"), "choices": [choice], **usage}

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _extra(answer: Answer) -> dict[str, Any]:
    values = answer_json(answer)
    return {name: values[name] for name in _EXTRA}


def _finish_reason(answer: Answer) -> str:
    return "length" if answer.outcome == "cut_short" else "stop"
