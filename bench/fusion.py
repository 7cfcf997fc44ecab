"""Fusion on data: each leg alone, rank fusion and convex fusion by several weights, on four question sets.

Both legs are searched once for a question; every recipe is a matter of fusing the two lists again. The Milvus
documentation's questions are made of its headings by `citekite eval questions`, each heading hidden from the search.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.embedders import embedder_here
from bench.report import Result, data, save, table
from citekite import KnowledgeBase
from citekite.evaluate.dataset import read_dataset
from citekite.evaluate.legs import Searched, search_legs
from citekite.evaluate.masked import masked
from citekite.evaluate.metrics import DEPTH, retrieval_scores
from citekite.evaluate.question import Question
from citekite.evaluate.questions import make_questions
from citekite.evaluate.relevance import gold
from citekite.evaluate.statistics import measure
from citekite.retrieve.search import SearchPlan
from citekite.settings import Settings

SETS = ("xquad_en", "xquad_de", "xquad_zh", "milvus_docs")
WEIGHTS = tuple(round(step / 10, 1) for step in range(1, 10))
METRICS = ("nDCG@10", "recall@5")
HEADING_QUESTIONS = 500


def main() -> None:
    """Measure with the embedder of this environment, and file the figures."""
    with embedder_here() as (name, settings):
        figures = {set_name: measured(set_name, settings) for set_name in SETS}
    save(f"fusion-{name}", figures)


def measured(set_name: str, settings: Settings) -> dict[str, Any]:
    """The figures of one set: each recipe's scores, and the weight that is the default there."""
    with knowledge_base(set_name, settings) as (kb, questions):
        searched = search_legs(kb, [one for one in questions if gold(one)], lambda progress: None)
        default = default_weight(kb)
    by_recipe = {recipe: scores(searched, recipe) for recipe in recipes(default)}
    results = [Result(recipe, found["nDCG@10"]["mean"]) for recipe, found in by_recipe.items()]
    print(table(f"{set_name}: nDCG@10, {len(searched)} questions, default convex {default:g}", results), flush=True)
    return {"questions": len(searched), "default": default, "recipes": by_recipe}


@contextmanager
def knowledge_base(set_name: str, settings: Settings) -> Iterator[tuple[KnowledgeBase, Sequence[Question]]]:
    """A knowledge base over a set's documents, and the set's questions."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings.model_copy(update={"uri": f"{folder}/bench.db"})
        with KnowledgeBase(settings=settings) as kb:
            if set_name == "milvus_docs":
                kb.sync(data("milvus_docs/en"))
                questions = make_questions(kb, None, count=HEADING_QUESTIONS, unanswerable=0.0).questions
                with masked(kb, questions) as hidden:
                    yield hidden, questions
            else:
                kb.sync(data(f"{set_name}/corpus.jsonl"))
                yield kb, read_dataset(data(set_name)).questions


def recipes(default: float) -> list[str]:
    """The recipes that are compared: the legs, rank fusion, the grid of weights and the default one."""
    return ["dense", "lexical", "rrf", *(f"convex {weight:g}" for weight in sorted({*WEIGHTS, default}))]


def default_weight(kb: KnowledgeBase) -> float:
    """The weight of the lexical leg that a search of this knowledge base takes by itself."""
    collection = kb.collection()
    return SearchPlan.make(kb.settings, collection.record, has_lexical=True, k=None, mode=None).weight


def scores(searched: Sequence[Searched], recipe: str) -> dict[str, dict[str, float]]:
    """Mean and interval of each metric over the questions, with their legs fused by a recipe."""
    wanted = {one.question.id: gold(one.question) for one in searched}
    found = {one.question.id: ranking(one, recipe) for one in searched}
    by_question = retrieval_scores(wanted, found)
    rows = np.array([[by_question[one.question.id][metric] for metric in METRICS] for one in searched])
    return {metric: asdict(value) for metric, value in zip(METRICS, measure(rows), strict=True) if value}


def ranking(one: Searched, recipe: str) -> list[str]:
    """The ten best items of a question by a recipe."""
    kind, _, weight = recipe.partition(" ")
    if kind in one.legs:
        return one.items(one.legs[kind])[:DEPTH]
    order = one.order(0.5, "rrf") if kind == "rrf" else one.order(float(weight))
    return one.items(id for id, _ in order)[:DEPTH]
