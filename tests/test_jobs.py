"""Jobs: one after the other, followed, cancelled, and still known after the server was killed."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from citekite.errors import CitekiteError, ServerBusy, SourceError, UnknownJob
from citekite.ports import Reporter
from citekite.reports import Failure, Progress, SyncReport
from citekite.serve import job_store
from citekite.serve.job_store import Job, JobStore
from citekite.serve.jobs import Jobs
from citekite.serve.principal import OWNER, Principal
from commands import command
from forked import Forked, environment
from scripted_endpoint import Fault, ScriptedEndpoint
from served import wait_for
from stored import free_port, knowledge_base

REPORT = SyncReport(
    new=1, changed=0, unchanged=0, pruned=0, added=1, updated=0, kept=0, deleted=0, texts=1, seconds=0.1
)
WRITER = Principal("writer", "write", key_id="w")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(tmp_path / "jobs.sqlite")
    yield jobs
    jobs.close()


class Held:
    """Work that goes on until it is let go, or stopped."""

    def __init__(self) -> None:
        self.began, self.free = threading.Event(), threading.Event()

    def __call__(self, report: Reporter, stopped: Callable[[], bool]) -> SyncReport:
        self.began.set()
        report(Progress("embedding", 1, 2, "chunks"))
        while not self.free.wait(0.005):
            if stopped():
                raise KeyboardInterrupt
        return REPORT


def done(report: Reporter, stopped: Callable[[], bool]) -> SyncReport:
    return REPORT


def start(jobs: Jobs, work: Callable[..., SyncReport], by: Principal = OWNER, **more: Any) -> Job:
    return jobs.start("sync", "citekite", ("/docs",), by, work, **more)


def ended(jobs: Jobs, job: Job) -> Job:
    async def last() -> Job:
        async for job_now in jobs.follow(job.id):
            final = job_now
        return final

    return asyncio.run(asyncio.wait_for(last(), 10))


def test_jobs_run_one_after_the_other_in_their_order(jobs: Jobs) -> None:
    order: list[int] = []

    def work(number: int) -> Callable[..., SyncReport]:
        def run(report: Reporter, stopped: Callable[[], bool]) -> SyncReport:
            order.append(number)
            time.sleep(0.01)
            order.append(number)
            return REPORT

        return run

    started = [start(jobs, work(number)) for number in range(4)]
    assert [ended(jobs, job).state for job in started] == ["done"] * 4
    assert order == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_follower_hears_where_the_job_stands_and_each_change(jobs: Jobs) -> None:
    held = Held()
    job = start(jobs, held)
    held.began.wait(5)

    async def follow() -> list[str]:
        states = []
        async for now in jobs.follow(job.id):
            states.append(now.state)
            held.free.set()
        return states

    states = asyncio.run(asyncio.wait_for(follow(), 5))
    assert states[0] == "running"
    assert states[-1] == "done"
    assert jobs._followers == {}


@pytest.mark.parametrize(
    ("error", "title", "status"),
    [(SourceError("no file '/docs'"), "SourceError", 422), (ZeroDivisionError("secret"), "InternalError", 500)],
)
def test_an_error_ends_a_job_as_problem_details(jobs: Jobs, error: Exception, title: str, status: int) -> None:
    def work(report: Reporter, stopped: Callable[[], bool]) -> SyncReport:
        raise error

    job = ended(jobs, start(jobs, work))
    assert job.state == "failed"
    assert job.problem is not None
    assert (job.problem["title"], job.problem["status"]) == (title, status)
    assert isinstance(error, CitekiteError) or "secret" not in job.problem["detail"]
    assert ended(jobs, start(jobs, done)).state == "done"


def test_a_job_of_which_every_file_failed_has_failed(jobs: Jobs) -> None:
    failing = SyncReport(0, 0, 0, 0, 0, 0, 0, 0, 0, 0.1, failures=(Failure("/docs/a.md", "it has no text"),))
    job = ended(jobs, start(jobs, lambda report, stopped: failing))

    assert (job.state, job.problem and job.problem["detail"]) == ("failed", "it has no text")
    assert job.report is not None
    assert job.report["failures"][0]["source"] == "/docs/a.md"


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_when_it_notices(jobs: Jobs) -> None:
    held, abandoned = Held(), threading.Event()
    running, waiting = start(jobs, held), start(jobs, done, abandoned=abandoned.set)
    held.began.wait(5)

    assert jobs.cancel(waiting.id).state == "cancelled"
    assert jobs.cancel(running.id).state == "running"
    assert ended(jobs, running).state == "cancelled"
    assert abandoned.wait(5)
    assert jobs.cancel(running.id).state == "cancelled"


def test_a_job_is_seen_by_the_key_that_started_it_and_by_admins(jobs: Jobs) -> None:
    own, other = start(jobs, done, WRITER), start(jobs, done, OWNER)
    elsewhere = Principal("handbook", "admin", collections=("handbook",), key_id="h")

    assert [job.id for job in jobs.visible_to(WRITER, 10)] == [own.id]
    assert [job.id for job in jobs.visible_to(OWNER, 10)] == [other.id, own.id]
    assert jobs.visible_to(Principal("writer", "write", key_id="another"), 10) == []
    assert jobs.visible_to(elsewhere, 10) == []


def test_closing_stops_what_runs_and_what_waits_and_takes_nothing_more(tmp_path: Path) -> None:
    jobs, held = Jobs(tmp_path / "jobs.sqlite"), Held()
    running, waiting = start(jobs, held), start(jobs, done)
    held.began.wait(5)
    jobs.close()

    again = Jobs(tmp_path / "jobs.sqlite")
    assert {again.get(running.id).state, again.get(waiting.id).state} == {"interrupted"}
    with pytest.raises(ServerBusy):
        start(jobs, done)
    again.close()


def test_the_history_is_bounded_and_keeps_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_store, "HISTORY", 3)
    store = JobStore(tmp_path / "jobs.sqlite")
    for number in range(6):
        state = "running" if number == 0 else "done"
        store.save(Job(str(number), "sync", "c", (), state, "2026-01-05T09:30:00.000Z"))

    assert [job.id for job in store.all()] == ["5", "4", "3", "0"]
    with pytest.raises(UnknownJob):
        store.get("1")
    store.close()


def served(folder: Path, endpoint: ScriptedEndpoint) -> tuple[Forked, httpx2.Client]:
    """A server in a process of its own, and a client of it."""
    port = free_port()
    options = {"uri": "docs.db", "port": port, "embedder": "api", "embedding-base-url": endpoint.base_url}
    more = {"embedding-model": "m", "embedding-api-key": "k", "batch-size": 4, "concurrency": 1}
    arguments = [f"--{name}={value}" for name, value in {**options, **more}.items()]
    process = Forked(
        command("serve", *arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = httpx2.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30)
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        try:
            client.get("/me")
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return process, client


def finished(client: httpx2.Client, id: str) -> dict[str, Any]:
    with client.stream("GET", f"/jobs/{id}/events") as stream:
        job: dict[str, Any] = json.loads("".join(stream.iter_text()).rpartition("data: ")[2])["job"]
    return job


def test_a_server_that_was_killed_in_a_job_knows_it_and_the_next_sync_completes(tmp_path: Path) -> None:
    """Then the same job is started again, cancelled in the middle, and the server told to end in the middle."""
    text = "# Birds\n\n" + "".join(f"## Bird {number}\n\nIt sings song {number}.\n\n" for number in range(40))
    with ScriptedEndpoint(latency=0.05) as endpoint:
        process, client = served(tmp_path, endpoint)
        id = client.post("/documents", files=[("files", ("birds.md", text.encode()))]).json()["id"]
        queued = client.post("/documents", files=[("files", ("late.md", b"# Late\n\nToo late.\n"))]).json()["id"]
        wait_for(lambda: len(endpoint.requests("/embeddings")) >= 3)
        process.kill()
        process.wait(10)
        sent = len(endpoint.texts())

        process, client = served(tmp_path, endpoint)
        jobs = {job["id"]: job for job in client.get("/jobs").json()["jobs"]}
        assert (jobs[id]["state"], jobs[queued]["state"]) == ("interrupted", "interrupted")
        assert "upload the files again" in jobs[id]["problem"]["detail"]

        body = {"sources": jobs[id]["sources"]}
        endpoint.script("/embeddings", Fault(kind="slow", seconds=0.3))
        job = client.post("/jobs", json=body).json()
        wait_for(lambda: len(endpoint.texts()) > sent)
        client.post(f"/jobs/{job['id']}/cancel")
        assert finished(client, job["id"])["state"] == "cancelled"

        job = client.post("/jobs", json=body).json()
        assert finished(client, job["id"])["state"] == "done"
        assert client.get("/status").json()["chunks"] == 41
        assert len(set(endpoint.texts())) == 41
        # Two batches in flight when it was killed, one being stored, and one to be stored next.
        assert len(endpoint.texts()) <= 41 + 4 * 4

        endpoint.latency = 0.2
        changed = text.replace("sings", "calls").encode()
        job = client.post("/documents", files=[("files", ("birds.md", changed))]).json()
        sent = len(endpoint.texts())
        wait_for(lambda: len(endpoint.texts()) > sent)
        process.send_signal(signal.SIGTERM)
        process.wait(20)

    with closing(sqlite3.connect(tmp_path / "docs.db.serve" / "jobs.sqlite")) as database:
        kept = dict(database.execute("SELECT id, state FROM jobs").fetchall())
    assert kept[job["id"]] == "interrupted"
    with knowledge_base(tmp_path / "docs.db", collection="citekite") as kb:
        assert kb.count() > 41  # the batch in flight was stored beside what was there
