"""The plots of a comparison, as SVG elements that stand in a page.

Text stays text and takes the page's colour (`currentColor`), so the plots can be read in light and dark; the colours
are those of Paul Tol's vibrant scheme, which people with any kind of colour vision can tell apart, and each
configuration has a marker of its own besides.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from citekite.errors import importing
from citekite.evaluate.run import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CUTOFFS = (1, 3, 5, 10)
_COLOURS = ("#777777", "#0077BB", "#EE7733", "#009988", "#CC3311", "#EE3377", "#33BBEE")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
_TEXT = "#010203"  # stands for the page's text colour until the SVG is written
_LONGEST_NAME = 44


def metric_plot(reports: Mapping[str, Report], metrics: Sequence[str]) -> str:
    """Each metric's mean by configuration, a panel a metric, with its 95 % interval."""
    figure = _figure(2.6 * len(metrics) + 2.2, 0.34 * len(reports) + 0.9)
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for row, report in enumerate(reports.values()):
            if found := report.metrics.get(metric):
                reach = [[found.mean - found.low], [found.high - found.mean]]
                axes.errorbar(found.mean, row, xerr=reach, **_style(row), capsize=3)
        axes.set_title(metric, fontsize=10)
        axes.set_yticks(range(len(reports)), [_short(name) for name in reports])
        axes.set_ylim(len(reports) - 0.5, -0.5)
        _plain(axes, "x")
    words = [
        f"{name}: " + ", ".join(_words(report, metric) for metric in metrics if metric in report.metrics)
        for name, report in reports.items()
    ]
    return _svg(figure, f"{', '.join(metrics)} by configuration, with 95 % intervals", "; ".join(words))


def recall_plot(reports: Mapping[str, Report]) -> str:
    """Recall at each cutoff, a line a configuration."""
    figure = _figure(6.4, 3.2 + 0.2 * len(reports))
    axes = figure.subplots()
    drawn = {name: report for name, report in reports.items() if "recall@1" in report.metrics}
    for row, (name, report) in enumerate(drawn.items()):
        recall = [report.metrics[f"recall@{k}"].mean for k in CUTOFFS]
        axes.plot(CUTOFFS, recall, **_style(row), label=_short(name))
    axes.set_xticks(CUTOFFS)
    axes.set_xlabel("documents or passages looked at (k)")
    axes.set_ylabel("recall@k")
    _plain(axes, "y")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), frameon=False, fontsize=9, labelcolor=_TEXT)
    words = [f"{name}: " + ", ".join(_words(report, f"recall@{k}") for k in CUTOFFS) for name, report in drawn.items()]
    return _svg(figure, "Recall by the number of results looked at", "; ".join(words))


def import_matplotlib() -> None:
    """Raise `MissingExtra` where matplotlib is not installed: best known before a set has been asked."""
    with importing("matplotlib", "eval", "the report with plots"):
        import matplotlib  # noqa: F401


def _figure(width: float, height: float) -> Figure:
    import_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _style(row: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[row % len(_COLOURS)],
        "marker": _MARKERS[row % len(_MARKERS)],
        "markersize": 6,
        "linewidth": 1.6,
    }


def _plain(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_TEXT)
    axes.tick_params(colors=_TEXT, labelsize=9)
    axes.grid(axis=grid, color=_TEXT, alpha=0.15, linewidth=0.8)  # type: ignore[arg-type]
    for label in (axes.title, axes.xaxis.label, axes.yaxis.label):
        label.set_color(_TEXT)


def _svg(figure: Figure, title: str, description: str) -> str:
    """The figure as one SVG element with a title and a description in words; its ids are its own in the page."""
    import matplotlib

    file = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "text.parse_math": False}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's font draws the text, not this one
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    own = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{own}-", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt" ', "", svg, count=1)
    labels = (
        f'<title id="{own}-title">{html.escape(title)}</title><desc id="{own}-desc">{html.escape(description)}</desc>'
    )
    head, rest = svg.split(">", 1)
    width = figure.get_figwidth() * 72  # points; smaller than two thirds, the text could not be read
    size = f"width: 100%; min-width: {0.67 * width:.0f}pt; max-width: {width:.0f}pt"
    attributes = f'role="img" aria-labelledby="{own}-title {own}-desc" style="{size}"'
    return f"{head} {attributes}>{labels}{rest}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _words(report: Report, metric: str) -> str:
    return f"{metric} {report.metrics[metric].mean:.3f}"
