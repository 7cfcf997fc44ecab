"""Work that a server does in the background, followed to its end; and uploads as several such jobs."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import quote

from citekite.errors import DocumentError, ServerError, SourceError, TooLarge
from citekite.ingest.base import MEGABYTE, LoadOptions, SourceFile
from citekite.ingest.sources import find_files
from citekite.parse import parse_outcome, parse_progress
from citekite.remote.client import ServerClient
from citekite.reports import Failure, Progress, SyncReport

# One request with files: small enough for any server's limit, large enough that the requests do not count.
BATCH_FILES = 50
BATCH_BYTES = 8 * MEGABYTE
# How soon after a Ctrl-C the server is told to stop.
LOOK_SECONDS = 0.1

Job = dict[str, Any]
NOTHING_DONE = SyncReport(0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Follower:
    """Follows jobs of a server: `report` is told their progress, and when `stopped` returns True they are cancelled."""

    client: ServerClient
    report: Callable[[Progress], None]
    stopped: Callable[[], bool]

    def follow(self, job: Job) -> SyncReport:
        """What a job did, when it has ended.

        Raises the error that ended it, and `KeyboardInterrupt` after it was cancelled because of `stopped`.
        """
        path = f"jobs/{quote(job['id'], safe='')}"
        with self._cancelling(path):
            while job["state"] in ("queued", "running"):
                for progress in self.client.events("GET", f"{path}/events", _progress):
                    if progress:
                        self.report(progress)
                job = self.client.get(path, dict)
        try:
            return parse_outcome(job)
        except KeyboardInterrupt:
            if self.stopped():
                raise
            raise ServerError(f"somebody else cancelled the job {job['id']}; what it had stored stays") from None

    @contextmanager
    def _cancelling(self, path: str) -> Iterator[None]:
        """Look beside the stream, which may be silent for long, whether the job is to be stopped."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_SECONDS):
                if self.stopped():
                    self.client.post(f"{path}/cancel", dict)
                    return

        watcher = threading.Thread(target=watch, name="cancel", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to be uploaded: where it lies here, what it is called there, what is in it."""

    source: str
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Upload:
    """Sends the files of local sources to a server, in batches that are each a job."""

    follower: Follower
    options: LoadOptions
    fields: dict[str, Any]

    def send(self, source: str) -> SyncReport:
        """Upload the files that a sync of the source would read; what cannot be read is a failure in the report."""
        failures: list[Failure] = []
        report = NOTHING_DONE
        batch: list[LocalFile] = []
        for file in self._files(source, failures):
            if batch and (len(batch) == BATCH_FILES or _size(batch) + len(file.content) > BATCH_BYTES):
                report = merged(report, self._send(batch))
                batch = []
            batch.append(file)
        if batch:
            report = merged(report, self._send(batch))
        return replace(report, failures=(*failures, *report.failures))

    def _files(self, source: str, failures: list[Failure]) -> Iterator[LocalFile]:
        found = list(find_files(source, self.options))
        failures += (one for one in found if isinstance(one, Failure))
        files = [one for one in found if isinstance(one, SourceFile)]
        sources: dict[str, str] = {}
        for number, file in enumerate(files, 1):
            if self.follower.stopped():
                raise KeyboardInterrupt
            name = upload_name(file.source, source)
            if (other := sources.setdefault(name, file.source)) != file.source:
                failures.append(Failure(file.source, f"it would replace {other}: both are uploaded as {name!r}"))
                continue
            try:
                yield LocalFile(file.source, name, file.read())
            except DocumentError as error:
                failures.append(Failure(file.source, str(error)))
            self.follower.report(Progress("uploading", number, len(files), "files"))

    def _send(self, batch: Sequence[LocalFile]) -> SyncReport:
        parts = [(file.name, file.content) for file in batch]
        try:
            job = self.follower.client.upload("documents", dict, parts, **self.fields)
        except (TooLarge, SourceError) as error:
            # A request is taken whole or not at all: file by file, only the one that is refused stays behind.
            if len(batch) == 1:
                return replace(NOTHING_DONE, failures=(Failure(batch[0].source, str(error)),))
            report = NOTHING_DONE
            for file in batch:
                report = merged(report, self._send([file]))
            return report
        return self.follower.follow(job)


def upload_name(source: str, root: str) -> str:
    """What a file is called as an upload: its path from the source's own name on, as one name.

    >>> upload_name("/srv/handbook/staff/leave.md", "/srv/handbook"), upload_name("/srv/a.zip!/b.md", "/srv/a.zip")
    ('handbook--staff--leave.md', 'a.zip--b.md')
    """
    above = root.removesuffix(posixpath.basename(root))
    return source.removeprefix(above).replace("!/", "/").replace("/", "--")


def _size(batch: Sequence[LocalFile]) -> int:
    return sum(len(file.content) for file in batch)


def merged(first: SyncReport, second: SyncReport) -> SyncReport:
    """What two syncs did, as one.

    >>> merged(replace(NOTHING_DONE, new=1), replace(NOTHING_DONE, new=2)).new
    3
    """
    return SyncReport(**{one.name: getattr(first, one.name) + getattr(second, one.name) for one in fields(SyncReport)})


def _progress(name: str, values: Any) -> Progress | None:
    """The progress that an event tells of, where it does."""
    return parse_progress(values) if name == "Progress" else None
