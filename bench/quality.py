"""Retrieval quality without a key: nDCG@10 of each search mode on XQuAD, documents = paragraphs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import get_args

from bench.report import Result, data, table
from citekite.evaluate.dataset import read_dataset
from citekite.evaluate.indexes import Indexes
from citekite.evaluate.run import evaluate
from citekite.settings import Settings
from citekite.types import Mode

METRIC = "nDCG@10"
# Least nDCG@10 of the hybrid search, by language.
TARGETS = {"xquad_en": 0.970, "xquad_de": 0.96, "xquad_zh": 0.96}
# In another language than the embedder's, how far fusion may fall below the lexical leg.
TOLERANCE = {"xquad_en": 0.0, "xquad_de": 0.005, "xquad_zh": 0.005}


def main() -> None:
    for name in TARGETS:
        print(table(f"{name}: {METRIC}, no key, no setting", quality(name)), flush=True)


def quality(name: str) -> list[Result]:
    """The metric of the three modes over one data set."""
    folder = data(name)
    dataset = read_dataset(folder)
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(embedder="static")
        indexes = Indexes(dataset, settings, Path(temporary), lambda progress: None)
        found = {}
        for mode in get_args(Mode):
            with indexes.open(settings.model_copy(update={"mode": mode})) as kb:
                found[mode] = evaluate(kb, dataset, answers=False).metrics[METRIC].mean
    legs = {mode: figure for mode, figure in found.items() if mode != "hybrid"}
    floor = max(legs.values()) if name == "xquad_en" else legs["lexical"]
    return [
        *(Result(mode, figure) for mode, figure in legs.items()),
        Result("hybrid", found["hybrid"], at_least=TARGETS[name]),
        Result("loss by fusion", max(0.0, floor - found["hybrid"]), at_most=TOLERANCE[name]),
    ]
