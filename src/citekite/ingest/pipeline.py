"""Stages side by side: one that runs in a thread of its own, joined to the next by a bounded buffer."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Self, TypeVar

S = TypeVar("S")
T = TypeVar("T")
Put = Callable[[T], None]

# How often a stage that waits for the one before looks whether it is to stop.
POLL_SECONDS = 0.2
THREAD = "citekite stage"
# How many sources are looked through for slow ones.
LOOKED_AHEAD = 64


class _Closed(BaseException):
    """Nobody takes what the stage makes any more; no `Exception`, so that no stage takes it for a fault of its own."""


def _one(item: object) -> int:
    return 1


def _never() -> bool:
    return False


class Stage(Generic[T]):
    """What `make(put)` puts, in order, while it runs in a thread of its own; to be iterated by one thread, and closed.

    `put` returns when what nobody has taken weighs `most` or less, so no more than that and one item lie between; with
    0 it hands over one item at a time. An error of `make` is raised after what it put before. `stopped()` turning true
    raises `KeyboardInterrupt`. After `close` the thread ends at its next `put`; nothing waits for that.
    """

    def __init__(
        self,
        make: Callable[[Put[T]], None],
        most: int,
        *,
        weigh: Callable[[T], int] = _one,
        stopped: Callable[[], bool] = _never,
    ) -> None:
        self._most = most
        self._weigh = weigh
        self._stopped = stopped
        self._items: deque[tuple[T, int]] = deque()
        self._weight = 0
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        # In the context of the caller, whose traces and cancelling hold for it too.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._run, make), name=THREAD, daemon=True).start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._changed:
            while not self._items and not self._ended and not self._stopped():
                self._changed.wait(POLL_SECONDS)
            if self._stopped():
                raise KeyboardInterrupt
            if self._items:
                item, weight = self._items.popleft()
                self._weight -= weight
                self._changed.notify()
                return item
        error, self._error = self._error, None
        raise error or StopIteration

    def close(self) -> None:
        """Take no more."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify()

    def _run(self, make: Callable[[Put[T]], None]) -> None:
        try:
            make(self._put)
        except _Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that iterates
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _put(self, item: T) -> None:
        weight = self._weigh(item)
        with self._changed:
            self._items.append((item, weight))
            self._weight += weight
            self._changed.notify()
            while self._weight > self._most and not self._closed:
                self._changed.wait()
            if self._closed:
                raise _Closed


def read_ahead(
    items: Iterable[T], most: int, *, weigh: Callable[[T], int] = _one, stopped: Callable[[], bool] = _never
) -> Stage[T]:
    """The items, iterated in a thread of its own.

    >>> list(read_ahead(range(3), 2))
    [0, 1, 2]
    """

    def make(put: Put[T]) -> None:
        for item in items:
            put(item)

    return Stage(make, most, weigh=weigh, stopped=stopped)


def begun_ahead(
    sources: Iterable[S], read: Callable[[S], Iterator[T]], slow: Callable[[S], bool], most: int
) -> Iterator[tuple[S, Iterator[T]]]:
    """Each source with what `read` gives of it, in order; of those that are `slow`, up to `most` are begun ahead."""
    waiting: deque[tuple[S, Iterator[T]]] = deque()
    begun = 0
    try:
        for source in sources:
            items = read_ahead(read(source), most=0) if slow(source) else read(source)
            begun += isinstance(items, Stage)
            waiting.append((source, items))
            while begun >= most or len(waiting) >= LOOKED_AHEAD:
                yield waiting[0]
                begun -= _close(waiting.popleft()[1])
        while waiting:
            yield waiting[0]
            _close(waiting.popleft()[1])
    finally:
        for _, items in waiting:
            _close(items)


def _close(items: object) -> bool:
    """Close what is a stage; returns whether it is one."""
    if isinstance(items, Stage):
        items.close()
        return True
    return False


def one_at_a_time(call: Callable[[T], None]) -> Callable[[T], None]:
    """The call for several threads, one after the other."""
    lock = threading.Lock()

    def locked(value: T) -> None:
        with lock:
            call(value)

    return locked
