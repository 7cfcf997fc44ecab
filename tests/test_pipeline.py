"""Stages in threads: order, bounds, errors, and that no thread is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citekite.ingest.pipeline import Put, Stage, begun_ahead, one_at_a_time, read_ahead


class Broken(Exception):
    """What a stage of these tests fails with."""


def wait_until_alone(before: set[threading.Thread]) -> None:
    """Wait until no thread runs that did not before."""
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, "a thread is left"
        time.sleep(0.002)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 5)), st.integers(1, 8), st.integers(0, 20), st.booleans())
def test_items_come_in_order_and_no_more_than_the_bound_lies_between(
    items: list[int], most: int, taken: int, fails: bool
) -> None:
    """Whatever the weights, and wherever the consumer leaves; an error comes after what was put before it."""
    before = set(threading.enumerate())
    lying = 0

    def make(put: Put[int]) -> None:
        nonlocal lying
        for item in items:
            put(item)
            lying += item
            assert lying <= most + item + held
        if fails:
            raise Broken

    held = 0
    got: list[int] = []
    with closing(Stage(make, most, weigh=lambda item: item)) as stage, suppress(Broken):
        for item in stage:
            got.append(item)
            held = max(held, item)
            lying -= item
            if len(got) == taken:
                break
        else:
            assert got == items
            assert not fails
    assert got == items[: len(got)]
    wait_until_alone(before)


def test_the_stages_work_at_the_same_time() -> None:
    """Each side waits for what the other does next: one after the other they would wait for ever."""
    makes, takes = threading.Event(), threading.Event()

    def make(put: Put[int]) -> None:
        put(1)
        assert takes.wait(10)
        makes.set()
        put(2)

    with closing(Stage(make, 1)) as stage:
        assert next(stage) == 1
        takes.set()
        assert makes.wait(10)
        assert list(stage) == [2]


def test_an_error_is_raised_after_the_items_before_it_and_once() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise Broken

    stage = read_ahead(items(), 5)
    assert next(stage) == 1
    with pytest.raises(Broken):
        next(stage)
    assert list(stage) == []


def test_who_waits_for_a_slow_stage_can_be_stopped() -> None:
    release, stopped = threading.Event(), threading.Event()

    def make(put: Put[int]) -> None:
        put(1)
        release.wait(10)

    with closing(Stage(make, 1, stopped=stopped.is_set)) as stage:
        assert next(stage) == 1
        threading.Timer(0.05, stopped.set).start()
        with pytest.raises(KeyboardInterrupt):
            next(stage)
    release.set()


def test_a_stage_runs_in_the_context_of_its_caller() -> None:
    name: ContextVar[str] = ContextVar("name")
    name.set("caller")
    assert list(Stage(lambda put: put(name.get()), 1)) == ["caller"]


def test_slow_sources_are_begun_ahead_within_the_bound_and_come_in_order() -> None:
    before = set(threading.enumerate())
    at_work = most_at_work = 0
    lock, both = threading.Lock(), threading.Barrier(2)

    def read(source: str) -> Iterator[str]:
        nonlocal at_work, most_at_work
        if source.startswith("slow"):
            with lock:
                at_work += 1
                most_at_work = max(most_at_work, at_work)
            both.wait(10)  # two at a time, or never
        yield f"{source} 1"
        yield f"{source} 2"
        with lock:
            at_work -= source.startswith("slow")

    sources = ["slow a", "b", "slow c", "d", "slow e", "slow f"]
    got = [item for _, items in begun_ahead(sources, read, lambda one: one.startswith("slow"), 2) for item in items]
    assert got == [f"{source} {number}" for source in sources for number in (1, 2)]
    assert most_at_work <= 3
    wait_until_alone(before)


def test_what_was_begun_ends_when_nobody_takes_it() -> None:
    before = set(threading.enumerate())
    begun = begun_ahead("abcdef", lambda source: iter(source * 9), lambda source: True, 4)
    source, items = next(begun)
    assert (source, next(items)) == ("a", "a")
    begun.close()  # type: ignore[attr-defined]
    wait_until_alone(before)


def test_calls_from_several_threads_come_one_at_a_time() -> None:
    at_work = 0

    def call(number: int) -> None:
        nonlocal at_work
        at_work += 1
        time.sleep(0.001)
        assert at_work == 1
        at_work -= 1
        done.append(number)

    done: list[int] = []
    locked = one_at_a_time(call)
    threads = [threading.Thread(target=locked, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))
