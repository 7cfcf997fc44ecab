"""Choosing a value by cross-validation."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from citekite.evaluate.crossvalidate import FOLDS, choose

CANDIDATES = [0.0, 0.5, 1.0]


def test_a_value_that_wins_on_nearly_every_question_is_better() -> None:
    scores = np.array([[0.2, 0.4, 0.9]] * 30 + [[0.3, 0.3, 0.2]] * 3)

    choice = choose(scores, CANDIDATES, 0.5)

    assert (choice.value, choice.used, choice.folds) == (1.0, 1.0, (1.0,) * FOLDS)
    assert choice.difference.low > 0


def test_a_value_that_is_best_by_chance_is_not_better() -> None:
    scores = np.random.default_rng(7).random((40, 3))

    choice = choose(scores, CANDIDATES, 0.5)

    assert not choice.is_better
    assert choice.used == 0.5


def test_of_equal_values_the_one_nearest_to_the_default_is_chosen() -> None:
    assert choose(np.ones((20, 3)), CANDIDATES, 0.5).value == 0.5
    assert choose(np.array([[1.0, 0.2, 0.2, 1.0]] * 20), [0.0, 0.5, 0.6, 1.0], 0.6).value == 1.0


def test_a_question_has_no_say_in_the_value_it_is_scored_with() -> None:
    """One question prefers another value so strongly that it decides wherever it is among the training questions."""
    scores = np.array([[1.0, 0.0]] * 19 + [[0.0, 100.0]])

    choice = choose(scores, [0.0, 1.0], 0.0)

    assert sorted(choice.folds) == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert choice.value == 1.0
    # Its own fold chooses without it, so it scores 0; so do the questions of the other folds.
    assert choice.held_out == 3 / 20


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=10, max_size=30), st.integers(0, 5))
@settings(max_examples=15)
def test_the_held_out_score_is_never_above_the_best_of_each_question(rows: list[list[float]], seed: int) -> None:
    scores = np.array(rows)

    choice = choose(scores, CANDIDATES, 0.5, seed=seed)

    assert choice.held_out <= scores.max(axis=1).mean() + 1e-9
    assert abs(choice.held_out - choice.default_score - choice.difference.mean) < 1e-9
