"""A job as telemetry sees it: one span, with what it did and how long reading, embedding and writing took."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from citekite.reports import SyncReport
from citekite.telemetry import Span, span
from citekite.timing import adding_up

_COUNTS = ("new", "changed", "unchanged", "pruned", "added", "updated", "kept", "deleted", "texts")


@contextmanager
def traced_sync(collection: str) -> Iterator[Callable[[SyncReport], SyncReport]]:
    """Trace a sync that runs inside; what is yielded takes its report, and hands it on."""
    with traced_job("sync", collection) as traced:

        def told(report: SyncReport) -> SyncReport:
            traced.set({f"citekite.{name}": getattr(report, name) for name in _COUNTS})
            traced.set({"citekite.failures": len(report.failures)})
            return report

        yield told


@contextmanager
def traced_job(name: str, collection: str) -> Iterator[Span]:
    """Trace a job that runs inside, with the seconds of its stages.

    They are those of all threads, so they may add up to more than the job took.
    """
    with span(f"{name} {collection}", {"gen_ai.data_source.id": collection}) as traced, adding_up() as totals:
        try:
            yield traced
        finally:
            traced.set({f"citekite.{stage}_seconds": seconds for stage, seconds in totals.seconds.items()})
