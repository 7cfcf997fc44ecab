"""Retrieval quality on XQuAD: questions about paragraphs, with the one paragraph that answers each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from citekite.evaluate.dataset import Dataset, read_dataset
from citekite.evaluate.indexes import Indexes
from citekite.evaluate.metrics import DEPTH, retrieval_scores
from citekite.evaluate.relevance import gold, ranked_items
from citekite.knowledge_base import KnowledgeBase
from citekite.settings import Settings
from citekite.types import Mode

DATA = Path(__file__).parents[2] / "shared" / "data"
METRIC = "nDCG@10"
Figures = Callable[..., dict[Mode, float]]

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data beside the checkout")


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """A function from a data set's name to nDCG@10 by mode, each data set measured once."""
    folder = tmp_path_factory.mktemp("quality")

    @cache
    def measured(name: str, *modes: Mode, every: int = 1) -> dict[Mode, float]:
        dataset = read_dataset(DATA / name)
        dataset = replace(dataset, questions=dataset.questions[::every])
        settings = Settings(embedder="static")
        indexes = Indexes(dataset, settings, folder, lambda progress: None)
        found: dict[Mode, float] = {}
        for mode in modes:
            with indexes.open(settings.model_copy(update={"mode": mode})) as kb:
                found[mode] = _mean(kb, dataset)
        print(f"\n{name} {METRIC}: " + ", ".join(f"{mode} {value:.4f}" for mode, value in found.items()))
        return found

    return measured


def _mean(kb: KnowledgeBase, dataset: Dataset) -> float:
    """The metric over the questions, of ten hits each: one paragraph is one chunk here."""
    wanted = {question.id: gold(question) for question in dataset.questions}
    found = {question.id: ranked_items(question, kb.search(question.text, k=DEPTH)) for question in dataset.questions}
    return sum(scores[METRIC] for scores in retrieval_scores(wanted, found).values()) / len(wanted)


def test_english_fused_is_above_either_leg(figures: Figures) -> None:
    found = figures("xquad_en", "hybrid", "dense", "lexical", every=2)  # half the questions, for time
    assert found["hybrid"] >= 0.970
    assert found["hybrid"] >= max(found["dense"], found["lexical"])


@pytest.mark.parametrize("name", ["xquad_de", "xquad_zh"])
def test_other_languages_need_no_setting(figures: Figures, name: str) -> None:
    """An embedder made for English must not pull the lexical leg down."""
    found = figures(name, "hybrid", "lexical", every=2)
    assert found["hybrid"] >= 0.96
    assert found["hybrid"] >= found["lexical"] - 0.005
