"""Retrieval quality on XQuAD: questions about paragraphs, with the one paragraph that answers each."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from citekite import KnowledgeBase
from citekite.settings import Settings
from citekite.types import Mode

DATA = Path(__file__).parents[2] / "shared" / "data"
DEPTH = 10
Figures = Callable[..., dict[Mode, float]]

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data beside the checkout")


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """A function from a data set's name to nDCG@10 by mode, each data set measured once."""
    folder = tmp_path_factory.mktemp("quality")

    @cache
    def measured(name: str, *modes: Mode, every: int = 1) -> dict[Mode, float]:
        with KnowledgeBase(settings=Settings(uri=str(folder / f"{name}.db"), embedder="static")) as kb:
            kb.sync(DATA / name / "corpus.jsonl")
            found = {mode: _mean_ndcg(kb, DATA / name, mode, every) for mode in modes}
        print(f"\n{name} nDCG@{DEPTH}: " + ", ".join(f"{mode} {value:.4f}" for mode, value in found.items()))
        return found

    return measured


def test_english_fused_is_above_either_leg(figures: Figures) -> None:
    found = figures("xquad_en", "hybrid", "dense", "lexical")
    assert found["hybrid"] >= 0.970
    assert found["hybrid"] >= max(found["dense"], found["lexical"])


@pytest.mark.parametrize("name", ["xquad_de", "xquad_zh"])
def test_other_languages_need_no_setting(figures: Figures, name: str) -> None:
    """An embedder made for English must not pull the lexical leg down."""
    found = figures(name, "hybrid", "lexical", every=2)  # half the questions, for time
    assert found["hybrid"] >= 0.96
    assert found["hybrid"] >= found["lexical"] - 0.005


def _mean_ndcg(kb: KnowledgeBase, folder: Path, mode: Mode, every: int) -> float:
    relevant = _relevant(folder)
    questions = _lines(folder / "queries.jsonl")[::every]
    scores = [_ndcg(_ranked(kb, question["text"], mode), relevant[question["_id"]]) for question in questions]
    return sum(scores) / len(scores)


def _ranked(kb: KnowledgeBase, question: str, mode: Mode) -> list[str]:
    """The paragraphs in the order in which a chunk of each was first found."""
    hits = kb.search(question, k=DEPTH, mode=mode)
    return list(dict.fromkeys(hit.chunk.source.rpartition("#")[2] for hit in hits))[:DEPTH]


def _ndcg(ranked: Sequence[str], relevant: set[str]) -> float:
    gain = sum(1 / math.log2(rank + 1) for rank, name in enumerate(ranked, start=1) if name in relevant)
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), DEPTH) + 1))


def _relevant(folder: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in (folder / "qrels").iterdir():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                if int(row["score"]) > 0:
                    found.setdefault(row["query-id"], set()).add(row["corpus-id"])
    return found


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
