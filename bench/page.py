"""Puts the filed figures into the documentation: tables between the markers of its pages, plots into docs/figures.

<!-- figures: NAME -->
... what `BLOCKS[NAME]` makes of the figures ...
<!-- end -->
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.embedders import MINILM, STATIC, TITLES
from bench.growth_figures import GROWTH_HEADS, MILLION_HEADS, growth_rows, million_rows, plot_growth
from bench.report import ROOT, load

PAGES = tuple(ROOT / "docs" / f"{name}.md" for name in ("quality", "serve", "milvus", "faults", "models", "scale"))
FIGURES = ROOT / "docs" / "figures"
EMBEDDERS = (STATIC, MINILM)
SET_TITLES = {
    "xquad_en": "XQuAD English",
    "xquad_de": "XQuAD German",
    "xquad_zh": "XQuAD Chinese",
    "milvus_docs": "Milvus documentation",
}
METRIC = "nDCG@10"
_BLOCK = re.compile(r"(<!-- figures: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_COLOURS = {STATIC: "#0077BB", MINILM: "#EE7733"}  # Paul Tol's vibrant scheme
_LEGS = {"dense": ":", "lexical": "--", "rrf": "-."}


def main() -> None:
    """Write the pages and their plots anew."""
    for page in PAGES:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    FIGURES.mkdir(exist_ok=True)
    plot_fusion(FIGURES / "fusion.svg")
    plot_recall(FIGURES / "recall.svg")
    plot_comparison(FIGURES / "comparison.svg")
    plot_growth(FIGURES / "growth.svg", _save)


def rendered(page: str) -> str:
    """The page with the figures that are filed now between its markers."""
    return _BLOCK.sub(lambda block: f"{block[1]}{BLOCKS[block['name']]()}\n{block[3]}", page)


def fusion_table(embedder: str) -> str:
    """nDCG@10 by recipe and question set, the best of each set bold, with the interval of the default."""
    figures = load(f"fusion-{embedder}")
    recipes = list(dict.fromkeys(recipe for found in figures.values() for recipe in found["recipes"]))
    recipes.sort(key=lambda recipe: (recipe.startswith("convex"), recipe if recipe.startswith("convex") else ""))
    best = {name: max(_mean(found, recipe) for recipe in found["recipes"]) for name, found in figures.items()}
    rows = []
    for recipe in recipes:
        cells = [recipe]
        for name, found in figures.items():
            if recipe not in found["recipes"]:
                cells.append("")
                continue
            value = f"{_mean(found, recipe):.3f}"
            value = f"**{value}**" if _mean(found, recipe) == best[name] else value
            cells.append(f"{value} (default)" if recipe == f"convex {found['default']:g}" else value)
        rows.append(cells)
    return _table(["", *(_set_title(name, found["questions"]) for name, found in figures.items())], rows)


def evaluation_table() -> str:
    """Every metric by question set, with its 95 % interval, with the embedded default."""
    figures = load("evaluation")
    metrics = dict.fromkeys(metric for found in figures.values() for metric in found["defaults"]["metrics"])
    rows = [[metric, *(_interval(found["defaults"], metric) for found in figures.values())] for metric in metrics]
    return _table(["", *(_set_title(name, found["defaults"]["questions"]) for name, found in figures.items())], rows)


def embedders_table() -> str:
    """Both embedders alone and fused by the default weight, on every set."""
    rows = []
    for metric in ("nDCG@10", "recall@5"):
        for embedder in EMBEDDERS:
            figures = load(f"fusion-{embedder}")
            for kind in ("dense alone", "hybrid, default weight"):
                cells = [metric, TITLES[embedder], kind]
                for found in figures.values():
                    one = found["recipes"]["dense" if kind == "dense alone" else f"convex {found['default']:g}"][metric]
                    cells.append(f"{one['mean']:.3f} ({one['low']:.3f} to {one['high']:.3f})")
                rows.append(cells)
    return _table(["", "embedder", "search", *(SET_TITLES[name] for name in load(f"fusion-{STATIC}"))], rows)


def comparison_table(set_name: str) -> str:
    """Each configuration with its difference from the default and what chance makes of it."""
    found = load("evaluation")[set_name]
    reports = found["reports"]
    rows = [["the defaults", _interval(reports["base"], METRIC), "", "", _value(reports["base"], "recall@5"), ""]]
    for name, by_metric in found["differences"].items():
        one = by_metric[METRIC]
        rows.append(
            [
                f"`{name}`",
                _interval(reports[name], METRIC),
                f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})",
                f"{one['adjusted']:.4f}",
                _value(reports[name], "recall@5"),
                f"{one['wins']} / {one['losses']}",
            ]
        )
    return _table(["", METRIC, "difference", "p", "recall@5", "better / worse questions"], rows)


def filed_table(*names: str) -> str:
    """Tables that a benchmark printed, under their titles."""
    parts = []
    for name in names:
        filed = load(name)
        rows = [[row["name"], row["measured"], row["target"]] for row in filed["rows"]]
        parts.append(f"*{filed['title']}*\n\n{_table(['', 'measured', 'target'], rows)}")
    return "\n\n".join(parts)


def kills_table() -> str:
    """What became of the jobs that were killed, a row a job."""
    rows = []
    for job in load("kills")["jobs"]:
        stages = ", ".join(f"{stage} {count}" for stage, count in job["stages"].items())
        again = f"{job['again']} (at most {job['in_flight']} in flight)"
        rows.append([job["job"], str(job["kills"]), stages, str(job["different"]), again])
    heads = ["", "kills", "killed in the stage", "unlike a clean run after the rerun", "most texts embedded again"]
    return _table(heads, rows)


def fuzz_table() -> str:
    """Inputs tried for each target of fuzzing, what came of them, and all together."""
    targets = load("fuzz")["targets"]
    rows = [
        [
            one["target"],
            *(f"{count:,}" for count in (one["inputs"], one["crashes"], one["hangs"], len(one["findings"]))),
        ]
        for one in targets
    ]
    sums = [sum(int(row[column].replace(",", "")) for row in rows) for column in range(1, 5)]
    rows.append(["together", *(f"{count:,}" for count in sums)])
    return _table(["target", "inputs", "crashes", "hangs", "broken laws"], rows)


def plot_fusion(path: Path) -> None:
    """nDCG@10 by the weight of the lexical leg, a panel a question set, with each leg alone and rank fusion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    for axes, name in zip(panels.flat, SET_TITLES, strict=True):
        for embedder in EMBEDDERS:
            found = load(f"fusion-{embedder}")[name]
            weights = [float(recipe.split()[1]) for recipe in found["recipes"] if recipe.startswith("convex")]
            values = [_mean(found, f"convex {weight:g}") for weight in weights]
            label = TITLES[embedder].partition(" (")[0]
            axes.plot(weights, values, marker="o", color=_COLOURS[embedder], label=f"convex, {label}")
            for leg, style in _LEGS.items():
                if leg != "lexical" or embedder == STATIC:  # the lexical leg is the same for both
                    colour = "#777777" if leg == "lexical" else _COLOURS[embedder]
                    axes.axhline(_mean(found, leg), linestyle=style, color=colour, label=_line_label(leg, label))
        axes.set_title(SET_TITLES[name])
        axes.set_xlabel("weight of the lexical leg")
        axes.set_ylabel(METRIC)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    _save(figure, path)


def plot_recall(path: Path) -> None:
    """Recall by the number of results looked at, with the defaults, a line a question set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    cutoffs = (1, 3, 5, 10)
    for marker, (name, found) in zip("os^D", load("evaluation").items(), strict=True):
        metrics = found["defaults"]["metrics"]
        means = [metrics[f"recall@{k}"]["mean"] for k in cutoffs]
        reach = [
            [sign * (metrics[f"recall@{k}"][end] - metrics[f"recall@{k}"]["mean"]) for k in cutoffs]
            for sign, end in ((-1, "low"), (1, "high"))
        ]
        axes.errorbar(cutoffs, means, yerr=reach, marker=marker, capsize=3, label=SET_TITLES[name])
    axes.set_xticks(cutoffs)
    axes.set_xlabel("results looked at (k)")
    axes.set_ylabel("recall@k")
    axes.legend(frameon=False)
    _save(figure, path)


def plot_comparison(path: Path) -> None:
    """nDCG@10 by configuration with its interval, a panel a question set."""
    from matplotlib.figure import Figure

    compared = {name: found for name, found in load("evaluation").items() if found["differences"]}
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(1, len(compared)), compared.items(), strict=True):
        for row, report in enumerate(found["reports"].values()):
            one = report["metrics"][METRIC]
            reach = [[one["mean"] - one["low"]], [one["high"] - one["mean"]]]
            axes.errorbar(one["mean"], row, xerr=reach, marker="o", capsize=3, color="#0077BB" if row else "#CC3311")
        axes.set_yticks(range(len(found["reports"])), ["the defaults", *list(found["reports"])[1:]])
        axes.invert_yaxis()
        axes.set_title(SET_TITLES[name])
        axes.set_xlabel(METRIC)
    _save(figure, path)


def _line_label(leg: str, embedder: str) -> str:
    return "lexical alone" if leg == "lexical" else f"{'dense alone' if leg == 'dense' else 'rank fusion'}, {embedder}"


def _save(figure: Any, path: Path) -> None:
    """As text in SVG on white, the same bytes for the same figures."""
    import matplotlib

    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def _set_title(name: str, questions: int) -> str:
    return f"{SET_TITLES[name]}, {questions:,} questions"


def _mean(found: Mapping[str, Any], recipe: str) -> float:
    return float(found["recipes"][recipe][METRIC]["mean"])


def _interval(report: Mapping[str, Any], metric: str) -> str:
    one = report["metrics"].get(metric)
    return f"{one['mean']:.3f} ({one['low']:.3f} to {one['high']:.3f})" if one else ""


def _value(report: Mapping[str, Any], metric: str) -> str:
    return f"{report['metrics'][metric]['mean']:.3f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "evaluation": evaluation_table,
    "embedders": embedders_table,
    "fusion-static": lambda: fusion_table(STATIC),
    "fusion-minilm": lambda: fusion_table(MINILM),
    "comparison-xquad": lambda: comparison_table("xquad_en"),
    "comparison-docs": lambda: comparison_table("milvus_docs"),
    "context": lambda: filed_table("context-400", "context-800", "context-1600"),
    "extractive": lambda: filed_table("extractive"),
    "abstention": lambda: filed_table("abstention-test", "abstention-dev", "abstention-languages"),
    "claims": lambda: filed_table("claims"),
    "api": lambda: filed_table("api"),
    "start": lambda: filed_table("start"),
    "scale": lambda: filed_table("scale"),
    "kills": kills_table,
    "soak": lambda: filed_table("soak"),
    "growth": lambda: _table(GROWTH_HEADS, growth_rows()),
    "million": lambda: _table(MILLION_HEADS, million_rows()),
    "serving": lambda: filed_table("serving-streams", "serving-searches"),
    "fuzz": fuzz_table,
}


if __name__ == "__main__":
    main()
