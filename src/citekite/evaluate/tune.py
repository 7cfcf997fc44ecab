"""Tuning: the weight of the lexical leg, k and the abstention threshold that do best on questions about a collection.

Both legs are searched once for each question; every weight is then a matter of fusing again. A value is kept only where
cross-validation shows it better than the default (`citekite.evaluate.crossvalidate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from citekite.answer.confidence import DEFAULT_THRESHOLD, confidence
from citekite.errors import SettingsError, SourceError
from citekite.evaluate.crossvalidate import Choice, choose
from citekite.evaluate.legs import Searched, search_legs
from citekite.evaluate.masked import masked
from citekite.evaluate.metrics import DEPTH as RANKS
from citekite.evaluate.metrics import import_measures, retrieval_scores
from citekite.evaluate.question import Question
from citekite.evaluate.relevance import gold
from citekite.evaluate.statistics import Array
from citekite.knowledge_base import KnowledgeBase
from citekite.ports import Reporter
from citekite.retrieve.search import SearchPlan

# The weights and thresholds that are tried, beside the default.
GRID = tuple(round(0.05 * step, 2) for step in range(21))
# A set names one passage for most questions; a user's question may need two, and be worded so that they come third.
LEAST_PASSAGES, MOST_PASSAGES = 3, 10
# What a further passage costs: to be worth its place in the context it has to find the evidence of one more question in
# two hundred.
PASSAGE_COST = 0.005
# Questions of a kind under which a threshold, or a weight, says more about the questions than about the collection.
LEAST_QUESTIONS = 20


@dataclass(frozen=True, slots=True)
class Tuning:
    """What tuning chose: `lexical_weight` by nDCG@10, `k` by recall@k less `PASSAGE_COST` for each passage, and
    `abstain_threshold` by the balanced accuracy of refusing (None where the set has too few questions for it).
    """

    answerable: int
    unanswerable: int
    lexical_weight: Choice
    k: Choice
    abstain_threshold: Choice | None

    @property
    def better(self) -> dict[str, float]:
        """The values that are better than their defaults, by the name of the setting."""
        choices = {
            "lexical_weight": self.lexical_weight,
            "k": self.k,
            "abstain_threshold": self.abstain_threshold,
        }
        return {name: choice.value for name, choice in choices.items() if choice is not None and choice.is_better}


def tune(kb: KnowledgeBase, questions: Sequence[Question], report: Reporter) -> Tuning:
    """Choose the values on these questions; nothing is written (`KnowledgeBase.set_tuned` does).

    Defaults are those of the collection's embedder and language, whatever was tuned before. The reranker of the
    settings is not run. Raises `SettingsError` where the settings fuse otherwise, `SourceError` for too few questions,
    `MissingExtra` without ir-measures.
    """
    import_measures()
    plan = _default_plan(kb)
    if (count := sum(bool(gold(question)) for question in questions)) < LEAST_QUESTIONS:
        raise SourceError(
            f"{count} of the questions name sources or passages that answer them, and tuning needs {LEAST_QUESTIONS}: "
            "`citekite eval questions` makes more"
        )
    with masked(kb, questions) as searched_kb:
        searched = search_legs(searched_kb, questions, report)
    answerable = [one for one in searched if gold(one.question)]
    unanswerable = [one for one in searched if not one.question.answerable]
    weights = _with_default(plan.weight)
    weight = choose(_ndcg(answerable, weights), weights, plan.weight)
    k = choose(_recall(answerable, weight.used), range(LEAST_PASSAGES, MOST_PASSAGES + 1), plan.k)
    threshold = None
    if len(unanswerable) >= LEAST_QUESTIONS:
        thresholds = _with_default(DEFAULT_THRESHOLD)
        scores = _refusals(searched, thresholds, weight.used, int(k.used))
        threshold = choose(scores, thresholds, DEFAULT_THRESHOLD)
    return Tuning(len(answerable), len(unanswerable), weight, k, threshold)


def _default_plan(kb: KnowledgeBase) -> SearchPlan:
    collection = kb.collection()
    settings = kb.settings.model_copy(update={"lexical_weight": None, "k": None})
    record = replace(collection.record, lexical_weight=None, k=None)
    plan = SearchPlan.make(settings, record, has_lexical=collection.has_lexical, k=None, mode=None)
    if plan.mode != "hybrid" or plan.fusion != "convex":
        raise SettingsError(
            f"tuning weighs the two legs of a search against each other, and this one has mode {plan.mode!r} and "
            f"fusion {plan.fusion!r}: tune with mode 'hybrid' and fusion 'convex'"
        )
    return plan


def _with_default(default: float) -> list[float]:
    return sorted({*GRID, default})


def _ndcg(searched: Sequence[Searched], weights: Sequence[float]) -> Array:
    """nDCG@10 of each question by each weight, shape (questions, weights)."""
    wanted = {one.question.id: gold(one.question) for one in searched}
    columns = []
    for weight in weights:
        scores = retrieval_scores(
            wanted, {one.question.id: one.items(id for id, _ in one.order(weight))[:RANKS] for one in searched}
        )
        columns.append([scores[one.question.id]["nDCG@10"] for one in searched])
    return np.array(columns).T


def _recall(searched: Sequence[Searched], weight: float) -> Array:
    """Recall of each question in its first `LEAST_PASSAGES` to `MOST_PASSAGES` chunks, less what the passages cost."""
    rows = []
    for one in searched:
        wanted, found = gold(one.question), set[str]()
        row = []
        order = [id for id, _ in one.order(weight)[:MOST_PASSAGES]]
        for k in range(1, MOST_PASSAGES + 1):
            found.update(one.matched[order[k - 1]] if k <= len(order) else ())
            row.append(len(found) / len(wanted) - PASSAGE_COST * k)
        rows.append(row[LEAST_PASSAGES - 1 :])
    return np.array(rows)


def _refusals(searched: Sequence[Searched], thresholds: Sequence[float], weight: float, k: int) -> Array:
    """Whether each threshold answers or refuses a question rightly, weighted so that the mean is balanced accuracy.

    A question with an answer is to be answered, one without to be refused, and both kinds count alike in all.
    """
    answerable = np.array([one.question.answerable for one in searched])
    sure = np.array([confidence(one.question.text, one.hits(weight, k)) for one in searched])
    right = (sure[:, None] >= np.asarray(thresholds)) == answerable[:, None]
    share = np.where(answerable, answerable.mean(), 1 - answerable.mean())
    return np.asarray(right / (2 * share[:, None]), dtype=float)
