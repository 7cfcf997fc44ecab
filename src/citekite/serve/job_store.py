"""Jobs as they are kept: what was asked for, how far it is, what became of it; in SQLite, for after a restart."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from citekite.errors import DiskFull, ServerError, UnknownJob
from citekite.render import problem_json
from citekite.reports import Progress
from citekite.serve.principal import Principal

JobKind = Literal["sync", "upload", "url", "sample"]
JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

# How many jobs are kept; the oldest go first.
HISTORY = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """One job; times are ISO 8601 in UTC.

    `report` is that of the sync, as plain values, `problem` why it failed, as problem details. `key` is the name of
    the key that started it and `key_id` its id, which is not shown.
    """

    id: str
    kind: JobKind
    collection: str
    sources: tuple[str, ...]
    state: JobState
    created: str
    started: str | None = None
    ended: str | None = None
    progress: Progress | None = None
    report: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None
    key: str = ""
    key_id: str = ""

    def is_visible_to(self, principal: Principal) -> bool:
        """Whether a caller may know of it: the key that started it, or an admin."""
        own = (self.key_id, self.key) == (principal.key_id, principal.name)
        return own or (principal.scope == "admin" and principal.may_use(self.collection))


def job_json(job: Job) -> dict[str, Any]:
    """A job as plain values."""
    values = asdict(job)
    del values["key_id"]
    return {**values, "sources": list(job.sources)}


def now() -> str:
    """The time, as it is kept."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JobStore:
    """The jobs in one file. What ran when the process before ended is `interrupted` from the start."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        with self._use():
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS jobs "
                "(number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, state TEXT NOT NULL, job TEXT NOT NULL)"
            )
        for job in self._read("WHERE state IN ('queued', 'running')"):
            self.save(interrupted(job))

    def save(self, job: Job) -> None:
        """Keep a job, new or changed."""
        with self._use():
            self._database.execute(
                "INSERT INTO jobs (id, state, job) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET state = excluded.state, job = excluded.job",
                (job.id, job.state, json.dumps(asdict(job))),
            )
            self._database.execute(
                "DELETE FROM jobs WHERE number <= (SELECT max(number) FROM jobs) - ? "
                "AND state NOT IN ('queued', 'running')",
                (HISTORY,),
            )

    def get(self, id: str) -> Job:
        """The job of that id; raises `UnknownJob`."""
        found = self._read("WHERE id = ?", id)
        if not found:
            raise UnknownJob(f"there is no job {id!r}")
        return found[0]

    def all(self) -> list[Job]:
        """Every job that is kept, newest first."""
        return self._read("ORDER BY number DESC")

    def close(self) -> None:
        """Close the file."""
        with self._use():
            self._database.close()

    def _read(self, which: str, *values: str) -> list[Job]:
        with self._use():
            rows = self._database.execute(f"SELECT job FROM jobs {which}", values).fetchall()
        return [_job(row[0]) for row in rows]

    @contextmanager
    def _use(self) -> Iterator[None]:
        """One thread at a time; what SQLite says of the file is said with its name."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    raise DiskFull(
                        f"no space is left for the jobs in {self._path}: free some, then ask again"
                    ) from error
                raise ServerError(f"the jobs in {self._path} cannot be read or written: {error}") from error


def interrupted(job: Job) -> Job:
    """A job that the end of its server cut short, with what to do."""
    again = "upload the files again" if job.kind == "upload" else "start it again"
    error = ServerError(f"the server ended before the job did: {again}; what was stored is not embedded twice")
    return replace(job, state="interrupted", ended=now(), problem=problem_json(error))


def _job(text: str) -> Job:
    values = json.loads(text)
    progress = values["progress"]
    return Job(**{**values, "sources": tuple(values["sources"]), "progress": progress and Progress(**progress)})
