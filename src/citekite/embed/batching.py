"""A stream of items into vectors: equal texts once, batches that fit the endpoint, a bounded pool of requests.

items -> entries (equal texts merged) -> batches -> up to `concurrency` requests -> results as they return
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import numpy as np

from citekite.errors import RequestRefused
from citekite.ports import Embedder, Vectors
from citekite.timing import counted_as
from citekite.tokens import estimate_tokens

T = TypeVar("T")

# OpenAI takes 300,000 tokens in one embedding request (https://platform.openai.com/docs/api-reference/embeddings), and
# the estimate may be wrong by a factor of two.
REQUEST_TOKENS = 100_000

# So many different texts refused one by one, and none accepted: it is not the texts.
REFUSALS_BEFORE_GIVING_UP = 3

# How many items are read before the first request, where a full wave of requests takes no more: a small job is then
# known to be one; and the most, whatever a wave takes, because they are held in memory.
WINDOW, LARGEST_WINDOW = 4096, 16_384

# After Ctrl-C: how long to wait for the next request in flight, which is paid for.
PATIENCE_SECONDS = 10.0
# How often a stop is looked for while nothing returns.
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Embedded(Generic[T]):
    """Items and their vectors, a row an item; `texts` counts the distinct texts sent, `tokens` is an estimate."""

    items: list[T]
    vectors: Vectors
    texts: int
    tokens: int

    @property
    def chunks(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Refused(Generic[T]):
    """The items of one text that the endpoint refused to embed, and its reason."""

    items: list[T]
    error: RequestRefused


def _never() -> bool:
    return False


def embed_in_batches(
    embedder: Embedder,
    items: Iterable[T],
    text_of: Callable[[T], str],
    *,
    window: int | None = None,
    stopped: Callable[[], bool] = _never,
) -> Iterator[Embedded[T] | Refused[T]]:
    """Embed the items' texts and yield results as their requests return, in any order.

    `items` is read lazily: the first `window` of them (by default a full wave of requests) before anything is sent,
    then as batches fill, and at most about a window ahead of the requests, so a stream of any length needs the memory
    of about two windows. Equal texts that are not yet embedded are sent once. Batches that have returned when the next
    result is asked for are one result, up to half of `concurrency` of them. A batch that the endpoint refuses is
    halved; a single text that it refuses is yielded as `Refused`. On any other error, also one of `items` itself and
    Ctrl-C, nothing more is sent, the results of what is in flight are yielded, and then the error is raised;
    `stopped()` turning true counts as Ctrl-C.
    """
    run: _Run[T] = _Run(embedder, text_of, window, stopped)
    try:
        for item in items:
            run.add(item)
            yield from run.results(until=run.none_ready)
            yield from run.results(until=run.has_room)
            if run.failure:
                break
        else:
            run.add_no_more()
            yield from run.results(until=run.idle_or_interrupted)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - raised below, after what is already paid for
        run.stop(error)
    yield from run.rest()
    if run.failure:
        raise run.failure


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    """A distinct text with the items that have it."""

    text: str
    tokens: int
    items: list[T]


# The entries of a request, and their vectors or what became of it instead.
_Returned = tuple[list[_Entry[T]], Vectors | BaseException]


class _Run(Generic[T]):
    """The requests of one call: which wait, how many are in flight, and how large a batch the endpoint takes."""

    def __init__(
        self, embedder: Embedder, text_of: Callable[[T], str], window: int | None, stopped: Callable[[], bool]
    ) -> None:
        self.failure: BaseException | None = None
        self._embedder = embedder
        self._text_of = text_of
        self._stopped = stopped
        wave = embedder.concurrency * embedder.batch_size
        self._window = window or min(max(WINDOW, wave), LARGEST_WINDOW)
        self._in_threads = embedder.concurrency > 1
        # Results that are handed on as one where they have already returned, because rows are stored faster together;
        # not all that there may be, because a kill loses what is not stored yet.
        self._together = max(1, embedder.concurrency // 2)
        # Of a batch in a job of more than one window: as large as may be, where a window fills the pool with such.
        self._size = min(embedder.batch_size, -(-self._window // embedder.concurrency))
        # Entries that are not settled, and those of them that are in no batch yet.
        self._by_text: dict[str, _Entry[T]] = {}
        self._unsent: list[_Entry[T]] = []
        self._read = 0
        self._due = self._window
        self._waiting: deque[list[_Entry[T]]] = deque()
        self._in_flight = 0
        self._returned: SimpleQueue[_Returned[T]] = SimpleQueue()
        self._largest_accepted = 0
        self._smallest_refused = 2 * embedder.batch_size
        # By text, as long as none was accepted.
        self._early_refusals: dict[str, Refused[T]] = {}

    def add(self, item: T) -> None:
        """Take an item; send what makes a batch, once it is known that the job is not a small one."""
        text = self._text_of(item)
        self._read += 1
        if (entry := self._by_text.get(text)) is not None:
            entry.items.append(item)
        else:
            entry = self._by_text[text] = _Entry(text, estimate_tokens(text), [item])
            self._unsent.append(entry)
        if len(self._unsent) >= self._due or self._read >= self._window:
            self._queue(self._size)
            self._due = self._size

    def add_no_more(self) -> None:
        """Send the rest: one wave of requests that uses the whole pool beats few large ones, as they run at once."""
        self._queue(-(-len(self._unsent) // self._embedder.concurrency))

    def _queue(self, size: int) -> None:
        if not self.failure:
            self._waiting.extend(_cut(self._unsent, max(1, min(size, self._limit))))
        self._unsent, self._read = [], 0
        self._send()

    def results(self, until: Callable[[], bool]) -> Iterator[Embedded[T] | Refused[T]]:
        """Results as they return, and further requests in their place, until `until()`.

        After Ctrl-C also until nothing has returned for a while.
        """
        quiet_since = time.monotonic()
        while not until():
            returned = self._next_returned()
            if self._stopped():  # also where nothing returned, as in an outage
                self.stop(KeyboardInterrupt())
            if not returned:
                if self._interrupted and time.monotonic() - quiet_since > PATIENCE_SECONDS:
                    return
                continue
            quiet_since = time.monotonic()
            settled = [result for one in returned for result in self._settle(*one)]
            if self._in_doubt and not self._in_flight:
                self.stop(next(reversed(self._early_refusals.values())).error)
            self._send()  # before the caller is given the result: storing it takes time
            yield from _joined(settled)

    def _next_returned(self) -> list[_Returned[T]]:
        """What returned: the next that does, and with it what has already; nothing after a while of silence."""
        returned: list[_Returned[T]] = []
        with suppress(Empty):
            returned.append(self._returned.get(timeout=POLL_SECONDS))
            while len(returned) < self._together:
                returned.append(self._returned.get_nowait())
        return returned

    def rest(self) -> Iterator[Embedded[T] | Refused[T]]:
        """What is still in flight, and the refusals that were held back."""
        yield from self.results(until=self.idle)
        if self.failure is None:
            yield from self._early_refusals.values()

    def stop(self, failure: BaseException) -> None:
        """Send nothing more; `failure` is raised in the end, unless there was one before."""
        self.failure = self.failure or failure
        self._waiting.clear()

    def has_room(self) -> bool:
        """Whether reading goes on: there is no more than a wave of requests in reserve."""
        return len(self._waiting) < self._embedder.concurrency

    def none_ready(self) -> bool:
        return self._returned.empty()

    def idle(self) -> bool:
        return not self._in_flight

    def idle_or_interrupted(self) -> bool:
        return self.idle() or self._interrupted

    @property
    def _interrupted(self) -> bool:
        return isinstance(self.failure, KeyboardInterrupt)

    @property
    def _limit(self) -> int:
        """The most texts of a batch: half of what was refused, but not less than what was accepted.

        So a limit of the endpoint is found by halving, and a single bad text in a batch does not shrink the others.
        """
        return min(self._embedder.batch_size, max(self._largest_accepted, self._smallest_refused // 2))

    @property
    def _in_doubt(self) -> bool:
        """Whether all may be refused: what is in flight decides, and until then nothing more is sent."""
        return len(self._early_refusals) >= REFUSALS_BEFORE_GIVING_UP

    def _send(self) -> None:
        while self._waiting and self._in_flight < self._embedder.concurrency and not self._in_doubt:
            entries = self._waiting.popleft()
            if len(entries) > self._limit:
                self._waiting.appendleft(entries[self._limit :])
                entries = entries[: self._limit]
            self._in_flight += 1
            if not self._in_threads:
                self._embed(entries)
            else:
                # Daemons and not an executor's workers, which are joined at exit: Ctrl-C would have to wait for a
                # request's time-out. Starting a thread costs 0.1 ms, a request a hundred times that.
                threading.Thread(target=copy_context().run, args=(self._embed, entries), daemon=True).start()

    def _embed(self, entries: list[_Entry[T]]) -> None:
        try:
            with counted_as("embed"):
                outcome: Vectors | BaseException = self._embedder.embed_documents([entry.text for entry in entries])
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits for it
            outcome = error
        self._returned.put((entries, outcome))

    def _settle(self, entries: list[_Entry[T]], outcome: Vectors | BaseException) -> list[Embedded[T] | Refused[T]]:
        self._in_flight -= 1
        if isinstance(outcome, RequestRefused):
            return self._settle_refusal(entries, outcome)
        if isinstance(outcome, BaseException):
            self.stop(outcome)
            return []
        self._largest_accepted = max(self._largest_accepted, len(entries))
        self._forget(entries)
        results: list[Embedded[T] | Refused[T]] = [_embedded(entries, outcome), *self._early_refusals.values()]
        self._early_refusals = {}
        return results

    def _settle_refusal(self, entries: list[_Entry[T]], error: RequestRefused) -> list[Embedded[T] | Refused[T]]:
        if len(entries) > 1:
            self._smallest_refused = min(self._smallest_refused, len(entries))
            if not self.failure:
                # In front: one batch is followed down to its bad text before the next is tried.
                half = len(entries) // 2
                self._waiting.extendleft((entries[half:], entries[:half]))
            return []
        self._forget(entries)
        (entry,) = entries
        if self._largest_accepted:
            return [Refused(entry.items, error)]
        # A text may come again later.
        self._early_refusals.setdefault(entry.text, Refused([], error)).items.extend(entry.items)
        return []

    def _forget(self, entries: list[_Entry[T]]) -> None:
        """From here on, another item with one of these texts is a new entry."""
        for entry in entries:
            del self._by_text[entry.text]


def _cut(entries: list[_Entry[T]], size: int) -> Iterator[list[_Entry[T]]]:
    """The entries in batches of at most `size` texts and `REQUEST_TOKENS` tokens (a longer text goes alone)."""
    batch: list[_Entry[T]] = []
    tokens = 0
    for entry in entries:
        if batch and (len(batch) == size or tokens + entry.tokens > REQUEST_TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(entry)
        tokens += entry.tokens
    if batch:
        yield batch


def _embedded(entries: list[_Entry[T]], vectors: Vectors) -> Embedded[T]:
    """The result for all items of the entries; equal texts share a vector."""
    return Embedded(
        items=[item for entry in entries for item in entry.items],
        vectors=np.repeat(vectors, [len(entry.items) for entry in entries], axis=0),
        texts=len(entries),
        tokens=sum(entry.tokens for entry in entries),
    )


def _joined(results: list[Embedded[T] | Refused[T]]) -> list[Embedded[T] | Refused[T]]:
    """The results with what was embedded as one, in front."""
    embedded = [result for result in results if isinstance(result, Embedded)]
    if len(embedded) < 2:
        return results
    together = Embedded(
        items=[item for result in embedded for item in result.items],
        vectors=np.concatenate([result.vectors for result in embedded]),
        texts=sum(result.texts for result in embedded),
        tokens=sum(result.tokens for result in embedded),
    )
    return [together, *(result for result in results if isinstance(result, Refused))]
