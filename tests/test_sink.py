"""Rows on their way to a server: several requests at once, and still as if they came one after another."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citekite.errors import StoreError
from citekite.store.sink import Parallel, batches

batch_of_rows = st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)


class Table:
    """Rows by id, stored by requests that take longer the larger their first id is; remembers how many ran at once."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.most_at_once = 0
        self._running = 0
        self._lock = threading.Lock()

    def send(self, batch: Sequence[Any]) -> None:
        with self._lock:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        time.sleep(int(batch[0]["id"]) * 0.0002)
        with self._lock:
            self.rows.update((row["id"], row["value"]) for row in batch)
            self._running -= 1


@given(st.lists(batch_of_rows, max_size=30), st.integers(1, 4))
@settings(max_examples=40)
def test_the_last_row_of_an_id_wins_however_long_requests_take(batches: list[list[int]], at_once: int) -> None:
    table, expected = Table(), {}
    sink = Parallel(table.send, at_once)
    for number, ids in enumerate(batches):
        rows = [{"id": str(id), "value": number} for id in ids]
        expected.update((row["id"], row["value"]) for row in rows)
        sink.put(rows)
    sink.settle()
    sink.close()
    assert table.rows == expected
    assert table.most_at_once <= at_once


def test_no_more_rows_are_held_than_twice_the_requests_on_the_way() -> None:
    gate, taken = threading.Event(), 0
    sink = Parallel(lambda batch: (gate.wait(10), None)[1], at_once=2)

    def put() -> None:
        nonlocal taken
        for number in range(9):
            sink.put([{"id": str(number)}])
            taken += 1

    thread = threading.Thread(target=put)
    thread.start()
    time.sleep(0.1)
    assert taken == 4
    gate.set()
    thread.join()
    sink.settle()
    sink.close()
    assert taken == 9


def test_an_error_of_a_request_is_raised_by_what_comes_after_it() -> None:
    def send(batch: Sequence[Any]) -> None:
        if batch[0]["id"] == "bad":
            raise StoreError("refused")

    sink = Parallel(send)
    sink.put([{"id": "bad"}])
    with pytest.raises(StoreError, match="refused"):
        sink.settle()
    sink.put([{"id": "bad"}])
    with pytest.raises(StoreError, match="refused"):
        deque((sink.put([{"id": str(number)}]) for number in range(100)), maxlen=0)
    sink.close()


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 30))
def test_batches_keep_order_and_size(sizes: list[int], most: int) -> None:
    rows = [{"id": str(number), "size": size} for number, size in enumerate(sizes)]
    parts = list(batches(rows, lambda row: row["size"], most))
    assert [row for part in parts for row in part] == rows
    assert all(len(part) == 1 or sum(row["size"] for row in part) <= most for part in parts)
