"""What `citekite eval` says of the question sets: each set with the defaults, and configurations against them.

The sets are those of `bench.fusion`; answers are asked without a model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.fusion import HEADING_QUESTIONS, SETS
from bench.report import Result, data, save, table
from citekite import KnowledgeBase
from citekite.evaluate.compare import Comparison, Configuration, compare_configurations, parse_changes
from citekite.evaluate.dataset import Dataset, read_dataset
from citekite.evaluate.indexes import Indexes
from citekite.evaluate.questions import make_questions
from citekite.evaluate.run import Report
from citekite.reports import Progress
from citekite.settings import Settings

# What is held against the defaults, by question set.
CHANGES = {
    "xquad_en": ("mode=dense", "mode=lexical", "fusion=rrf", "chunk_characters=400", "chunk_characters=800"),
    "milvus_docs": (
        "mode=dense",
        "mode=lexical",
        "fusion=rrf",
        "chunk_characters=400",
        "chunk_characters=800",
        "chunk_characters=3200",
    ),
}


def main() -> None:
    """Measure with the embedded default, and file the figures."""
    save("evaluation", {set_name: _measured(set_name) for set_name in SETS})


def _measured(set_name: str) -> dict[str, Any]:
    """The defaults with answers, and the changes held against them by retrieval alone."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(uri=f"{folder}/bench.db", embedder="static")
        dataset = read_dataset(data(set_name)) if set_name != "milvus_docs" else _heading_questions(settings)
        indexes = Indexes(dataset, settings, Path(folder) / "indexes", _quiet)
        base = compare_configurations(_configurations(settings, ()), dataset, indexes).reports["base"]
        results = [Result(metric, measure.mean) for metric, measure in base.metrics.items()]
        print(table(f"{set_name}: {base.questions:,} questions", results), flush=True)
        changed = _configurations(settings, CHANGES.get(set_name, ()))
        found = compare_configurations(changed, dataset, indexes, answers=False)
    for name, report in found.reports.items():
        print(f"  {name}: nDCG@10 {report.metrics['nDCG@10'].mean:.4f}", flush=True)
    return {"defaults": _report_figures(base), **_figures(found)}


def _configurations(settings: Settings, changes: Sequence[str]) -> list[Configuration]:
    changed = [(text, Settings(**{**settings.model_dump(), **parse_changes(text)})) for text in changes]
    return [Configuration("base", settings), *(Configuration(text, new) for text, new in changed)]


def _heading_questions(settings: Settings) -> Dataset:
    """Questions made of the headings of the Milvus documentation, which is synced; a third of them without answer."""
    with KnowledgeBase(settings=settings) as kb:
        kb.sync(data("milvus_docs/en"))
        return Dataset("milvus_docs", make_questions(kb, None, count=HEADING_QUESTIONS).questions)


def _quiet(progress: Progress) -> None:
    pass


def _figures(found: Comparison) -> dict[str, Any]:
    return {
        "reports": {name: _report_figures(report) for name, report in found.reports.items()},
        "differences": {
            name: {metric: asdict(difference) for metric, difference in by_metric.items()}
            for name, by_metric in found.differences.items()
        },
    }


def _report_figures(report: Report) -> dict[str, Any]:
    return {
        "questions": report.questions,
        "unanswerable": report.unanswerable,
        "metrics": {name: asdict(measure) for name, measure in report.metrics.items()},
    }
