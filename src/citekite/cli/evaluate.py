"""Commands that measure: eval run, eval compare; `eval questions` is in `citekite.cli.tune`."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citekite.cli.options import (
    ANSWER,
    BATCH,
    CHAT,
    CONTEXT,
    EMBED,
    ENDPOINT,
    LOAD,
    PRICE,
    RETRIEVE,
    STORE,
    takes_settings,
)
from citekite.cli.progress import reporting
from citekite.cli.show import bold, counted, dim
from citekite.cli.target import require_no_server
from citekite.errors import SettingsError

if TYPE_CHECKING:
    from citekite.evaluate.compare import Comparison
    from citekite.evaluate.dataset import Dataset
    from citekite.evaluate.indexes import Indexes
    from citekite.evaluate.judge import JudgeReport
    from citekite.evaluate.run import Report
    from citekite.evaluate.statistics import Difference, Measure
    from citekite.reports import Progress
    from citekite.settings import Settings

eval_app = typer.Typer(help="Measure retrieval and answers on a set of questions.", no_args_is_help=True)

DatasetPath = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A .jsonl file of questions about the collection, or a BEIR folder with documents of its own.",
        show_default=False,
    ),
]
Split = Annotated[
    str | None, typer.Option("--split", help="Judgments of a BEIR folder: the name of a file in qrels/; else test.")
]
Answers = Annotated[
    bool, typer.Option("--answers/--no-answers", help="Ask the questions too, where answers are known.")
]
Judge = Annotated[
    str | None,
    typer.Option("--judge", metavar="MODEL", help="Let this model of the endpoint judge the answers, each twice."),
]
Parallel = Annotated[int, typer.Option("--parallel", min=1, max=64, help="Questions under way at once.")]
IndexFolder = Annotated[
    Path | None,
    typer.Option("--index-folder", help="Keep the indexes made for the evaluation here, for the next one."),
]
Output = Annotated[
    Path | None, typer.Option("--output", help="Write the report with every question to this file, as JSON.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report with every question as JSON.")]
SETTINGS = (*RETRIEVE, *ANSWER, *LOAD, *EMBED, *BATCH, *CONTEXT, *CHAT, *PRICE, *ENDPOINT, *STORE)


@eval_app.command()
@takes_settings(*SETTINGS)
def run(
    arguments: dict[str, Any],
    dataset: DatasetPath,
    split: Split = None,
    answers: Answers = True,
    judge: Judge = None,
    parallel: Parallel = 1,
    index_folder: IndexFolder = None,
    output: Output = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure the settings in force: recall, MRR, nDCG, answers, time and cost, with 95 % intervals."""
    from citekite.answer.generate import make_generator
    from citekite.evaluate.dataset import read_dataset
    from citekite.evaluate.run import evaluate
    from citekite.settings import load_settings

    _check_files(output)
    if judge and not answers:
        raise SettingsError("--judge judges answers, and --no-answers asks for none: leave one of them out")
    questions = read_dataset(dataset, split=split)
    settings = load_settings(arguments).settings
    if not questions.corpus:
        require_no_server(settings, arguments, "eval run")
    judging = make_generator(settings.model_copy(update={"model": judge}), alone=True) if judge else None
    with (
        reporting(quiet=quiet) as report,
        _indexes(questions, settings, index_folder, report) as indexes,
        indexes.open(settings) as kb,
    ):
        found = evaluate(kb, questions, answers=answers, parallel=parallel, judge=judging, report=report)
    _deliver(found, describe_evaluation(found), output, as_json)


@eval_app.command()
@takes_settings(*SETTINGS)
def compare(
    arguments: dict[str, Any],
    dataset: DatasetPath,
    changes: Annotated[
        list[str],
        typer.Option(
            "--with", help="A configuration: the settings in force with these changes, name=value,name=value."
        ),
    ],
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with plots to this file.")] = None,
    split: Split = None,
    answers: Answers = True,
    parallel: Parallel = 1,
    index_folder: IndexFolder = None,
    output: Output = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure several configurations on the same questions, each against the settings in force (`base`)."""
    from citekite.evaluate.compare import compare_configurations, configurations
    from citekite.evaluate.dataset import read_dataset

    _check_files(html, output)
    if html:
        from citekite.evaluate.page import render_page
        from citekite.evaluate.plots import import_matplotlib

        import_matplotlib()
    compared = configurations(changes, arguments)
    questions = read_dataset(dataset, split=split)
    if not questions.corpus:
        require_no_server(compared[0].settings, arguments, "eval compare")
    with (
        reporting(quiet=quiet) as report,
        _indexes(questions, compared[0].settings, index_folder, report) as indexes,
    ):
        found = compare_configurations(compared, questions, indexes, answers=answers, parallel=parallel, report=report)
    if html:
        _write(html, render_page(found))
    _deliver(found, describe_comparison(found), output, as_json)


@contextmanager
def _indexes(
    dataset: Dataset, base: Settings, folder: Path | None, report: Callable[[Progress], None]
) -> Iterator[Indexes]:
    """The indexes to search, in a folder that is kept or, where none is named, goes away."""
    from citekite.evaluate.indexes import Indexes

    with tempfile.TemporaryDirectory(prefix="citekite-eval-") as temporary:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        indexes = Indexes(dataset, base, folder or Path(temporary), report)
        yield indexes
        for warning in indexes.warnings:
            print(f"warning: {warning}", file=sys.stderr)


def _deliver(found: Report | Comparison, text: str, output: Path | None, as_json: bool) -> None:
    """Write the whole report as JSON where it is wanted, and print it or the text about it."""
    from dataclasses import asdict

    whole = json.dumps(asdict(found), ensure_ascii=False, indent=2)
    if output:
        _write(output, f"{whole}\n")
    print(whole if as_json else text)


def _check_files(*paths: Path | None) -> None:
    """What takes minutes must not fail at its end for a folder that is not there."""
    for path in paths:
        if path and (path.is_dir() or not path.parent.is_dir()):
            raise SettingsError(f"{path} cannot be written: name a file in a folder that is there")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}") from None
    print(f"wrote {path}", file=sys.stderr)


def describe_evaluation(report: Report) -> str:
    """What `eval run` prints."""
    lines = [bold(f"{report.dataset}: {_asked(report)}"), dim(_searched(report)), ""]
    metrics = [[name, f"{m.mean:.3f}", _span(m), f"{m.count:,}"] for name, m in report.metrics.items()]
    lines += [*_table(["metric", "mean", "95 % interval", "questions"], metrics), ""]
    stages = [[name, _milliseconds(s.p50), _milliseconds(s.p95)] for name, s in report.seconds.items()]
    lines += _table(["stage", "p50", "p95"], stages)
    if report.usage.prompt_tokens or report.cost is not None:
        lines += ["", _spent(report)]
    if report.judged:
        lines += ["", *_judged(report.judged)]
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join(lines)


def describe_comparison(comparison: Comparison) -> str:
    """What `eval compare` prints."""
    from citekite.evaluate.metrics import ANSWER, RETRIEVAL

    reports = comparison.reports
    lines = [bold(f"{comparison.dataset}: {_asked(next(iter(reports.values())))}")]
    for group in (tuple(RETRIEVAL), ANSWER):
        if names := [name for name in group if any(name in report.metrics for report in reports.values())]:
            rows = [
                [name, *(_mean(report.metrics.get(metric)) for metric in names)] for name, report in reports.items()
            ]
            lines += ["", *_table(["configuration", *names], rows)]
    searches = [
        [name, *(_milliseconds(x) for x in (report.seconds["search"].p50, report.seconds["search"].p95))]
        for name, report in reports.items()
    ]
    lines += ["", *_table(["configuration", "search p50", "search p95"], searches)]
    for metric in ("nDCG@10", "contains gold", "abstention recall"):
        rows = [[name, *_difference(d[metric])] for name, d in comparison.differences.items() if metric in d]
        if rows:
            head = [f"{metric} against base", "difference", "95 % interval", "p", "p (Holm)", "better", "worse"]
            lines += ["", *_table(head, rows)]
    lines += [f"note: {name}: {note}" for name, report in reports.items() for note in report.notes]
    return "\n".join(lines)


def _asked(report: Report) -> str:
    text = counted(report.questions, "question")
    if report.unanswerable:
        text += f", {report.unanswerable:,} of them without an answer"
    if report.left_out:
        queries = "1 query" if report.left_out == 1 else f"{report.left_out:,} queries"
        text += f"; {queries} without a judgment left out"
    return text


def _searched(report: Report) -> str:
    held = report.collection
    chunks, documents = counted(held["chunks"], "chunk"), counted(held["documents"], "document")
    return f"{chunks} of {documents}, embedder {held['embedder']}, splitter {held['splitter']}"


def _spent(report: Report) -> str:
    cost = f", cost {report.cost:.6f}" if report.cost is not None else ""
    return f"{report.usage.prompt_tokens:,} prompt tokens, {report.usage.completion_tokens:,} completion tokens{cost}"


def _judged(found: JudgeReport) -> list[str]:
    """The verdicts of a judge, beside how far it agrees with itself and with the gold answers."""
    rows = [
        ["faithfulness (sentences)", *map(_figure, (found.faithfulness, found.faithfulness_kappa, None))],
        ["correctness (answers)", *map(_figure, (found.correctness, found.correctness_kappa, found.gold_kappa))],
    ]
    head = ["judged", "share", "kappa with itself", "kappa with contains gold"]
    lines = [
        f"{counted(found.answers, 'answer')} judged by {found.model}, each twice; --json shows prompts and verdicts"
    ]
    lines += _table(head, rows)
    if problems := sum(bool(one.problem) for one in found.judgements):
        lines.append(f"the judge's reply could not be read for {counted(problems, 'answer')}")
    return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _difference(found: Difference) -> list[str]:
    return [
        f"{found.mean:+z.3f}",
        f"{found.low:+z.3f} to {found.high:+z.3f}",
        f"{found.p:.4f}",
        f"{found.adjusted:.4f}" + ("*" if found.adjusted < 0.05 else " "),
        f"{found.wins:,}",
        f"{found.losses:,}",
    ]


def _mean(found: Measure | None) -> str:
    return f"{found.mean:.3f}" if found else "-"


def _span(found: Measure) -> str:
    return f"{found.low:.3f} to {found.high:.3f}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in (head, *rows))
    ]
    return [dim(lines[0]), *lines[1:]]
