"""A comparison as one HTML page: tables, plots, and the questions that were won and lost.

The page asks for nothing from anywhere and runs no script; whatever comes from a question set or a setting is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from citekite.evaluate.compare import Comparison
from citekite.evaluate.metrics import ANSWER, RETRIEVAL
from citekite.evaluate.plots import metric_plot, recall_plot
from citekite.evaluate.run import METRICS, Report, Row
from citekite.evaluate.statistics import Difference

# What a question is won or lost by: the first of these that there is.
MAIN = ("nDCG@10", "contains gold", "abstention recall")
# Wins and losses shown of each configuration: the largest; the JSON has all questions.
MOST_QUESTIONS = 50

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, .words { text-align: left; }
.words { min-width: 8rem; overflow-wrap: anywhere; }
thead th { background: var(--soft); }
small { opacity: .75; white-space: nowrap; }
figure { margin: 1rem 0; overflow-x: auto; }
summary { cursor: pointer; font-weight: 600; padding: .4rem 0; overflow-wrap: anywhere; }
"""

# What stands beside a question that was won or lost, by whether documents or passages decide it.
_SHOWN = {True: ("first in base", "first here"), False: ("answer in base", "answer here")}
# The columns of words.
_WORDS = ("configuration", "metric", "question", *_SHOWN[True], *_SHOWN[False], "stage", "index and settings")
_LEFT = ' class="words"'


def render_page(comparison: Comparison) -> str:
    """The page as text; raises `MissingExtra` without matplotlib."""
    base, *others = comparison.reports
    sections = [_figures(comparison), *_plots(comparison)]
    if others:
        sections.append(_differences(comparison))
        sections.append("<h2>Wins and losses</h2>" + "".join(_questions(comparison, name) for name in others))
    sections += [_latencies(comparison), _settings(comparison)]
    title = escape(f"{comparison.dataset}: {len(comparison.reports)} configurations compared")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
        f"{_introduction(comparison.reports[base])}{''.join(sections)}</main></body></html>\n"
    )


def _introduction(report: Report) -> str:
    left_out = f" Queries without a judgment that were left out: {report.left_out:,}." if report.left_out else ""
    unanswerable = f", {report.unanswerable:,} of them without an answer" if report.unanswerable else ""
    notes = "".join(f"<p>{escape(note)}.</p>" for note in report.notes)
    return (
        f"<p>{report.questions:,} questions{unanswerable}.{left_out} Each mean stands with its 95 % bootstrap "
        f"interval over the questions.</p>{notes}"
    )


def _figures(comparison: Comparison) -> str:
    tables = []
    for group in (tuple(RETRIEVAL), ANSWER):  # in one, they would be wider than the page
        if metrics := [name for name in _metrics(comparison) if name in group]:
            rows = [
                [_words(name), *(_mean(report, metric) for metric in metrics)]
                for name, report in comparison.reports.items()
            ]
            tables.append(_table(["configuration", *metrics], rows))
    return f"<h2>Figures</h2>{'<br>'.join(tables)}"


def _plots(comparison: Comparison) -> list[str]:
    shown = _metrics(comparison)
    plots = []
    if retrieval := [name for name in ("nDCG@10", "MRR@10", "recall@5") if name in shown]:
        plots += [metric_plot(comparison.reports, retrieval), recall_plot(comparison.reports)]
    if answers := [name for name in ANSWER if name in shown]:
        # Three panels fit a page; with questions that have no answer there are six.
        plots += [metric_plot(comparison.reports, answers[at : at + 3]) for at in range(0, len(answers), 3)]
    return [f"<figure>{plot}</figure>" for plot in plots]


def _differences(comparison: Comparison) -> str:
    rows = [
        [_words(name), _words(metric), *_difference(difference)]
        for name, by_metric in comparison.differences.items()
        for metric, difference in by_metric.items()
    ]
    head = ["configuration", "metric", "difference", "95 % interval", "p", "p (Holm)", "better", "worse"]
    return (
        "<h2>Differences from base</h2><p>Paired over the questions. p is that of a two-sided randomisation test; p "
        "(Holm) is corrected for the number of configurations. Below 0.05, a difference is more than chance would "
        f"give.</p>{_table(head, rows)}"
    )


def _difference(difference: Difference) -> list[str]:
    p = f"{difference.adjusted:.4f}"
    cells = [
        f"{difference.mean:+z.3f}",
        f"<small>{difference.low:+z.3f} to {difference.high:+z.3f}</small>",
        f"{difference.p:.4f}",
        f"<strong>{p}</strong>" if difference.adjusted < 0.05 else p,
        f"{difference.wins:,}",
        f"{difference.losses:,}",
    ]
    return [_number(cell) for cell in cells]


def _questions(comparison: Comparison, name: str) -> str:
    base = next(iter(comparison.reports.values()))
    metric = next((metric for metric in MAIN if metric in base.metrics), MAIN[0])
    pairs = zip(base.rows, comparison.reports[name].rows, strict=True)
    moved = [(_moved(before, after, metric), before, after) for before, after in pairs]
    moved = sorted((entry for entry in moved if abs(entry[0]) > 1e-9), key=lambda entry: -abs(entry[0]))
    wins = [entry for entry in moved if entry[0] > 0]
    losses = [entry for entry in moved if entry[0] < 0]
    return "".join(
        f"<details><summary>{escape(name)}: {len(entries):,} {word}</summary>{_moves(entries, metric)}</details>"
        for word, entries in (("better", wins), ("worse", losses))
    )


def _moves(entries: Sequence[tuple[float, Row, Row]], metric: str) -> str:
    by_rank = metric == MAIN[0]
    head = ["question", metric, *(["rank in base", "rank here"] if by_rank else []), *_SHOWN[by_rank]]
    rows = []
    for gain, before, after in entries[:MOST_QUESTIONS]:
        ranks = [_rank(before), _rank(after)] if by_rank else []
        shown = [_first(row) if by_rank else row.answer for row in (before, after)]
        rows.append([_words(before.question), *map(_number, (f"{gain:+z.3f}", *ranks)), *map(_words, shown)])
    more = len(entries) - len(rows)
    return (_table(head, rows) if rows else "<p>None.</p>") + (f"<p>{more:,} more are in the JSON.</p>" if more else "")


def _moved(before: Row, after: Row, metric: str) -> float:
    return after.scores.get(metric, 0.0) - before.scores.get(metric, 0.0)


def _rank(row: Row) -> str:
    return str(row.rank) if row.rank else "not in 10"


def _first(row: Row) -> str:
    """Where the chunk found first stands: the last two parts of its source's path, and its headings."""
    if not row.first:
        return "nothing"
    source, *headings = row.first
    return " > ".join(["/".join(source.split("/")[-2:]), *headings])


def _latencies(comparison: Comparison) -> str:
    rows = [
        [_words(name), _words(stage), *(_number(f"{1000 * seconds:.1f}") for seconds in (latency.p50, latency.p95))]
        for name, report in comparison.reports.items()
        for stage, latency in report.seconds.items()
    ]
    head = ["configuration", "stage", "median, ms", "95th percentile, ms"]
    return f"<h2>Time</h2><details><summary>By stage</summary>{_table(head, rows)}</details>"


def _settings(comparison: Comparison) -> str:
    rows = []
    for name, report in comparison.reports.items():
        values = ", ".join(f"{key} {value}" for key, value in {**report.collection, **report.settings}.items())
        cost = "" if report.cost is None else f"{report.cost:.6f}"
        spent = (f"{report.usage.prompt_tokens:,}", f"{report.usage.completion_tokens:,}", cost)
        rows.append([_words(name), *map(_number, spent), _words(values)])
    head = ["configuration", "prompt tokens", "completion tokens", "cost", "index and settings"]
    return f"<h2>Tokens and settings</h2>{_table(head, rows)}"


def _metrics(comparison: Comparison) -> list[str]:
    """The metrics that any configuration has."""
    return [name for name in METRICS if any(name in report.metrics for report in comparison.reports.values())]


def _mean(report: Report, metric: str) -> str:
    found = report.metrics.get(metric)
    return _number(f"{found.mean:.3f}<br><small>{found.low:.3f} to {found.high:.3f}</small>" if found else "–")


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that `_words` and `_number` made."""
    titles = "".join(f'<th scope="col"{_LEFT if title in _WORDS else ""}>{escape(title)}</th>' for title in head)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _words(text: str) -> str:
    """A cell of words: to the left, and escaped."""
    return f'<td class="words">{escape(text)}</td>'


def _number(html: str) -> str:
    """A cell of figures: to the right; already HTML."""
    return f"<td>{html}</td>"
