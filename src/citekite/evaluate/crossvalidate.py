"""Choosing a value by cross-validation: is it better than the default on questions that had no say in the choice?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from citekite.evaluate.statistics import Array, Difference, compare

FOLDS = 5
# Values whose means differ by less are alike; the one nearest to the default is then chosen.
_HAIR = 1e-9


@dataclass(frozen=True, slots=True)
class Choice:
    """A value chosen among `candidates`, and how it does against `default`.

    `value` scores best over all questions, `folds` are the values that each training part chose. `default_score` and
    `held_out` are means over the questions: of the default, and of the value that was chosen without each question.
    """

    value: float
    default: float
    folds: tuple[float, ...]
    default_score: float
    held_out: float
    difference: Difference

    @property
    def is_better(self) -> bool:
        """Whether the whole interval of the held-out difference lies above 0."""
        return self.difference.low > 0 and self.value != self.default

    @property
    def used(self) -> float:
        """The value to go on with: the chosen one where it is better, else the default."""
        return self.value if self.is_better else self.default


def choose(scores: Array, candidates: Sequence[float], default: float, *, seed: int = 0) -> Choice:
    """The best of `candidates`, cross-validated; `scores` has the shape (questions, candidates).

    The questions are dealt to `FOLDS` folds at random. For each fold the value with the best mean over the other folds
    scores the questions of this one, so every question is held out once.

    >>> choose(np.array([[0.2, 0.8]] * 10), [0.0, 1.0], 0.0).value
    1.0
    """
    at_default = list(candidates).index(default)
    distance = np.abs(np.asarray(candidates) - default)
    fold_of = np.random.default_rng(seed).permutation(len(scores)) % FOLDS
    chosen = [_best(scores[fold_of != fold], distance) for fold in range(FOLDS)]
    held_out = np.array([scores[row, chosen[fold]] for row, fold in enumerate(fold_of)])
    difference = compare(scores[:, [at_default]], held_out[:, None])[0]
    assert difference is not None, "every question has a score"
    return Choice(
        value=candidates[_best(scores, distance)],
        default=default,
        folds=tuple(candidates[index] for index in chosen),
        default_score=float(scores[:, at_default].mean()),
        held_out=float(held_out.mean()),
        difference=difference,
    )


def _best(scores: Array, distance: Array) -> int:
    means = scores.mean(axis=0)
    return int(np.where(means >= means.max() - _HAIR, distance, np.inf).argmin())
