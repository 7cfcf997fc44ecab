"""Retrieval quality without a key: nDCG@10 of each search mode on XQuAD, documents = paragraphs."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from bench.report import Result, data, table
from citekite import KnowledgeBase
from citekite.settings import Settings
from citekite.types import Mode

DEPTH = 10
# Least nDCG@10 of the hybrid search, by language.
TARGETS = {"xquad_en": 0.970, "xquad_de": 0.96, "xquad_zh": 0.96}
# In another language than the embedder's, how far fusion may fall below the lexical leg.
TOLERANCE = {"xquad_en": 0.0, "xquad_de": 0.005, "xquad_zh": 0.005}


def main() -> None:
    for name in TARGETS:
        print(table(f"{name}: nDCG@{DEPTH}, no key, no setting", quality(name)), flush=True)


def quality(name: str) -> list[Result]:
    """nDCG@10 of the three modes over one data set."""
    folder = data(name)
    questions = read_questions(folder)
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(uri=f"{temporary}/bench.db", embedder="static")
        with KnowledgeBase(settings=settings) as kb:
            kb.sync(folder / "corpus.jsonl")
            found = {
                mode: sum(ndcg(ranking(kb, text, mode), wanted) for text, wanted in questions) / len(questions)
                for mode in get_args(Mode)
            }
    legs = {mode: figure for mode, figure in found.items() if mode != "hybrid"}
    floor = max(legs.values()) if name == "xquad_en" else legs["lexical"]
    return [
        *(Result(mode, figure) for mode, figure in legs.items()),
        Result("hybrid", found["hybrid"], at_least=TARGETS[name]),
        Result("loss by fusion", max(0.0, floor - found["hybrid"]), at_most=TOLERANCE[name]),
    ]


def read_questions(folder: Path) -> list[tuple[str, set[str]]]:
    """The questions of a folder with the ids of their relevant documents."""
    relevant: dict[str, set[str]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        question, document, score = line.split("\t")
        if int(score) > 0:
            relevant.setdefault(question, set()).add(document)
    queries = map(json.loads, (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines())
    return [(query["text"], relevant[query["_id"]]) for query in queries if query["_id"] in relevant]


def ranking(kb: KnowledgeBase, question: str, mode: Mode) -> list[str]:
    """The ids of the documents found, best first; a document counts by its best chunk."""
    hits = kb.search(question, k=3 * DEPTH, mode=mode)
    return list(dict.fromkeys(hit.chunk.source.rpartition("#")[2] for hit in hits))[:DEPTH]


def ndcg(ranked: Sequence[str], wanted: set[str]) -> float:
    """Normalised discounted cumulative gain with binary relevance.

    >>> ndcg(["a", "b"], {"a"}), round(ndcg(["a", "b"], {"b"}), 3)
    (1.0, 0.631)
    >>> ndcg(["b", "a"], {"a", "b"}), ndcg(["b"], {"a"}), ndcg([], {"a"})
    (1.0, 0.0, 0.0)
    """
    gain = sum(1 / math.log2(rank + 2) for rank, document in enumerate(ranked) if document in wanted)
    return gain / sum(1 / math.log2(rank + 2) for rank in range(min(len(wanted), DEPTH)))
