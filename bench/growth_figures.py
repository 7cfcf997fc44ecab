"""What the figures of growth look like in the documentation: tables, a plot, and the reckoning of a million chunks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report import load

MILLION = 1_000_000
_BLUE, _ORANGE, _RED, _GREY = "#0077BB", "#EE7733", "#CC3311", "#777777"  # Paul Tol's vibrant scheme


def growth_rows() -> list[list[str]]:
    """Time, rate, memory and disk of syncs by the number of chunks."""
    rows = []
    for kind, title in (("long", "20 chunks a file"), ("short", "1 chunk a file"), ("server", "1, into a server")):
        for one in load("growth")[kind]:
            disk = f"{one['disk']:,.0f} MB" if one["disk"] else ""
            rows.append(
                [
                    title,
                    f"{one['chunks']:,}",
                    f"{one['seconds']:,.1f} s",
                    f"{one['chunks'] / one['seconds']:,.0f}",
                    f"{one['again']:,.1f} s",
                    f"{one['memory']:,.0f} MB",
                    f"{one['memory_again']:,.0f} MB",
                    disk,
                ]
            )
    return rows


GROWTH_HEADS = ("files", "chunks", "first sync", "chunks/s", "second sync", "its memory", "of the second", "disk")


def million_rows() -> list[list[str]]:
    """What a million chunks take on paper: the largest sizes measured, drawn out in proportion."""
    long, server = load("growth")["long"][-2:], load("growth")["server"][-2:]
    largest = long[-1]
    times = MILLION / largest["chunks"]
    query = _milliseconds("dense leg, p50")
    return [
        ["first sync", f"{largest['seconds'] * times / 60:,.0f} min", "time grows with the chunks"],
        ["second sync", f"{_drawn_out(long, 'again'):,.0f} s", "every file is read and hashed, every row's id is read"],
        ["disk", f"{largest['disk'] * times / 1000:,.1f} GB", "as much a chunk"],
        [
            "memory of a sync",
            f"{_drawn_out(long, 'memory') / 1000:,.1f} GB",
            "Milvus Lite holds all rows in memory, but not their vectors; into a server, citekite's own is "
            f"{_drawn_out(server, 'memory') / 1000:,.1f} GB for a million files",
        ],
        [
            "dense leg of a search",
            f"{query[1] * MILLION / query[0]:,.0f} ms",
            "one product with a matrix of 1.0 GB (256 dimensions) that lies in the system's cache",
        ],
    ]


MILLION_HEADS = ("1,000,000 chunks", "on paper", "assumed")


def plot_growth(path: Path, save: Any) -> None:
    """Time and memory of a sync, and the time of a search, by the number of chunks."""
    from matplotlib.figure import Figure

    figures = load("growth")
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    times, memory, search = figure.subplots(1, 3)
    for kind, label, colour in (("long", "20 chunks a file", _BLUE), ("short", "1 chunk a file", _ORANGE)):
        sizes = [one["chunks"] for one in figures[kind]]
        for name, style in (("seconds", "-"), ("again", ":")):
            values = [one[name] for one in figures[kind]]
            times.plot(sizes, values, style, marker="o", color=colour, label=f"{_SYNCS[name]}, {label}")
        memory.plot(sizes, [one["memory"] for one in figures[kind]], marker="o", color=colour, label=label)
    served = figures["server"]
    memory.plot(
        [one["chunks"] for one in served],
        [one["memory"] for one in served],
        marker="s",
        color=_RED,
        label="1 chunk a file, into a server",
    )
    _guide(times, figures["long"][-1])
    for name, colour in (("hybrid search, p50", _BLUE), ("dense search of Milvus Lite, p50", _GREY)):
        points = _by_size(name)
        search.plot(list(points), list(points.values()), marker="o", color=colour, label=name.removesuffix(", p50"))
    for axes, title, unit in ((times, "sync", "s"), (memory, "memory of a first sync", "MB"), (search, "search", "ms")):
        axes.set_title(title)
        axes.set_xlabel("chunks")
        axes.set_ylabel(unit)
        axes.set_xscale("log")
        axes.legend(frameon=False, fontsize=8)
    times.set_yscale("log")
    for axes in (memory, search):
        axes.set_ylim(bottom=0)
    save(figure, path)


_SYNCS = {"seconds": "first", "again": "second"}


def _guide(axes: Any, largest: Mapping[str, Any]) -> None:
    """Proportional growth through the largest size."""
    sizes = [largest["chunks"] / 100, largest["chunks"]]
    values = [largest["seconds"] / 100, largest["seconds"]]
    axes.plot(sizes, values, "--", color=_GREY, linewidth=1, label="in proportion")


def _drawn_out(points: list[Mapping[str, Any]], name: str) -> float:
    """The line through the two largest sizes, at a million chunks."""
    smaller, larger = points
    slope = (larger[name] - smaller[name]) / (larger["chunks"] - smaller["chunks"])
    return float(larger[name] + slope * (MILLION - larger["chunks"]))


def _milliseconds(name: str) -> tuple[int, float]:
    """The largest size at which a search was measured, and its time."""
    size, value = list(_by_size(name).items())[-1]
    return size, value


def _by_size(name: str) -> dict[int, float]:
    """The measured times of a kind of search in milliseconds, by the number of chunks."""
    found = {}
    for row in load("scale")["rows"]:
        chunks, _, what = row["name"].partition(" chunks: ")
        if what == name:
            found[int(chunks.replace(",", ""))] = float(row["measured"].split()[0].replace(",", ""))
    return found
