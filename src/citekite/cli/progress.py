"""Progress of long steps: a bar on a terminal, a plain line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from citekite.reports import Progress

# Between two plain lines: a log of an hour has a hundred of them.
LINE_SECONDS = 5.0


@contextmanager
def reporting(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A function to report progress to, which shows it on standard error."""
    if quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _Lines()


@contextmanager
def _bars() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, unit=progress.unit, rate="", total=None)
            task = tasks[progress.stage]
            speed = bars.tasks[bars.task_ids.index(task)].speed
            rate = f"{speed:,.0f}/s" if speed else ""
            bars.update(task, completed=progress.done, total=progress.total, rate=rate)

        yield report


class _Lines:
    """Prints a stage when it is complete, and every few seconds until then."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._printed: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        started = self._started.setdefault(progress.stage, now)
        complete = progress.done == progress.total
        if not complete and now - self._printed.setdefault(progress.stage, now) < LINE_SECONDS:
            return
        self._printed[progress.stage] = now
        print(describe(progress, now - started), file=sys.stderr)


def describe(progress: Progress, seconds: float) -> str:
    """One line: how far, how fast, how long still.

    >>> describe(Progress("embedding", 50, 200, "chunks"), 5.0)
    'embedding 50/200 chunks, 10/s, 15 s left'
    """
    total = f"/{progress.total}" if progress.total is not None else ""
    parts = [f"{progress.stage} {progress.done}{total} {progress.unit}"]
    if seconds > 0.1:
        rate = progress.done / seconds
        parts.append(f"{rate:,.0f}/s")
        if progress.total is not None and rate > 0 and progress.done < progress.total:
            parts.append(f"{(progress.total - progress.done) / rate:,.0f} s left")
    return ", ".join(parts)
