"""A sync as telemetry sees it: one span, with what it did and how long reading, embedding and writing took."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from citekite.reports import SyncReport
from citekite.telemetry import span
from citekite.timing import adding_up

_COUNTS = ("new", "changed", "unchanged", "pruned", "added", "updated", "kept", "deleted", "texts")


@contextmanager
def traced_sync(collection: str) -> Iterator[Callable[[SyncReport], SyncReport]]:
    """Trace a sync that runs inside; what is yielded takes its report, and hands it on.

    The seconds are those of all threads, so they may add up to more than the sync took.
    """
    described = {"gen_ai.data_source.id": collection}
    with span(f"sync {collection}", described) as traced, adding_up() as totals:

        def told(report: SyncReport) -> SyncReport:
            traced.set({f"citekite.{name}": getattr(report, name) for name in _COUNTS})
            traced.set({"citekite.failures": len(report.failures)})
            traced.set({f"citekite.{name}_seconds": seconds for name, seconds in totals.seconds.items()})
            return report

        yield told
