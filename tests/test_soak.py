"""Two minutes of mixed use of a server: nothing lost or doubled, and no more memory, threads or files in the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.soak import MOST_FILES, MOST_MB, MOST_THREADS, Sample, growth, soak

ROOT = Path(__file__).resolve().parent.parent


def test_two_minutes_of_mixed_use() -> None:
    """Clients think long enough for server and endpoint to need a fraction of one processor."""
    found = soak(2.0, pace=2.0)
    assert not found.differences
    assert not found.failures
    assert "Traceback" not in found.log
    assert {result.name: result.figure for result in found.results if result.verdict == "missed"} == {}
    counted = {result.name: result.measured for result in found.results}
    assert counted["comparisons with what must be stored"] >= 5
    assert all(counted[name] >= 10 for name in ("sync", "uploads", "search", "ask", "leave", "documents")), counted


@pytest.mark.parametrize(
    ("memory", "grows"),
    [
        (lambda second: 300.0 + (40.0 if second == 50 else 0.0), False),
        (lambda second: 300.0 + (100.0 if second < 20 else 0.0), False),
        (lambda second: 300.0 + 0.75 * second, True),
    ],
    ids=["a peak", "before the warm-up has ended", "a leak"],
)
def test_growth_is_that_of_the_trend(memory, grows: bool) -> None:  # type: ignore[no-untyped-def]
    samples = [Sample(float(second), memory(second), 20 + second // 2, 40) for second in range(90)]
    assert (growth(samples, lambda one: one.memory) > MOST_MB) is grows
    assert growth(samples, lambda one: one.threads) > MOST_THREADS
    assert growth(samples, lambda one: one.files) <= MOST_FILES
