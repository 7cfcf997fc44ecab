"""The bodies of OpenAI's requests, as far as a knowledge base can do what they ask.

What would have to be something else than a cited text (several answers, tools, JSON, sound) is refused. What only tunes
a model (temperature, max_tokens, seed, stop and the like) is ignored: the server's own settings hold.
https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from citekite.serve.openai_api.completion import without_sources
from citekite.serve.schemas import LONGEST_QUESTION
from citekite.types import Turn

MOST_MESSAGES = 1000
MOST_TURNS = 50
MOST_INPUTS = 2048  # as at OpenAI


def invalid(parameter: str, reason: str) -> RequestValidationError:
    """The error of a request whose parameter cannot be used."""
    return RequestValidationError([{"loc": ("body", parameter), "msg": reason, "type": "value_error"}])


class Part(BaseModel):
    """A part of a message's content."""

    type: str
    text: str = ""
    refusal: str = ""


class Message(BaseModel):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text or part.refusal for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    """What a stream tells besides the text."""

    include_usage: bool = False


class ChatBody(BaseModel):
    """A conversation whose last user turn is to be answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "citekite", "messages": [{"role": "user", "content": "How is data stored?"}]}]
        }
    )

    model: str = Field(min_length=1, max_length=500)
    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    modalities: list[str] | None = None

    def require_possible(self) -> None:
        """Raise `RequestValidationError` for what would have to be another answer than there is."""
        refusals = {
            "n": self.n not in (None, 1) and f"n={self.n} is not possible: a question has one answer here",
            "tools": self.tools and self.tool_choice != "none" and "tools are not called here: leave them out",
            "functions": self.functions and "functions are not called here: leave them out",
            "response_format": self.response_format
            and self.response_format.get("type") != "text"
            and "an answer is Markdown text with its sources; what is structured is in `citations` of its message",
            "logprobs": self.logprobs and "there are no log probabilities of an answer: leave logprobs out",
            "modalities": self.modalities not in (None, ["text"]) and "an answer is text: leave modalities out",
        }
        for parameter, reason in refusals.items():
            if reason:
                raise invalid(parameter, str(reason))

    def conversation(self) -> tuple[str, list[Turn]]:
        """The question, and the turns before it; raises `RequestValidationError` where there is no question.

        The question is the last user message. Where that marks a question with `<question>` tags, as prompts that bring
        their own context do, it is what stands between them. System messages do not change how answers are made.
        """
        last = max((at for at, message in enumerate(self.messages) if message.role == "user"), default=None)
        if last is None:
            raise invalid("messages", "there is no user message: the last one is the question")
        for message in self.messages[: last + 1]:
            _require_text(message)
        question = _asked(self.messages[last].text)
        if not question:
            raise invalid("messages", "the last user message is empty: it is the question")
        if len(question) > LONGEST_QUESTION:
            raise invalid("messages", f"the question has {len(question):,} characters, of {LONGEST_QUESTION:,} at most")
        return question, _turns(self.messages[:last])


def _asked(prompt: str) -> str:
    """The question in a prompt: what the last pair of `<question>` tags marks, else all of it.

    >>> _asked("Answer what stands in <question> tags. <question>Why?</question>")
    'Why?'
    """
    before, closing, _ = prompt.rpartition("</question>")
    _, opening, tagged = before.rpartition("<question>")
    return (tagged if opening and closing else prompt).strip()


def _require_text(message: Message) -> None:
    if isinstance(message.content, list):
        for part in message.content:
            if part.type not in ("text", "refusal"):
                raise invalid("messages", f"a part of type {part.type!r} cannot be read: only text parts can")


def _turns(messages: list[Message]) -> list[Turn]:
    """Each question with what was answered to it; a question without an answer is part of the next one's."""
    turns: list[Turn] = []
    asked: list[str] = []
    for message in messages:
        if message.role == "user":
            asked.append(message.text)
        elif message.role == "assistant" and asked and message.text:
            turns.append(Turn("\n".join(asked), without_sources(message.text)))
            asked = []
    return turns[-MOST_TURNS:]


class EmbeddingsBody(BaseModel):
    """Texts to be embedded."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "citekite", "input": ["How is data stored?"]}]},
    )

    model: str = Field(min_length=1, max_length=500)
    input: Any = Field(description="A text, or a list of texts.")
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(None, ge=1)

    def texts(self) -> list[str]:
        """The texts of the input; raises `RequestValidationError` for anything else."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not isinstance(texts, list) or not texts:
            raise invalid("input", "the input is a text, or a list of texts")
        if len(texts) > MOST_INPUTS:
            raise invalid("input", f"the input has {len(texts):,} texts, of {MOST_INPUTS:,} at most")
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise invalid("input", f"input {number} is no text; token numbers are of no use to another tokenizer")
            if not text:
                raise invalid("input", f"input {number} is empty")
        return texts
