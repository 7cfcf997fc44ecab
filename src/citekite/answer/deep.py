"""A deep answer: the question is split and searched in rounds until the evidence suffices or a budget ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from citekite.answer.deep_prompt import (
    AGAIN,
    Assessment,
    assess_messages,
    plan_messages,
    read_assessment,
    read_plan,
    without_doubles,
)
from citekite.answer.generate import closing_stream, complete
from citekite.answer.prompt import pack
from citekite.answer.respond import NO_USAGE, AnswerPlan, respond
from citekite.errors import CitekiteError, EndpointReply, EndpointUnavailable, SettingsError
from citekite.events import Done, Event, Failed
from citekite.explanation import Explanation, Placed, together
from citekite.ports import Generator, Message
from citekite.retrieve.fuse import fuse, ranked
from citekite.settings import Settings
from citekite.timing import Stopwatch
from citekite.tokens import estimate_tokens
from citekite.types import Chunk, Hit, Retrieval, Step, Usage

T = TypeVar("T")
Search = Callable[[str], Retrieval]
# The chunks that stand beside hits, by which passages may grow.
Beside = Callable[[Sequence[Hit]], Sequence[Chunk]]

ENOUGH = "The passages suffice."
NOTHING_FOUND = "The search found nothing."
NOTHING_NEW = "Further searches find nothing new."


@dataclass(frozen=True, slots=True)
class Budget:
    """What a deep answer may take: rounds of search, tokens of all requests, and seconds until it is written.

    `context_tokens` is the part of the tokens that the passages of one prompt may take.
    """

    rounds: int
    tokens: int
    seconds: float
    context_tokens: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Budget:
        """The budget as the settings have it; half of the tokens are kept for the answer where they are few."""
        return cls(
            settings.deep_rounds,
            settings.deep_tokens,
            settings.deep_seconds,
            min(settings.context_tokens, settings.deep_tokens // 2),
        )


def respond_deep(
    question: str,
    standalone: str,
    search: Search,
    beside: Beside,
    generator: Generator | None,
    budget: Budget,
    plan: AnswerPlan,
    *,
    usage: Usage = NO_USAGE,
) -> Iterator[Event]:
    """The events of a deep answer: `Step`s, then those of `respond` from the passages of all rounds.

    The budget is looked at before each search and request, and ends one that is under way; at least one search is made,
    and the answer is written also when the budget is over or the endpoint gave no plan or judgement. Any other error,
    such as a missing model, becomes `Failed`.
    """
    if generator is None:
        yield Failed(
            SettingsError(
                "a deep answer needs a chat model: set FIREWORKS_API_KEY or OPENAI_API_KEY, or `base_url` (--base-url, "
                "CITEKITE_BASE_URL) and `model` (--model, CITEKITE_MODEL); without one, ask without --deep"
            )
        )
        return
    research = _Research(standalone, search, generator, budget)
    steps: list[Step] = []
    try:
        for step in research.run():
            steps.append(step)
            yield step
    except CitekiteError as error:
        yield Failed(error)
        return
    found = research.found()
    answer = respond(
        question,
        standalone,
        found,
        generator,
        replace(plan, context_tokens=budget.context_tokens),
        neighbours=beside(found.hits),
        usage=usage,
    )
    with closing_stream(answer) as events:
        for event in events:
            yield Done(replace(event.answer, steps=tuple(steps))) if isinstance(event, Done) else event


class _Research:
    """The rounds of search for one question, with what they found and spent."""

    def __init__(self, question: str, search: Search, generator: Generator, budget: Budget) -> None:
        self._question = question
        self._search = search
        self._generator = generator
        self._budget = budget
        self._deadline = time.monotonic() + budget.seconds
        self._spent = 0
        self._usage = Usage()
        self._found: dict[str, Retrieval] = {}
        self._notes: list[str] = []
        self._unanswered = ""
        self._watch = Stopwatch()

    def run(self) -> Iterator[Step]:
        """The steps, the last one saying why the search ended."""
        with self._watch.time("plan"):
            plan = self._ask(plan_messages(self._question), read_plan) or ()
        # The question itself may find the one passage that answers it as a whole.
        queries = without_doubles((self._question, *plan))
        yield Step("plan", 1, queries=queries)
        number, end = 0, ""
        while not end:
            number += 1
            new = self._search_all(queries)
            yield Step("search", number, queries=tuple(query for query in queries if query in self._found), new=new)
            assessment, end = self._judge(number, new)
            if assessment is not None:
                queries = without_doubles(assessment.queries, known=self._found)
                yield Step("assess", number, assessment.missing, queries)
        yield Step("stop", number, end)

    def found(self) -> Retrieval:
        """The passages of all searches, fused by rank (RRF), with the tokens of all requests."""
        best: dict[str, Hit] = {}
        for retrieval in self._found.values():
            for hit in retrieval.hits:
                if (known := best.get(hit.chunk.id)) is None or hit.rank < known.rank:
                    best[hit.chunk.id] = hit
        lists = {
            query: ranked([(hit.chunk.id, hit.score) for hit in retrieval.hits])
            for query, retrieval in self._found.items()
        }
        hits = tuple(
            replace(best[id], score=score, rank=rank)
            for rank, (id, score) in enumerate(fuse(lists, {}, "rrf"), start=1)
        )
        seconds: dict[str, float] = {}
        for retrieval in self._found.values():
            for stage, took in retrieval.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + took
        notes = tuple(dict.fromkeys(self._notes))
        return Retrieval(hits, tuple(self._found), notes, seconds, self._usage, self._explanation(hits))

    def _explanation(self, hits: Sequence[Hit]) -> Explanation:
        """The stages of all searches, with those of the model; each hit as the search placed it that ranked it best."""
        searched = [found.explanation for found in self._found.values() if found.explanation is not None]
        placed: dict[str, Placed] = {}
        for one in sorted((one for each in searched for one in each.hits), key=lambda one: one.rank):
            placed.setdefault(one.id, one)
        stages = together((*(stage for each in searched for stage in each.stages), *self._watch.stages))
        ranked_hits = (replace(placed[hit.chunk.id], rank=hit.rank, score=hit.score) for hit in hits)
        return Explanation(stages, tuple(ranked_hits) if searched else ())

    def _search_all(self, queries: Sequence[str]) -> int:
        """Search for each query within the time; returns how many passages were not known before."""
        known = self._ids()
        for query in queries:
            if self._found and self._late():
                break
            self._found[query] = retrieval = self._search(query)
            self._usage += retrieval.usage
            self._spent += retrieval.usage.prompt_tokens + retrieval.usage.completion_tokens
            self._notes += retrieval.notes
        return len(self._ids() - known)

    def _judge(self, number: int, new: int) -> tuple[Assessment | None, str]:
        """The model's judgement after a round, and why the search ends (empty: it goes on)."""
        if not self._ids():
            return None, NOTHING_FOUND
        if not new and not self._late():
            return None, NOTHING_NEW
        passages = pack(self.found().hits, self._budget.context_tokens)
        messages = assess_messages(self._question, tuple(self._found), passages)
        with self._watch.time("assess"):
            assessment = self._ask(messages, read_assessment)
        if assessment is None:
            return None, self._noted(self._over(messages) or _unjudged(self._unanswered))
        if assessment.enough:
            return Assessment(True, "", ()), ENOUGH
        if number == self._budget.rounds:
            missing = f" Still missing: {assessment.missing}" if assessment.missing else ""
            rounds = "1 round" if number == 1 else f"{number} rounds"
            return assessment, self._noted(f"The search ended after {rounds} (`deep_rounds`).{missing}")
        return assessment, "" if without_doubles(assessment.queries, known=self._found) else NOTHING_NEW

    def _ask(self, messages: list[Message], read: Callable[[str], T | None]) -> T | None:
        """What `read` makes of the model's reply, asked for twice.

        None where it cannot be read, the budget ends, or the endpoint gives none.
        """
        self._unanswered = ""
        for _ in range(2):
            if self._over(messages):
                return None
            try:
                reply = complete(self._generator, messages, seconds=self._deadline - time.monotonic())
            except (EndpointUnavailable, EndpointReply) as error:
                # What was found may do; whether the endpoint is down, the request for the answer tells.
                self._unanswered = str(error)
                return None
            self._usage += reply.usage
            counted = reply.usage.prompt_tokens + reply.usage.completion_tokens
            self._spent += counted or _estimate(messages) + estimate_tokens(reply.text)
            if (result := read(reply.text)) is not None:
                return result
            messages = [*messages, Message("assistant", reply.text.strip() or "{}"), AGAIN]
        return None

    def _over(self, messages: Sequence[Message]) -> str:
        """Why there is no budget for this request and the answer after it; empty where there is."""
        if self._late():
            return f"The search ended at its budget of {self._budget.seconds:g} s (`deep_seconds`)."
        if self._spent + _estimate(messages) + self._budget.context_tokens > self._budget.tokens:
            return f"The search ended at its budget of {self._budget.tokens:,} tokens (`deep_tokens`)."
        return ""

    def _late(self) -> bool:
        return time.monotonic() >= self._deadline

    def _noted(self, end: str) -> str:
        self._notes.append(end)
        return end

    def _ids(self) -> set[str]:
        return {hit.chunk.id for retrieval in self._found.values() for hit in retrieval.hits}


def _unjudged(fault: str) -> str:
    """Why the search ended without a judgement: what was wrong at the endpoint, or an unreadable reply."""
    if fault:
        return f"The search ended, because the model did not judge the passages: {fault}"
    return "The model's judgement of the passages could not be read, so the search ended."


def _estimate(messages: Sequence[Message]) -> int:
    return sum(estimate_tokens(message.content) for message in messages)
