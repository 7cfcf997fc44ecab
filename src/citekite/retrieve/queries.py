"""Query expansion: what the chat model adds to a question before it is searched for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from citekite.answer.generate import complete
from citekite.answer.prompt import neutralise
from citekite.errors import EndpointError, SettingsError
from citekite.ports import Generator, Message
from citekite.types import QueryExpansion, Usage

# The rewordings that are used of a reply, and the characters that are of each.
PHRASINGS = 3
_LONGEST = 500

_MULTI_QUERY = f"""\
You help to search a document collection. Write {PHRASINGS} other ways to ask the user's question, as people who look \
for the same thing might word it: with synonyms, with the terms that documents use, more general or more specific. \
Keep its language and its meaning, and do not answer it. Reply with the {PHRASINGS} questions only, one a line."""

_HYDE = """\
You help to search a document collection. Write a short passage, 50 to 100 words, as it could stand in a document \
that answers the user's question. It is only compared with the documents, never shown as an answer, so it may be \
wrong. Write in the language of the question. Reply with the passage only."""

_PROMPTS = {"multi-query": _MULTI_QUERY, "hyde": _HYDE}
# What models put around a line of a list: a number, a bullet, quotation marks.
_BEFORE = regex.compile(r"^\s*(?:[-*•–]|\(?\d{1,2}[.):])?\s*")
_QUOTES = "\"'“”„«»` "

NO_USAGE = Usage()

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Queries:
    """What is searched for: `questions` by both legs, the question itself first; `passage` by the dense leg too.

    `notes` say what failed, `usage` is what the model took.
    """

    questions: tuple[str, ...]
    passage: str = ""
    notes: tuple[str, ...] = ()
    usage: Usage = NO_USAGE


def expand(question: str, expansion: QueryExpansion, generator: Generator | None) -> Queries:
    """The question with what the model adds: other phrasings (`multi-query`), or a passage that might answer (`hyde`).

    Gao et al., "Precise Zero-Shot Dense Retrieval without Relevance Labels" (2022), is the source of `hyde`. When the
    endpoint fails, or the reply is of no use, the question is searched alone. Raises `SettingsError` without a model.
    """
    if expansion == "none":
        return Queries((question,))
    if generator is None:
        raise SettingsError(
            f"query_expansion {expansion!r} needs a chat model: set FIREWORKS_API_KEY, or `base_url` (--base-url) and "
            "`model` (--model), or set `query_expansion` to 'none'"
        )
    messages = [
        Message("system", _PROMPTS[expansion]),
        Message("user", f"<question>\n{neutralise(question)}\n</question>"),
    ]
    try:
        reply = complete(generator, messages)
    except EndpointError as error:
        logger.warning("query expansion failed: %s", error)
        return Queries((question,), notes=(f"The question was searched for without expansion: {error}",))
    if expansion == "hyde":
        found = Queries((question,), passage=reply.text.strip(), usage=reply.usage)
    else:
        found = Queries((question, *phrasings(reply.text, question)), usage=reply.usage)
    if found.passage or len(found.questions) > 1:
        return found
    note = f"The question was searched for without expansion: the model {generator.model!r} added nothing to it."
    return Queries((question,), notes=(note,), usage=reply.usage)


def phrasings(reply: str, question: str) -> Sequence[str]:
    """At most three lines of a reply, without numbers, bullets, headings, the question itself and repetitions.

    >>> phrasings("Here they are:\\n1. Where is it kept?\\n2. Where is it kept?\\n- Which storage?", "Where is it?")
    ['Where is it kept?', 'Which storage?']
    """
    found: dict[str, str] = {}
    for line in reply.splitlines():
        text = _BEFORE.sub("", line).strip(_QUOTES)[:_LONGEST]
        if text and text[-1] not in ":：" and text.casefold() != question.strip().casefold():
            found.setdefault(text.casefold(), text)
    return list(found.values())[:PHRASINGS]
