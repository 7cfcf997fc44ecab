"""Metrics and statistics against cases worked by hand."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.errors import MissingExtra
from citekite.evaluate.metrics import RETRIEVAL, answer_scores, answer_tokens, contains, retrieval_scores, token_f1
from citekite.evaluate.question import Question
from citekite.evaluate.statistics import compare, holm, measure
from citekite.types import Answer, Citation, Outcome
from passages import make_hit

MODULES = ("metrics", "statistics", "relevance", "compare", "indexes")
QUESTION = Question("1", "Where is metadata kept?", sources=("a.md", "b.md"), answers=("etcd", "the etcd store"))


def test_examples_hold() -> None:
    paths = [str(importlib.import_module(f"citekite.evaluate.{module}").__file__) for module in MODULES]
    done = subprocess.run([sys.executable, "-m", "doctest", *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_retrieval_metrics_are_those_worked_by_hand() -> None:
    """Graded: a (3), b (1), found at ranks 2 and 4; z is never found. Second question: nothing found."""
    wanted = {"q": {"a": 3, "b": 1, "z": 1}, "none": {"a": 1}}
    scores = retrieval_scores(wanted, {"q": ["x", "a", "y", "b"], "none": []})

    gain = 3 / math.log2(3) + 1 / math.log2(5)
    best = 3 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert scores["q"] == pytest.approx(
        {
            "nDCG@10": gain / best,
            "MRR@10": 1 / 2,
            "recall@1": 0,
            "recall@3": 1 / 3,
            "recall@5": 2 / 3,
            "recall@10": 2 / 3,
            "hit rate@10": 1,
        }
    )
    assert scores["none"] == dict.fromkeys(RETRIEVAL, 0.0)


def test_what_stands_below_the_tenth_place_counts_for_nothing() -> None:
    ranked = [f"x{number}" for number in range(10)] + ["a"]
    assert retrieval_scores({"q": {"a": 1}}, {"q": ranked})["q"] == dict.fromkeys(RETRIEVAL, 0.0)


def test_metrics_without_the_extra_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingExtra, match=r"pip install 'citekite\[eval\]'"):
        retrieval_scores({"q": {"a": 1}}, {"q": ["a"]})


def test_an_answer_is_scored_against_its_best_gold_answer_and_its_citations() -> None:
    found = answer("Metadata is kept in etcd. [1][2]", ["/docs/a.md", "/docs/c.md"])

    # Tokens: metadata is kept in etcd (5) against etcd (1) and against etcd store (2).
    assert answer_scores(QUESTION, found) == pytest.approx(
        {"contains gold": 1, "token F1": 2 / 6, "citation precision": 1 / 2, "citation recall": 1 / 2}
    )


def test_an_answer_without_citations_has_neither_precision_nor_recall() -> None:
    scores = answer_scores(QUESTION, answer("It is kept in etcd."))
    assert (scores["citation precision"], scores["citation recall"]) == (0.0, 0.0)


def test_a_refusal_is_scored_by_whether_there_is_an_answer() -> None:
    refusal = answer("Nothing in the documents answers this.", outcome="no_evidence")
    unanswerable = Question("2", "Who?", answerable=False)

    assert answer_scores(QUESTION, refusal) == {"contains gold": 0.0, "token F1": 0.0, "abstention precision": 0.0}
    assert answer_scores(unanswerable, refusal) == {"abstention precision": 1.0, "abstention recall": 1.0}
    assert answer_scores(unanswerable, answer("Me.")) == {"abstention recall": 0.0}


@pytest.mark.parametrize(
    ("text", "gold", "held", "f1"),
    [
        ("The cat sat.", "a cat", True, 2 / 3),  # SQuAD: articles and punctuation do not count
        ("catalogue", "cat", False, 0.0),
        ("U.S.A.", "usa", True, 1.0),
        ("他在北京出生", "北京", True, 0.5),
        ("", "the", True, 1.0),
    ],
)
def test_gold_answers_are_compared_by_normalised_tokens(text: str, gold: str, held: bool, f1: float) -> None:
    assert contains(text, gold) is held
    assert token_f1(text, gold) == pytest.approx(f1)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = answer_tokens(text)
    assert token_f1(text, text) == 1.0
    assert contains(text, text)
    assert all(token == token.lower() or len(token.lower()) != 1 for token in once)


def test_the_interval_of_a_mean_is_that_of_its_sampling_distribution() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, size=(400, 1))
    (found,) = measure(values)

    assert found is not None
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.001)
    assert measure(values) == [found]  # the draws are fixed


def test_a_metric_counts_the_questions_that_it_applies_to() -> None:
    found = measure(np.array([[1.0, np.nan], [0.0, np.nan], [np.nan, np.nan]]))
    assert found[0] is not None
    assert (found[0].mean, found[0].count, found[1]) == (0.5, 2, None)


def test_the_paired_test_is_the_exact_one_where_that_can_be_counted() -> None:
    """Five wins of the same size: 2 of the 32 labellings are as extreme, so p is 1/16."""
    base = np.zeros((5, 1))
    (found,) = compare(base, base + 0.2)

    assert found is not None
    assert (found.mean, found.wins, found.losses) == (pytest.approx(0.2), 5, 0)
    assert found.p == pytest.approx(1 / 16, abs=0.01)
    assert (found.low, found.high) == pytest.approx((0.2, 0.2))


def test_a_difference_of_one_in_many_is_found_and_chance_is_not() -> None:
    random = np.random.default_rng(3)
    base = random.random((300, 2))
    other = base + random.normal([0.05, 0.0], 0.1, size=(300, 2))
    better, alike = compare(base, other)

    assert better is not None
    assert alike is not None
    assert better.p < 0.001 < 0.05 < alike.p
    assert better.low > 0 > alike.low


def test_a_ratio_over_different_questions_is_compared_too() -> None:
    """Precision of refusing: each run refuses other questions, so a difference of means and not of pairs."""
    base = np.array([[1.0], [0.0], [np.nan], [np.nan]])
    (found,) = compare(base, np.array([[np.nan], [np.nan], [1.0], [1.0]]))

    assert found is not None
    assert found.mean == pytest.approx(0.5)
    assert compare(base, np.full((4, 1), np.nan)) == [None]


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    assert [a for _, a in sorted(zip(p_values, adjusted, strict=True))] == sorted(adjusted)


def answer(text: str, sources: tuple[str, ...] | list[str] = (), *, outcome: Outcome = "answered") -> Answer:
    hits = [make_hit("x", source=source, rank=rank) for rank, source in enumerate(sources, start=1)]
    citations = tuple(Citation(hit.rank, hit, "x", 0, 1, 1) for hit in hits)
    return Answer("Q", text, citations, tuple(hits), outcome)
