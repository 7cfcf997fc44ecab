"""Prints how many extractive answers (at most two sentences) hold a gold answer.

    python bench/extractive.py ../shared/data/xquad_en [../shared/data/xquad_de ...]

A folder has `corpus.jsonl` (`_id`, `text`) and `queries.jsonl` (`text`, `answers`). No model and no key is used.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from citekite import KnowledgeBase
from citekite.answer.extract import extract, relevant
from citekite.types import Hit


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares of all questions: a gold answer in the passages, in the answer, and no answer given."""

    questions: int
    retrieved: float
    answered: float
    refused: float

    def __str__(self) -> str:
        return (
            f"{self.questions} questions: gold answer in the passages {self.retrieved:.4f}, "
            f"in at most two sentences {self.answered:.4f}, refused {self.refused:.4f}"
        )


def measure(questions: Iterable[tuple[str, Sequence[str]]], search: Callable[[str], Sequence[Hit]]) -> Figures:
    """The figures over questions with their gold answers; a refused question counts as not answered."""
    total = retrieved = answered = refused = 0
    for question, gold in questions:
        hits = search(question)
        total += 1
        retrieved += any(wanted in hit.chunk.text for hit in hits for wanted in gold)
        if not relevant(question, hits):
            refused += 1
            continue
        text = " ".join(sentence.text for sentence in extract(question, hits))
        answered += any(wanted in text for wanted in gold)
    return Figures(total, retrieved / total, answered / total, refused / total)


def read_questions(folder: Path) -> list[tuple[str, Sequence[str]]]:
    """The questions of a folder with their gold answers."""
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    return [(query["text"], query["answers"]) for query in map(json.loads, lines)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Share of extractive answers that hold a gold answer.")
    parser.add_argument("folders", nargs="+", type=Path)
    for folder in parser.parse_args().folders:
        with tempfile.TemporaryDirectory() as temporary, KnowledgeBase(f"{temporary}/bench.db") as kb:
            kb.sync(folder / "corpus.jsonl")
            print(f"{folder.name}: {measure(read_questions(folder), lambda question: kb.search(question, k=5))}")


if __name__ == "__main__":
    main()
