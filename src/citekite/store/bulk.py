"""Loading a large new collection by files: rows go to object storage as Parquet, and the server imports them.

A load begins with upserts. When it has proved to be large, and the collection was empty, the rows that follow are
staged in files and imported, which spares the server the way through its message queue. An import adds rows and
replaces none, so it is for rows whose ids are not stored yet, each given once.
"""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from citekite import cancel
from citekite.errors import StoreError, importing
from citekite.store.faults import translated
from citekite.store.limits import WRITE_SECONDS
from citekite.store.rows import Row
from citekite.store.schema import row_bytes
from citekite.store.sink import Batch, Sink

# The property of a collection that says that an import of its rows is under way.
PROPERTY = "citekite.import"
# Rows of one import, which may have several files: a sync that is killed has to embed no more of them again.
IMPORT_ROWS = 50_000
# Bytes of one file; while it is written, pymilvus holds a number of a vector in 32 bytes.
FILE_BYTES = 64_000_000
POLL_SECONDS = 1.0
_LISTED_JOBS = 100
_ANY_SIZE = 1 << 62

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Imports:
    """The imports of one Milvus server (2.4 or newer), which are asked for by HTTP at the address of the server."""

    uri: str
    database: str
    token: str = field(default="", repr=False)

    def run(self, physical: str, paths: Sequence[str], renew: Callable[[], None]) -> str:
        """Import files into a collection; returns why it failed, or nothing when their rows are there.

        `renew` is called meanwhile.
        """
        from pymilvus.bulk_writer import bulk_import

        with translated("beginning an import", self.uri):
            files = [[path] for path in paths]
            reply = bulk_import(self.uri, physical, db_name=self.database, files=files, api_key=self.token)
        progress = self._ended(str(reply.json()["data"]["jobId"]), renew)
        return "" if progress["state"] == "Completed" else str(progress.get("reason") or "no reason given")

    def jobs(self, physical: str) -> list[str]:
        """The ids of the latest jobs of a collection; raises `StoreError` where the server has no imports."""
        with importing("pymilvus.bulk_writer", "bulk", "loading by files"):
            from pymilvus.bulk_writer import list_import_jobs

        with translated("listing imports", self.uri):
            reply = list_import_jobs(
                self.uri, physical, db_name=self.database, api_key=self.token, page_size=_LISTED_JOBS
            )
        return [str(job["jobId"]) for job in reply.json()["data"]["records"]]

    def await_all(self, physical: str, renew: Callable[[], None]) -> None:
        """Return when no import into the collection is under way."""
        for job in self.jobs(physical):
            self._ended(job, renew)

    def _ended(self, job: str, renew: Callable[[], None]) -> dict[str, Any]:
        from pymilvus.bulk_writer import get_import_progress

        while True:
            with translated("following an import", self.uri):
                reply = get_import_progress(self.uri, job, db_name=self.database, api_key=self.token)
            progress: dict[str, Any] = reply.json()["data"]
            if progress["state"] in ("Completed", "Failed"):
                return progress
            renew()
            cancel.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class Staging:
    """Where files are staged, in the bucket that the server itself keeps its data in, and from how many rows on.

    `storage` is a URL such as `s3://bucket/folder`, or a `file://` folder that a server with local storage reads.
    """

    storage: str
    rows: int

    def upload(self, file: Path) -> str:
        """Put a file into the storage under a name of its own; returns its path there."""
        system, folder = self._file_system()
        path = f"{folder}/{uuid.uuid4().hex}.parquet"
        try:
            system.makedirs(folder, exist_ok=True)
            system.put_file(str(file), path)
        except Exception as error:
            raise StoreError(
                f"a file cannot be staged at {self.storage!r}: {error}. Check address and credentials; without "
                "--bulk-storage the rows are sent without files"
            ) from error
        return path

    def remove(self, path: str) -> None:
        """Delete a staged file."""
        self._file_system()[0].rm_file(path)

    def seen_by_server(self, path: str) -> str:
        """The path of a staged file as the server names it: within the bucket; in a shared folder the whole path."""
        return path if self.storage.startswith("file:") else path.partition("/")[2]

    def _file_system(self) -> tuple[Any, str]:
        with importing("fsspec", "bulk", "loading by files"):
            import fsspec

        system, folder = fsspec.core.url_to_fs(self.storage)
        return system, str(folder).rstrip("/")


class BulkLoad:
    """Passes rows on to `upserts` until there are `staging.rows` of them, then stages and imports what follows.

    `schema` is that of the collection, which is empty at the beginning, and `count` tells how many rows it has. Where
    the server has no imports, all rows go by upserts.
    """

    def __init__(
        self,
        upserts: Sink,
        imports: Imports,
        staging: Staging,
        client: Any,
        physical: str,
        schema: Any,
        count: Callable[[], int],
        renew: Callable[[], None],
    ) -> None:
        self._upserts = upserts
        self._imports = imports
        self._staging = staging
        self._client = client
        self._physical = physical
        self._schema = schema
        self._count = count
        self._renew = renew
        self._stored = 0
        self._has_imports: bool | None = None  # not asked before there are rows enough
        self._rows: list[Row] = []
        self._bytes = 0
        self._staged: list[str] = []
        self._staged_rows = 0

    def put(self, rows: Batch) -> None:
        if self._has_imports is None and self._stored >= self._staging.rows:
            self._has_imports = self._ask_for_imports()
        if not self._has_imports:
            self._upserts.put(rows)
            self._stored += len(rows)
            return
        self._rows += rows
        self._bytes += sum(map(row_bytes, rows))
        if self._bytes >= FILE_BYTES or len(self._rows) >= IMPORT_ROWS:
            self._stage()
        if self._staged_rows >= IMPORT_ROWS:
            self._import()

    def settle(self) -> None:
        self._upserts.settle()
        if self._rows:
            self._stage()
        if self._staged:
            self._import()

    def close(self) -> None:
        self._upserts.close()
        self._rows.clear()
        for path in self._staged:
            self._staging.remove(path)
        self._staged.clear()

    def _ask_for_imports(self) -> bool:
        try:
            self._imports.jobs(self._physical)
        except StoreError as error:
            logger.warning("%s imports no files, so the rows are sent without", self._imports.uri)
            logger.info("%s", error)
            return False
        return True

    def _stage(self) -> None:
        """Write the rows to a file, and put it into the storage."""
        rows, self._rows, self._bytes = self._rows, [], 0
        with tempfile.TemporaryDirectory(prefix="citekite-") as folder:
            self._staged.append(self._staging.upload(_parquet(rows, self._schema, folder)))
        self._staged_rows += len(rows)

    def _import(self) -> None:
        """Let the server import the staged files, and wait until it has."""
        paths, self._staged = self._staged, []
        count, self._staged_rows = self._staged_rows, 0
        mark(self._client, self._imports.uri, self._physical, "under way")
        # Where this is interrupted, mark and files stay: the server may still be at it.
        failure = self._imports.run(self._physical, list(map(self._staging.seen_by_server, paths)), self._renew)
        mark(self._client, self._imports.uri, self._physical, "")
        for path in paths:
            self._staging.remove(path)
        if failure:
            raise StoreError(
                f"Milvus at {self._imports.uri} failed to import rows ({failure}): run the same command again, which "
                "sends what is missing without files"
            )
        self._stored += count
        self._await_rows()

    def _await_rows(self) -> None:
        """Return when all rows can be read: what was imported is loaded a while later."""
        with translated("loading what was imported", self._imports.uri):
            self._client.refresh_load(self._physical, _async=True)
        deadline = time.monotonic() + WRITE_SECONDS
        while (count := self._count()) < self._stored:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"Milvus at {self._imports.uri} shows {count} of {self._stored} rows {WRITE_SECONDS:.0f} s after "
                    "the import: run the same command again, which adds what is missing"
                )
            self._renew()
            cancel.sleep(POLL_SECONDS)


def mark(client: Any, uri: str, physical: str, value: str) -> None:
    """Say of a collection that an import into it is under way, or with an empty value that none is."""
    with translated("marking an import", uri):
        client.alter_collection_properties(physical, properties={PROPERTY: value})


def _parquet(rows: Batch, schema: Any, folder: str) -> Path:
    """One file of these rows, as Milvus imports it."""
    from pymilvus.bulk_writer import BulkFileType, LocalBulkWriter

    # Over a size it would begin a further file by itself, in a thread whose errors nobody sees.
    writer = LocalBulkWriter(schema, folder, chunk_size=_ANY_SIZE, file_type=BulkFileType.PARQUET)
    with translated("writing a file", folder):
        for row in rows:
            writer.append_row(dict(row))
        writer.commit()
    written = [Path(path) for paths in writer.batch_files for path in paths]
    if len(written) != 1:
        raise StoreError(f"{len(rows)} rows could not be written to a file in {folder}: is there space?")
    return written[0]
