"""Lets a chat model write the contexts of chunks: a bounded pool of requests, results as they return."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from citekite.answer.generate import Reply, complete, empty_reply
from citekite.errors import CitekiteError, EndpointDenied, EndpointError, ModelNotFound
from citekite.ingest.contextual import ContextualSplitter, clean_context, make_contextual_splitter, plain_chunk, prompts
from citekite.ingest.plan import Change, version_of
from citekite.ingest.scan import Scan
from citekite.ingest.split import make_splitter
from citekite.ports import Generator, Message, Reporter, Splitter
from citekite.reports import Failure, Progress
from citekite.settings import Settings
from citekite.store.writer import Entry
from citekite.types import Usage

# So many failures one after the other: it is not the chunks.
FAILURES_BEFORE_GIVING_UP = 8
# After Ctrl-C: how long to wait for the next request in flight, which is paid for.
PATIENCE_SECONDS = 10.0
# How often a stop is looked for while requests run.
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Task:
    """A chunk to place: its entry, the entry that stands in where that fails, and what is asked."""

    entry: Entry
    fallback: Entry
    messages: tuple[Message, ...]


def splitter_and_contexts(
    settings: Settings, max_tokens: int, generator: Generator | None, report: Reporter
) -> tuple[Splitter, ContextWriter | None]:
    """The splitter for an embedder that reads `max_tokens`, and the writer of contexts where a model writes them."""
    if generator is None:
        return make_splitter(settings, max_tokens), None
    splitter = make_contextual_splitter(settings, max_tokens, generator.model)
    return splitter, ContextWriter(generator, splitter, concurrency=settings.concurrency, report=report)


class ContextWriter:
    """Writes contexts for the chunks of changed documents; made for one sync.

    `usage` adds up the tokens, `written` counts contexts. A chunk whose context fails is passed on as it is without
    one, so that the next sync asks again. What ends the writing (a refused key, a missing model, failure after failure,
    Ctrl-C) is kept and raised by `finish`, after what was paid for is stored.
    """

    def __init__(
        self, generator: Generator, splitter: ContextualSplitter, *, concurrency: int, report: Reporter
    ) -> None:
        self.written = 0
        self.usage = Usage()
        self._generator = generator
        self._splitter = splitter
        self._concurrency = concurrency
        self._report = report
        self._failure: CitekiteError | KeyboardInterrupt | None = None
        self._returned: SimpleQueue[tuple[_Task, Reply | BaseException]] = SimpleQueue()
        self._failed_in_a_row = 0
        self._fallbacks: list[Entry] = []
        self._reasons: dict[str, EndpointError] = {}

    def write(self, changes: Iterator[Change], stopped: Callable[[], bool]) -> Iterator[Entry]:
        """The entries to embed, each with its context, in the order in which the model answers.

        `changes` is read as the pool takes tasks. When `stopped()` turns true nothing more is asked, and what is in
        flight is waited for.
        """
        tasks = self._tasks(changes)
        asked = settled = 0
        all_asked = False
        while True:
            while not all_asked and asked - settled < self._concurrency:
                task = self._next(tasks)
                all_asked = task is None
                if task is not None:
                    asked += 1
                    # A daemon and not an executor's worker, which is joined at exit: Ctrl-C would wait for a time-out.
                    threading.Thread(target=copy_context().run, args=(self._ask, task), daemon=True).start()
            if asked == settled or (returned := self._wait(stopped)) is None:
                return
            settled += 1
            if (entry := self._settle(*returned)) is not None:
                self._report(Progress("contexts", settled, asked if all_asked else None, "chunks"))
                yield entry

    def finish(self, scan: Scan) -> None:
        """Raise what ended the writing; else tell of the chunks without a context, and keep them from deletion."""
        if self._failure is not None:
            raise self._failure
        for entry in self._fallbacks:
            scan.keep(entry.chunk.source, entry.chunk.id)
        for source, count in Counter(entry.chunk.source for entry in self._fallbacks).items():
            chunks = "1 chunk is" if count == 1 else f"{count} chunks are"
            reason = f"{chunks} stored without context, and the next sync asks again: {self._reasons[source]}"
            scan.tally.warnings.append(Failure(source, reason))

    def _tasks(self, changes: Iterator[Change]) -> Iterator[_Task]:
        for change in changes:
            asking = prompts(change.document, (entry.chunk for entry in change.entries))
            for entry, messages in zip(change.entries, asking, strict=True):
                digest = version_of(change.document.digest, self._splitter.plain, entry.chunk.access)
                yield _Task(entry, replace(entry, chunk=plain_chunk(entry.chunk), digest=digest), messages)

    def _next(self, tasks: Iterator[_Task]) -> _Task | None:
        if self._failure is not None:
            return None
        try:
            return next(tasks, None)
        except (CitekiteError, KeyboardInterrupt) as error:
            self._failure = error
            return None

    def _ask(self, task: _Task) -> None:
        try:
            outcome: Reply | BaseException = complete(self._generator, task.messages)
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits for it
            outcome = error
        self._returned.put((task, outcome))

    def _wait(self, stopped: Callable[[], bool]) -> tuple[_Task, Reply | BaseException] | None:
        """The next result; None where the wait after Ctrl-C is over."""
        waited = 0.0
        while True:
            if stopped() and self._failure is None:
                self._failure = KeyboardInterrupt()
            try:
                return self._returned.get(timeout=POLL_SECONDS)
            except Empty:
                waited += POLL_SECONDS
                if isinstance(self._failure, KeyboardInterrupt) and waited >= PATIENCE_SECONDS:
                    return None

    def _settle(self, task: _Task, outcome: Reply | BaseException) -> Entry | None:
        """The entry to embed, or None for a chunk that the end of the writing leaves to the next sync."""
        if isinstance(outcome, Reply):
            self.usage += outcome.usage
            context = clean_context(outcome.text, self._splitter.context_tokens)
            if context:
                self.written += 1
                self._failed_in_a_row = 0
                return replace(task.entry, chunk=replace(task.entry.chunk, context=context))
            outcome = empty_reply(self._generator.model, outcome.finish_reason)
        if not isinstance(outcome, EndpointError):
            raise outcome
        self._failed_in_a_row += 1
        hopeless = isinstance(outcome, EndpointDenied | ModelNotFound)
        if isinstance(outcome, ModelNotFound):
            outcome = ModelNotFound(
                f"{outcome} It is to write the contexts of this collection: --contextual with another --model lets "
                "that one write all of them, --no-contextual stores the chunks without."
            )
        if hopeless or self._failed_in_a_row >= FAILURES_BEFORE_GIVING_UP:
            self._failure = self._failure or outcome
        if self._failure is not None:
            return None
        self._fallbacks.append(task.fallback)
        self._reasons[task.fallback.chunk.source] = outcome
        return task.fallback
