"""Answers a question from hits as a stream of events: with a model where there is one, else in the documents' words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from citekite.answer.cite import CitationStream, locate, resolve
from citekite.answer.extract import content_words, extract, readable, relevant
from citekite.answer.generate import closing_stream, complete, empty_reply
from citekite.answer.prompt import NOT_IN_DOCUMENTS, answer_messages, pack, rewrite_messages, says_not_in_documents
from citekite.answer.verify import unverified_quotes
from citekite.errors import CitekiteError
from citekite.ports import Generator
from citekite.types import (
    Answer,
    Chunk,
    Cited,
    Delta,
    Done,
    Event,
    Failed,
    Hit,
    Outcome,
    Retrieval,
    Retrieved,
    Turn,
    Usage,
)

NO_MODEL = (
    "No model is configured, so these are sentences of the documents. "
    "Set FIREWORKS_API_KEY, or --base-url and --model, for a written answer."
)
# By the reason that the endpoint gives for stopping.
_CUT_SHORT = {
    "length": "The answer was cut short at max_tokens; a larger `max_tokens` (--max-tokens) lets it finish.",
    "content_filter": "The endpoint's content filter stopped the answer.",
}
NO_CITATION = "The answer cites no passage."

NO_USAGE = Usage()

# A follow-up with fewer content words ("And on Windows?") says too little to search for alone.
_FOLLOW_UP_WORDS = 3


def respond(
    question: str,
    standalone: str,
    found: Retrieval,
    generator: Generator | None,
    *,
    context_tokens: int,
    neighbours: Sequence[Chunk] = (),
    usage: Usage = NO_USAGE,
) -> Iterator[Event]:
    """The events of one answer: `Retrieved`, then `Delta` and `Cited`, then `Done` or `Failed`.

    `standalone` is the question that `found` was searched for; `usage` is what rewriting it cost; `neighbours` are
    chunks that stand beside the hits, by which passages may grow. The texts of the
    `Delta` events joined are the answer's text. Without a hit the model is not asked; without a model, passages that
    share too little with the question give no answer. An error of the endpoint becomes `Failed`. Closing the iterator
    closes the model's stream.
    """
    passages = pack(found.hits, context_tokens, neighbours)
    usage += found.usage
    yield Retrieved(passages, standalone, found.notes, found.queries[1:])
    with closing_stream(_answered(question, standalone, found, passages, generator, usage)) as events:
        for event in events:
            yield _noted(event, found.notes) if isinstance(event, Done) else event


def _answered(
    question: str,
    standalone: str,
    found: Retrieval,
    passages: tuple[Hit, ...],
    generator: Generator | None,
    usage: Usage,
) -> Iterator[Event]:
    """The events after `Retrieved`."""
    # Judged by the hits: grown passages hold more words of any question, also of one that they do not answer.
    if not passages or (generator is None and not relevant(standalone, found.hits)):
        yield Delta(NOT_IN_DOCUMENTS)
        answer = Answer(question, NOT_IN_DOCUMENTS, (), passages, "no_evidence", usage, standalone=standalone)
        yield Done(answer)
    elif generator is None:
        yield from _extracted(question, standalone, passages, usage)
    else:
        yield from _generated(question, standalone, passages, generator, usage)


def _noted(done: Done, notes: tuple[str, ...]) -> Done:
    """The answer with the remarks on its search in front of its own."""
    return Done(replace(done.answer, notes=notes + done.answer.notes)) if notes else done


def standalone_question(question: str, history: Sequence[Turn], generator: Generator | None) -> tuple[str, Usage]:
    """A follow-up written so that it can be searched for alone, and the tokens that took; raises `EndpointError`.

    Without earlier turns it is the question itself. Without a model (or with an empty reply of it) a follow-up of
    fewer than three content words (2-grams, in a script without spaces) is put behind the previous question, and any
    other stays as it is.
    """
    if not history:
        return question, NO_USAGE
    usage, text = NO_USAGE, ""
    if generator is not None:
        reply = complete(generator, rewrite_messages(question, history))
        usage, text = reply.usage, reply.text
    if rewritten := " ".join(text.split()).strip('"“”'):
        return rewritten, usage
    short = sum(map(len, content_words(question))) < _FOLLOW_UP_WORDS
    return (f"{history[-1].question} {question}" if short else question), usage


def _extracted(question: str, standalone: str, passages: tuple[Hit, ...], usage: Usage) -> Iterator[Event]:
    """The events of an answer made of sentences of the passages."""
    text = ""
    spans: dict[int, tuple[int, int]] = {}
    for sentence in extract(standalone, passages):
        number, chunk = sentence.passage_number, passages[sentence.passage_number - 1].chunk
        shown = readable(sentence.text)
        between = ("\n\n" if "\n" in shown or "\n" in text else " ") if text else ""
        piece = f"{between}{shown}" + ("\n" if "\n" in shown else " ")
        marker = f"[{number}]"
        yield from (Delta(piece), Cited(number, len(text) + len(piece)), Delta(marker))
        text += piece + marker
        start, end = spans.setdefault(number, (sentence.start, sentence.end))
        if not chunk.text[end : sentence.start].strip():  # it goes on where the cited one ended
            spans[number] = start, sentence.end
    citations = tuple(locate(number, passages[number - 1], *span) for number, span in spans.items())
    notes = (NO_MODEL,)
    yield Done(Answer(question, text, citations, passages, "answered", usage, standalone=standalone, notes=notes))


def _generated(
    question: str, standalone: str, passages: tuple[Hit, ...], generator: Generator, usage: Usage
) -> Iterator[Event]:
    """The events of an answer that the model writes."""
    reading = CitationStream(len(passages))
    reason: str | None = None
    counted = NO_USAGE
    try:
        with closing_stream(generator.stream(answer_messages(standalone, passages))) as stream:
            for piece in stream:
                # A reply that begins with blank lines would leave a hole above the answer.
                yield from reading.feed(piece.text if reading.text else piece.text.lstrip())
                counted = piece.usage or counted
                reason = piece.finish_reason or reason
        yield from reading.finish()
        if not reading.text.strip():
            raise empty_reply(generator.model, reason)
    except CitekiteError as error:
        yield from reading.finish()
        yield Failed(error, reading.text)
        return
    yield Done(_written(question, standalone, passages, reading, reason, generator.model, usage + counted))


def _written(
    question: str,
    standalone: str,
    passages: tuple[Hit, ...],
    reading: CitationStream,
    reason: str | None,
    model: str,
    usage: Usage,
) -> Answer:
    """The answer that a model's whole reply makes."""
    text = reading.text
    notes: list[str] = []
    outcome: Outcome = "answered"
    if reason in _CUT_SHORT:
        outcome = "cut_short"
        notes.append(_CUT_SHORT[reason])
    if not reading.cited:
        if says_not_in_documents(text):
            outcome = "no_evidence"
        else:
            notes.append(NO_CITATION)
    return Answer(
        question,
        text,
        resolve(text, passages, reading.cited),
        passages,
        outcome,
        usage,
        model,
        standalone,
        reading.dropped,
        unverified_quotes(text, passages),
        tuple(notes),
    )
