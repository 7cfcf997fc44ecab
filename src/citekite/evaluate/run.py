"""One evaluation: every question of a set searched for and asked, scored, timed and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from citekite.errors import SettingsError
from citekite.evaluate.dataset import Dataset
from citekite.evaluate.judge import JudgeReport, judge_answers
from citekite.evaluate.metrics import ANSWER, DEPTH, RETRIEVAL, answer_scores, import_measures, retrieval_scores
from citekite.evaluate.question import Question
from citekite.evaluate.relevance import gold, missing_sources, ranked_items
from citekite.evaluate.statistics import Array, Measure, measure
from citekite.events import Done, Failed
from citekite.knowledge_base import KnowledgeBase
from citekite.ports import Generator
from citekite.reports import Progress
from citekite.retrieve.search import DEPTH as LEG_DEPTH
from citekite.retrieve.search import SearchPlan
from citekite.settings import Settings, without_password
from citekite.timing import Stopwatch
from citekite.tokens import estimate_tokens
from citekite.types import Answer, Outcome, Retrieval, Usage

METRICS = (*RETRIEVAL, *ANSWER)
# Chunks that are searched for: several may be of one document, and the metrics look at ten documents. For more, a
# search would look deeper in its legs than for the few that are answered from, and fuse other scores.
CHUNKS = LEG_DEPTH // 2
# Times that are made of others, or follow the search, in the order in which they are shown.
_WHOLE = ("search", "context", "write", "answer")


@dataclass(frozen=True, slots=True)
class Row:
    """One question: the items found, the rank of the first relevant one (None beyond the tenth), scores and seconds.

    `first` is where the best chunk stands: its source, then its headings. `outcome` is None for a question that was
    searched for and not asked.
    """

    id: str
    question: str
    answerable: bool
    found: tuple[str, ...]
    rank: int | None
    scores: Mapping[str, float]
    seconds: Mapping[str, float]
    first: tuple[str, ...] = ()
    answer: str = ""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """Median and 95th percentile of a stage, in seconds."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found.

    `settings` are those that differ from the defaults, without secrets, `collection` what was searched; `seconds` has
    a row for each stage of a search, `search` for the whole of it, `context` for finding the neighbours of the hits and
    packing the passages, `write` for the answer's text, `answer` for all three. `cost` is that of the tokens whose
    price is set, None where no price is. `notes` are remarks on what makes the figures doubtful, `judged` is what a
    model judged of the answers, where one did.
    """

    dataset: str
    settings: Mapping[str, Any]
    collection: Mapping[str, Any]
    questions: int
    unanswerable: int
    left_out: int
    metrics: Mapping[str, Measure]
    seconds: Mapping[str, Latency]
    usage: Usage
    cost: float | None
    notes: tuple[str, ...]
    rows: tuple[Row, ...] = field(repr=False)
    judged: JudgeReport | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What came back for one question."""

    question: Question
    items: tuple[str, ...]
    first: tuple[str, ...]
    seconds: Mapping[str, float]
    usage: Usage
    searched_tokens: int
    answer: Answer | None


def evaluate(
    kb: KnowledgeBase,
    dataset: Dataset,
    *,
    answers: bool = True,
    parallel: int = 1,
    judge: Generator | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """Search for and ask every question of a set, and score what comes back.

    Each is searched for once, and answered from the first hits that it found: those that `ask` would answer from.
    Questions with gold answers are also asked, and all questions where some are unanswerable, unless `answers` is
    False; with a `judge`, all are, and it judges the answers. `parallel` questions, or answers to judge, are under way
    at once. Retrieval metrics are over the questions that say where their answer stands. An error of a model endpoint
    ends the evaluation.
    """
    import_measures()
    # Beside unanswerable questions the others are asked too: only so does it show how many were refused wrongly.
    ask_all = judge or any(not one.answerable for one in dataset.questions)
    to_ask = {one.id for one in dataset.questions if answers and (ask_all or one.answers)}
    questions = [question for question in dataset.questions if to_ask or gold(question)]
    if not questions:
        raise SettingsError(
            f"nothing of {dataset.name!r} can be measured: without answers, questions need sources or passages"
        )
    asked = _ask_all(kb, questions, to_ask, parallel, report)
    rows = _rows(asked)
    status = kb.status()
    usage = sum((one.usage for one in asked), Usage())
    answered = [(one.question, one.answer) for one in asked if one.answer]
    return Report(
        dataset=dataset.name,
        settings=changed_settings(kb.settings),
        collection={name: getattr(status, name) for name in ("embedder", "splitter", "documents", "chunks")},
        questions=len(questions),
        unanswerable=sum(not question.answerable for question in questions),
        left_out=dataset.left_out,
        metrics=_measures(rows),
        seconds=_latencies(rows),
        usage=usage,
        cost=_cost(kb.settings, usage, sum(one.searched_tokens for one in asked)),
        notes=tuple(_notes(kb, questions)),
        rows=rows,
        judged=judge_answers(answered, judge, report, parallel=parallel) if judge else None,
    )


def scores_of(rows: Sequence[Row]) -> Array:
    """The scores as an array of shape (questions, metrics), NaN where a metric does not apply."""
    return np.array([[row.scores.get(name, np.nan) for name in METRICS] for row in rows], dtype=float)


def changed_settings(settings: Settings) -> dict[str, Any]:
    """The settings that differ from their defaults, without secrets and passwords."""
    values = settings.model_dump(mode="json", exclude_defaults=True)
    return {
        name: without_password(value) if isinstance(value, str) else value
        for name, value in values.items()
        if "SecretStr" not in str(Settings.model_fields[name].annotation)
    }


def _notes(kb: KnowledgeBase, questions: Sequence[Question]) -> Iterator[str]:
    """A set for other documents gives low figures for no fault of the search."""
    wanted = {source for question in questions for source in question.sources}
    missing = missing_sources(questions, (document.source for document in kb.documents()))
    if missing:
        yield f"{len(missing):,} of {len(wanted):,} gold sources are not in the collection, such as {missing[0]!r}"


def _ask_all(
    kb: KnowledgeBase,
    questions: Sequence[Question],
    to_ask: Set[str],
    parallel: int,
    report: Callable[[Progress], None],
) -> list[_Asked]:
    asked = []
    depths = _depths(kb)
    with ThreadPoolExecutor(parallel) as pool:
        futures = [pool.submit(_ask, kb, question, depths, question.id in to_ask) for question in questions]
        try:
            for future in futures:
                asked.append(future.result())
                report(Progress("asking", len(asked), len(questions), "questions"))
        finally:
            for future in futures:
                future.cancel()  # after an error or Ctrl-C nothing further is asked, or paid for
    return asked


def _depths(kb: KnowledgeBase) -> tuple[int, int]:
    """How many chunks are searched for, and how many of them, the `k` of the settings, are answered from.

    No more than the reranker reads in a search for `k`: it would order others.
    """
    collection = kb.collection()
    plan = SearchPlan.make(kb.settings, collection.record, has_lexical=collection.has_lexical, k=None, mode=None)
    return max(plan.k, min(CHUNKS, plan.rerank_depth or CHUNKS)), plan.k


def _ask(kb: KnowledgeBase, question: Question, depths: tuple[int, int], with_answer: bool) -> _Asked:
    searched_for, k = depths
    watch = Stopwatch()
    with watch.time("search"):
        found = kb.retrieve(question.text, k=searched_for)
    answer = None
    if with_answer:
        answer = _answer(kb, question, replace(found, hits=found.hits[:k]), watch)
        watch.seconds["answer"] = sum(watch.seconds.values())
    return _Asked(
        question=question,
        items=tuple(ranked_items(question, found.hits)[:DEPTH]),
        first=next(((hit.chunk.source, *hit.chunk.headings) for hit in found.hits), ()),
        seconds={**found.seconds, **watch.seconds},
        usage=answer.usage if answer else found.usage,
        searched_tokens=sum(map(estimate_tokens, found.queries)),
        answer=answer,
    )


def _answer(kb: KnowledgeBase, question: Question, found: Retrieval, watch: Stopwatch) -> Answer:
    events = kb.ask_stream(question.text, found=found)
    with watch.time("context"):
        first = next(events)
    with watch.time("write"):
        last = [first, *events][-1]
    if isinstance(last, Failed):
        raise last.error
    assert isinstance(last, Done), "an answer ends with Done or Failed"
    return last.answer


def _rows(asked: Sequence[_Asked]) -> tuple[Row, ...]:
    wanted = {one.question.id: items for one in asked if (items := gold(one.question))}
    found = {one.question.id: one.items for one in asked}
    scores = retrieval_scores(wanted, found)
    # Where everything has an answer, a refusal is wrong by definition, and its precision says nothing.
    some_unanswerable = any(not one.question.answerable for one in asked)
    return tuple(
        Row(
            id=one.question.id,
            question=one.question.text,
            answerable=one.question.answerable,
            found=one.items,
            rank=_first_rank(one.items, wanted.get(one.question.id, {})),
            scores={
                **scores.get(one.question.id, {}),
                **_answer_scores(one, some_unanswerable),
            },
            seconds=one.seconds,
            first=one.first,
            answer=one.answer.text if one.answer else "",
            outcome=one.answer.outcome if one.answer else None,
        )
        for one in asked
    )


def _answer_scores(one: _Asked, some_unanswerable: bool) -> dict[str, float]:
    scores = answer_scores(one.question, one.answer) if one.answer else {}
    return {name: score for name, score in scores.items() if some_unanswerable or name != "abstention precision"}


def _first_rank(items: Iterable[str], wanted: Mapping[str, int]) -> int | None:
    return next((rank for rank, item in enumerate(items, start=1) if item in wanted), None)


def _measures(rows: Sequence[Row]) -> dict[str, Measure]:
    found = zip(METRICS, measure(scores_of(rows)), strict=True)
    return {name: value for name, value in found if value is not None}


def _latencies(rows: Sequence[Row]) -> dict[str, Latency]:
    stages = dict.fromkeys(stage for row in rows for stage in row.seconds)
    latencies = {}
    for stage in sorted(stages, key=lambda stage: _WHOLE.index(stage) if stage in _WHOLE else -1):
        seconds = [row.seconds[stage] for row in rows if stage in row.seconds]
        latencies[stage] = Latency(*(float(np.quantile(seconds, share)) for share in (0.5, 0.95)))
    return latencies


def _cost(settings: Settings, usage: Usage, searched_tokens: int) -> float | None:
    priced = [
        (settings.prompt_price, usage.prompt_tokens),
        (settings.completion_price, usage.completion_tokens),
        (settings.embedding_price, searched_tokens),
    ]
    if all(price is None for price, _ in priced):
        return None
    return sum(price * tokens for price, tokens in priced if price is not None) / 1_000_000
