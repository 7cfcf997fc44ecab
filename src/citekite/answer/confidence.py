"""How likely it is that passages answer a question: a small logistic model over figures that can be checked.

`python -m bench.abstention --fit` fits the weights on the development half of its questions and prints them;
`python -m bench abstention` reports what they do on the other half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from citekite.answer.evidence import Evidence, evidence
from citekite.types import Hit

# Log-odds; a figure of `Evidence` tells what is missing, so none may raise the confidence.
SUBJECT_WEIGHTS = {
    "": 4.58,
    "absent": -0.57,
    "unlike": -5.35,
    "missing_words": -1.36,
    "missing_names": -2.05,
}
STATEMENT_WEIGHTS = {
    "": 1.35,
    "missing_kind": -0.81,
    "distant_kind": -1.08,
    "missing_unit": -1.6,
    "missing_name": -0.84,
    "missing_number": -0.54,
    "scattered": -0.23,
    "negation": -2.6,
    "opposite": -2.09,
    "superlative": -0.77,
    "qualifier": -0.23,
    "exclusion": -1.1,
    "swapped": -1.39,
}
# Below this probability of being about the subject, that alone lowers the confidence: a question that paraphrases
# much is not to be taken for one that asks something else.
RELATED = 0.3
# Where refusing has precision and recall above 0.5 on questions that sound as if the passages answered them.
DEFAULT_THRESHOLD = 0.62


@dataclass(frozen=True, slots=True)
class Estimate:
    """Probabilities (0 to 1) that passages are about the subject of a question, and that they answer it."""

    related: float
    answering: float


def estimate(question: str, hits: Sequence[Hit]) -> Estimate:
    """The estimate for a question and the passages found for it; 0 where none of its words stands there.

    It is calibrated for two answerable questions to one that only sounds so. The probability that the passages are
    about the subject, and the probability that they then say what is asked, are separate models; the first is
    multiplied in where it is low.
    """
    found = evidence(question, hits)
    if found is None or found.absent == 1.0:
        return Estimate(0.0, 0.0)
    about = related(found)
    return Estimate(about, min(1.0, about / RELATED) * stated(found))


def confidence(question: str, hits: Sequence[Hit]) -> float:
    """The estimated probability that the passages answer the question."""
    return estimate(question, hits).answering


def threshold(setting: float | None, tuned: float | None) -> float:
    """The confidence below which there is no answer: the setting, else what the collection was tuned to, else ours."""
    return next(value for value in (setting, tuned, DEFAULT_THRESHOLD) if value is not None)


def related(found: Evidence) -> float:
    """The probability that passages with this evidence are about the subject of the question."""
    return _logistic(SUBJECT_WEIGHTS, found)


def stated(found: Evidence) -> float:
    """The probability that passages about the subject say what is asked."""
    return _logistic(STATEMENT_WEIGHTS, found)


def _logistic(weights: Mapping[str, float], found: Evidence) -> float:
    odds = sum(weight * (getattr(found, name) if name else 1.0) for name, weight in weights.items())
    return 1 / (1 + math.exp(-odds))
