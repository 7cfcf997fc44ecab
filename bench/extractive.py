"""How many extractive answers (at most two sentences) hold a gold answer, with the top 5 passages of a hybrid search.

A data set has `corpus.jsonl` (`_id`, `text`) and `queries.jsonl` (`text`, `answers`). No model and no key is used.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import Result, data, publish
from citekite import KnowledgeBase
from citekite.answer.confidence import DEFAULT_THRESHOLD, estimate
from citekite.answer.extract import extract
from citekite.answer.respond import NOTHING_NEAR
from citekite.settings import Settings
from citekite.types import Hit

DATA_SET = "xquad_en"
PASSAGES = 5


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares of all questions: a gold answer in the passages, in what is shown, and outcome `no_evidence`."""

    questions: int
    retrieved: float
    answered: float
    refused: float


def measure(questions: Iterable[tuple[str, Sequence[str]]], search: Callable[[str], Sequence[Hit]]) -> Figures:
    """The figures over questions with their gold answers; where no sentence is shown, there is no answer."""
    total = retrieved = answered = refused = 0
    for question, gold in questions:
        hits = search(question)
        total += 1
        retrieved += any(wanted in hit.chunk.text for hit in hits for wanted in gold)
        judged = estimate(question, hits)
        refused += judged.answering < DEFAULT_THRESHOLD
        if judged.answering < DEFAULT_THRESHOLD and judged.related < NOTHING_NEAR:
            continue  # no sentence is shown
        text = " ".join(sentence.text for sentence in extract(question, hits))
        answered += any(wanted in text for wanted in gold)
    return Figures(total, retrieved / total, answered / total, refused / total)


def read_questions(folder: Path) -> list[tuple[str, Sequence[str]]]:
    """The questions of a folder with their gold answers."""
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    return [(query["text"], query["answers"]) for query in map(json.loads, lines)]


def main() -> None:
    folder = data(DATA_SET)
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(uri=f"{temporary}/bench.db", embedder="static")
        with KnowledgeBase(settings=settings) as kb:
            kb.sync(folder / "corpus.jsonl")
            figures = measure(read_questions(folder), lambda question: kb.search(question, k=PASSAGES))
    results = [
        Result("gold answer in the passages", figures.retrieved),
        Result("gold answer in at most two sentences", figures.answered, at_least=0.89),
        Result("refused to answer", figures.refused),
    ]
    publish("extractive", f"{DATA_SET}: extractive answers, {figures.questions:,} questions, no model", results)
