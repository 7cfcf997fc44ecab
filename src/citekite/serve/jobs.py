"""The queue of what writes to collections: one job after the other, in one thread, with followers."""

from __future__ import annotations

import asyncio
import logging
import queue
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from citekite.cancel import uncancelled
from citekite.errors import CitekiteError, DiskFull, DocumentError, InternalError, ServerBusy, ServerError
from citekite.ports import Reporter
from citekite.render import problem_json
from citekite.reports import Progress, SyncReport
from citekite.serve.job_store import Job, JobKind, JobState, JobStore, interrupted, now
from citekite.serve.principal import Principal

Work = Callable[[Reporter, Callable[[], bool]], SyncReport]
"""What a job does: it tells its progress, and raises `KeyboardInterrupt` soon after it was asked to stop."""

MOST_WAITING = 1000
# Progress is told to followers as it comes, and written down this often, in seconds.
_SAVE_SECONDS = 1.0
# A follower hears something this often, so that no proxy takes the connection for a dead one.
_ALIVE_SECONDS = 15.0
# A batch that is in flight when the server ends gets this long to be stored.
_END_SECONDS = 30.0

logger = logging.getLogger(__name__)


class _Follower:
    """The latest state of a job for one reader, and what wakes that reader up in its event loop."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def tell(self, job: Job) -> None:
        """Hand over a new state; from any thread."""
        self.job = job
        with suppress(RuntimeError):  # the loop was closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self.changed.set)


def _nothing() -> None:
    pass


class Jobs:
    """The jobs of one server; what became of them is kept in `path`."""

    def __init__(self, path: Path) -> None:
        self._store = JobStore(path)
        self._lock = threading.RLock()
        self._live: dict[str, Job] = {}
        self._stopping: set[str] = set()
        self._followers: dict[str, set[_Follower]] = {}
        self._waiting: queue.SimpleQueue[tuple[str, Work, Callable[[], None], Context] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._saved = 0.0
        self._closing = False

    def start(
        self,
        kind: JobKind,
        collection: str,
        sources: tuple[str, ...],
        by: Principal,
        work: Work,
        *,
        abandoned: Callable[[], None] = _nothing,
    ) -> Job:
        """Put a job in the queue; raises `ServerBusy` when it is full or the server is ending.

        `abandoned` is called instead of `work` when the job is cancelled while it waits.
        """
        job = Job(secrets.token_hex(8), kind, collection, sources, "queued", now(), key=by.name, key_id=by.key_id)
        with self._lock:
            if self._closing or len(self._live) >= MOST_WAITING:
                raise ServerBusy("the server takes no further job now: ask again in a moment")
            self._store.save(job)
            self._live[job.id] = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
                self._thread.start()
            self._waiting.put((job.id, work, abandoned, copy_context()))
        return job

    def get(self, id: str) -> Job:
        """A job as it is now; raises `UnknownJob`."""
        with self._lock:
            return self._live.get(id) or self._store.get(id)

    def visible_to(self, principal: Principal, limit: int) -> list[Job]:
        """The newest jobs that a caller may know of."""
        with self._lock:
            jobs = [self._live.get(job.id, job) for job in self._store.all()]
        return [job for job in jobs if job.is_visible_to(principal)][:limit]

    def writing_to(self, collection: str) -> Job | None:
        """A job of the collection that has not ended, if there is one."""
        with self._lock:
            return next((job for job in self._live.values() if job.collection == collection), None)

    def cancel(self, id: str) -> Job:
        """Stop a job: at once where it waits, after the batch in flight where it runs; one that ended stays."""
        with self._lock:
            job = self.get(id)
            if job.state == "queued":
                return self._change(job, state="cancelled", ended=now())
            if job.state == "running":
                self._stopping.add(id)
            return job

    async def follow(self, id: str) -> AsyncGenerator[Job, None]:
        """The job as it is, then at each change until it has ended; also again when nothing changed for a while."""
        with self._lock:
            follower = _Follower(self.get(id))
            self._followers.setdefault(id, set()).add(follower)
        try:
            while True:
                follower.changed.clear()
                job = follower.job
                yield job
                if job.ended:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(follower.changed.wait(), _ALIVE_SECONDS)
        finally:
            with self._lock:
                self._followers[id].discard(follower)
                if not self._followers[id]:
                    del self._followers[id]

    def close(self) -> None:
        """Stop the running job after its batch; those that wait are `interrupted`, and followers are told.

        To be called as soon as the server is to end, and again at its end.
        """
        with self._lock:
            self._closing = True
            for job in list(self._live.values()):
                if job.state == "queued":
                    self._change(interrupted(job))
                else:
                    self._stopping.add(job.id)
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(_END_SECONDS)
            if self._thread.is_alive():
                logger.warning("a job is still at work after %g s; the next start finds it interrupted", _END_SECONDS)
                return
        self._store.close()

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            id, work, abandoned, context = waiting
            with self._lock:
                job = self._live.get(id)
                if job is not None:
                    self._change(job, state="running", started=now())
            if job is None:  # it was cancelled while it waited
                abandoned()
            else:
                context.run(self._end, id, work)  # for the request that started it: its id, its account

    def _end(self, id: str, work: Work) -> None:
        """Do the work of a job, and keep what became of it."""
        report: dict[str, Any] | None = None
        problem: CitekiteError | None = None
        state: JobState = "done"
        try:
            with uncancelled():
                found = work(partial(self._progressed, id), lambda: id in self._stopping)
            report = asdict(found)
            if found.failures and not found.new + found.changed + found.unchanged:
                state, problem = "failed", DocumentError("; ".join(one.reason for one in found.failures[:3]))
        except KeyboardInterrupt:
            state = "interrupted" if self._closing else "cancelled"
        except CitekiteError as error:
            state, problem = "failed", error
        except Exception:  # a bug of ours, in a thread where nobody would see it
            logger.exception("a bug ended the job %s", id)
            state, problem = "failed", InternalError("the server failed at this job; its log says why")
        with self._lock:
            job = self._live[id]
            self._stopping.discard(id)
            if state == "interrupted":
                self._change(interrupted(job))
            else:
                self._change(job, state=state, ended=now(), report=report, problem=problem and problem_json(problem))

    def _progressed(self, id: str, progress: Progress) -> None:
        with self._lock:
            self._change(self._live[id], progress=progress)

    def _change(self, job: Job, **values: Any) -> Job:
        """Let a job be known in its new state, to followers and for later."""
        job = replace(job, **values)
        if job.ended or "progress" not in values or time.monotonic() > self._saved + _SAVE_SECONDS:
            try:
                self._store.save(job)
            except (ServerError, DiskFull) as error:  # the work goes on, and followers hear of it
                logger.error("the job %s cannot be written down: %s", job.id, error)
            self._saved = time.monotonic()
        if job.ended:
            self._live.pop(job.id, None)
        else:
            self._live[job.id] = job
        for follower in self._followers.get(job.id, ()):
            follower.tell(job)
        return job
