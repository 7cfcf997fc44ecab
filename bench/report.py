"""What a benchmark prints: targets beside what was measured, and where its data is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "bench" / "results"


class MissingData(Exception):
    """A benchmark's data is not there."""


@dataclass(frozen=True, slots=True)
class Result:
    """One measured figure with the least or most that it should be; neither where it is only reported.

    >>> Result("ratio", 1.2, "x", at_most=1.5).verdict, Result("nDCG@10", 0.95, at_least=0.96).verdict
    ('ok', 'missed')
    """

    name: str
    measured: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"

    @property
    def verdict(self) -> str:
        if self.at_least is None and self.at_most is None:
            return ""
        enough = self.at_least is None or self.measured >= self.at_least
        return "ok" if enough and (self.at_most is None or self.measured <= self.at_most) else "missed"

    @property
    def figure(self) -> str:
        return f"{_rounded(self.measured)} {self.unit}".rstrip()


def data(name: str) -> Path:
    """The path of a data set; raises `MissingData` with what to do."""
    path = DATA / name
    if not path.exists():
        raise MissingData(f"there is no data set {name!r} in {DATA}: put it there to run this benchmark")
    return path


def save(name: str, figures: Mapping[str, Any]) -> None:
    """File figures under a name, rounded so that a rerun differs only where something changed."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(_short(figures), ensure_ascii=False, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def publish(name: str, title: str, results: Sequence[Result]) -> None:
    """Print a table, and file it for the documentation."""
    print(table(title, results), flush=True)
    rows = [{"name": one.name, "target": one.target, "measured": one.figure} for one in results]
    save(name, {"title": title, "rows": rows})


def load(name: str) -> Any:
    """The figures filed under a name; raises `MissingData` where there are none."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise MissingData(f"there are no figures {name!r} in {RESULTS}: `make figures` measures them")
    return json.loads(path.read_text(encoding="utf-8"))


def table(title: str, results: Sequence[Result]) -> str:
    """The results as aligned text, under a title."""
    rows = [("", "target", "measured", ""), *((r.name, r.target, r.figure, r.verdict) for r in results)]
    return "\n".join([title, *_aligned(rows), ""])


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _short(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _short(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_short(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.4f}" if value < 1 else f"{value:.2f}"
