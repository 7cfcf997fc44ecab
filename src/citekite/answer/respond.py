"""Answers a question from hits as a stream of events: with a model where there is one, else in the documents' words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from citekite.answer.cite import CitationStream, locate, resolve
from citekite.answer.confidence import DEFAULT_THRESHOLD, estimate, threshold
from citekite.answer.entail import entail
from citekite.answer.explain import explained
from citekite.answer.extract import content_words, extract, readable
from citekite.answer.generate import closing_stream, complete, empty_reply
from citekite.answer.inert import InertStream, inert
from citekite.answer.prompt import NOT_IN_DOCUMENTS, answer_messages, pack, rewrite_messages, says_not_in_documents
from citekite.answer.support import check_claims
from citekite.answer.verify import unverified_quotes
from citekite.errors import CitekiteError
from citekite.events import Cited, Delta, Done, Event, Failed, Retrieved
from citekite.ports import Generator
from citekite.settings import Settings
from citekite.store.record import CollectionRecord
from citekite.timing import Clock, Stopwatch
from citekite.types import Answer, Chunk, Hit, Outcome, Retrieval, Turn, Usage

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
NOT_SURE = "The documents may not answer this question. What comes closest:"
IMAGES = "{count} of the answer's images stands as text: showing it could send words of the answer to its address."
# Below this probability of being about the subject, nothing that the passages say comes close.
NOTHING_NEAR = 0.15

NO_USAGE = Usage()

# A follow-up with fewer content words ("And on Windows?") says too little to search for alone.
_FOLLOW_UP_WORDS = 3


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """How an answer is made: the token budget of its passages, the least confidence of one without a model, and
    whether the model checks the sentences of its own; with `explain` it says how it came about."""

    context_tokens: int
    threshold: float = DEFAULT_THRESHOLD
    verify: bool = False
    explain: bool = False

    @classmethod
    def make(cls, settings: Settings, record: CollectionRecord, *, explain: bool = False) -> AnswerPlan:
        """The plan by settings, then what the collection's record was tuned to, then defaults."""
        return cls(
            settings.context_tokens,
            threshold(settings.abstain_threshold, record.abstain_threshold),
            settings.verify == "model",
            explain,
        )


@dataclass(frozen=True, slots=True)
class _Draft:
    """An answer whose sentences are still to be checked, by the markers that they are cited with."""

    answer: Answer
    marks: Sequence[Cited] = ()


def respond(
    question: str,
    standalone: str,
    found: Retrieval,
    generator: Generator | None,
    plan: AnswerPlan,
    *,
    neighbours: Sequence[Chunk] = (),
    usage: Usage = NO_USAGE,
) -> Iterator[Event]:
    """The events of one answer: `Retrieved`, then `Delta` and `Cited`, then `Done` or `Failed`.

    `standalone` is the question that `found` was searched for; `usage` is what rewriting it cost; `neighbours` are
    chunks that stand beside the hits, by which passages may grow. The texts of the `Delta` events joined are the
    answer's text. Without a hit the model is not asked. Without a model, a confidence below the plan's threshold is
    `no_evidence`; what comes closest is still shown, unless the passages are about something else. An error of the
    endpoint becomes `Failed`. Closing the iterator closes the model's stream.
    """
    watch = Stopwatch()
    with watch.time("pack") as clock:
        passages = pack(found.hits, plan.context_tokens, neighbours)
        clock.details = {"passages": len(passages), "budget": plan.context_tokens}
    usage += found.usage
    yield Retrieved(passages, standalone, found.notes, found.queries[1:])
    with watch.time("confidence") as clock:
        # Judged by the hits: grown passages hold more words of any question, also of one that they do not answer.
        judged = estimate(standalone, found.hits)
        sure = judged.answering
        clock.details = {"confidence": sure}
    events: Iterator[Event | _Draft]
    if not passages or (generator is None and sure < plan.threshold and judged.related < NOTHING_NEAR):
        events = _declined(question, passages, usage)
    elif generator is None:
        events = _extracted(question, standalone, passages, usage, sure=sure >= plan.threshold)
    else:
        events = _generated(question, standalone, passages, generator, usage)
    draft: _Draft | None = None
    with watch.time("extract" if generator is None else "generate") as clock, closing_stream(events) as stream:
        for event in stream:
            if isinstance(event, _Draft):
                draft = event
            else:
                if isinstance(event, Delta):
                    clock.first()
                yield event
    if draft is not None:
        answer = _checked(draft, generator if plan.verify else None, watch)
        notes = (*found.notes, *answer.notes)
        explanation = explained(answer, found, watch.stages) if plan.explain else None
        yield Done(replace(answer, standalone=standalone, confidence=sure, notes=notes, explanation=explanation))


def _declined(question: str, passages: tuple[Hit, ...], usage: Usage) -> Iterator[Event | _Draft]:
    """The events of an answer that says that the documents have none."""
    yield Delta(NOT_IN_DOCUMENTS)
    yield _Draft(Answer(question, NOT_IN_DOCUMENTS, (), passages, "no_evidence", usage))


def _checked(draft: _Draft, verifier: Generator | None, watch: Stopwatch) -> Answer:
    """The answer with its claims, by overlap, then judged by a model where there is one and it can."""
    answer = draft.answer
    if answer.outcome == "no_evidence":
        return answer
    with watch.time("verify") as clock:
        answer = replace(answer, claims=check_claims(answer.text, answer.hits, draft.marks))
        if verifier is not None:
            answer = _verified(answer, verifier, clock)
        supported = sum(claim.verdict == "supported" for claim in answer.claims)
        clock.details = {"sentences": len(answer.claims), "supported": supported}
    return answer


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


def _extracted(
    question: str, standalone: str, passages: tuple[Hit, ...], usage: Usage, *, sure: bool
) -> Iterator[Event | _Draft]:
    """The events of an answer made of sentences of the passages; where it is not sure to be one, it says so first."""
    text = ""
    spans: dict[int, tuple[int, int]] = {}
    marks: list[Cited] = []
    if not sure:
        text = f"{NOT_SURE}\n\n"
        yield Delta(text)
    for sentence in extract(standalone, passages):
        number, chunk = sentence.passage_number, passages[sentence.passage_number - 1].chunk
        shown = inert(readable(sentence.text))
        between = ("\n\n" if "\n" in shown or "\n" in text else " ") if marks else ""
        piece = f"{between}{shown}" + ("\n" if "\n" in shown else " ")
        marker = f"[{number}]"
        # The marker behind a list stands for each of its lines.
        marks += [Cited(number, len(text) + len(between) + end) for end in _line_ends(shown)]
        yield from (Delta(piece), Cited(number, len(text) + len(piece)), Delta(marker))
        text += piece + marker
        start, end = spans.setdefault(number, (sentence.start, sentence.end))
        if not chunk.text[end : sentence.start].strip():  # it goes on where the cited one ended
            spans[number] = start, sentence.end
    citations = tuple(locate(number, passages[number - 1], *span) for number, span in spans.items())
    outcome: Outcome = "answered" if sure else "no_evidence"
    yield _Draft(Answer(question, text, citations, passages, outcome, usage, notes=(NO_MODEL,)), marks)


def _line_ends(text: str) -> Iterator[int]:
    """The offsets at which the lines of a text that hold anything end."""
    end = 0
    for line in text.splitlines(keepends=True):
        end += len(line)
        if line.strip():
            yield end - (len(line) - len(line.rstrip()))


def _generated(
    question: str, standalone: str, passages: tuple[Hit, ...], generator: Generator, usage: Usage
) -> Iterator[Event | _Draft]:
    """The events of an answer that the model writes."""
    reading, harmless = CitationStream(len(passages)), InertStream()
    reason: str | None = None
    counted, writer, notes = NO_USAGE, generator.model, []
    try:
        with closing_stream(generator.stream(answer_messages(standalone, passages))) as stream:
            for piece in stream:
                # A reply that begins with blank lines would leave a hole above the answer.
                text = harmless.feed(piece.text)
                yield from reading.feed(text if reading.text else text.lstrip())
                counted = piece.usage or counted
                reason = piece.finish_reason or reason
                writer = piece.model or writer
                notes += [piece.note] if piece.note else []
        yield from (*reading.feed(harmless.finish()), *reading.finish())
        if not reading.text.strip():
            raise empty_reply(writer, reason)
    except CitekiteError as error:
        yield from (*reading.feed(harmless.finish()), *reading.finish())
        yield Failed(error, reading.text)
        return
    answer = _written(question, passages, reading, reason, writer, usage + counted)
    if harmless.images:
        notes.append(IMAGES.format(count=harmless.images))
    yield _Draft(replace(answer, notes=(*answer.notes, *notes)), reading.cited)


def _verified(answer: Answer, verifier: Generator, clock: Clock) -> Answer:
    """The answer with its claims judged by a model, or as they are, with a note, where that fails."""
    try:
        claims, usage = entail(answer.text, answer.claims, answer.hits, verifier)
    except CitekiteError as error:
        note = f"The sentences were checked by overlap alone: {error}"
        return replace(answer, notes=(*answer.notes, note), usage=answer.usage + clock.told())
    return replace(answer, claims=claims, usage=answer.usage + usage)


def _written(
    question: str,
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
        dropped_markers=reading.dropped,
        unverified_quotes=unverified_quotes(text, passages),
        notes=tuple(notes),
    )
