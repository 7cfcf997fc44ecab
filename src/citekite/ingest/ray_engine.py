"""The stage of a sync that embeds, as a Ray Data pipeline over the workers of a cluster.

files -> ReadFiles: read, split, compare -> EmbedEntries: embed, and store on a Milvus server -> this process

What the workers tell comes back here, to the account of the sync. The first batch that was embedded comes back with its
vectors: this process opens the collection, as the one writer, and from then on the workers of a server's collection
store their batches themselves. An embedded database has one process that may write, and all of them come back.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from citekite.embed.batching import Embedded, Refused
from citekite.errors import ClusterError, DocumentError, importing
from citekite.ingest.base import SourceFile
from citekite.ingest.embedding import Borrowed, Result, Written
from citekite.ingest.pipeline import Put, read_ahead
from citekite.ingest.plan import Change
from citekite.ingest.ray_tasks import Broken, EmbedEntries, Ledger, ReadFiles, Told, packed, unpacked
from citekite.ingest.read import Failed, Remark, Unchanged
from citekite.ingest.scan import Scan
from citekite.ports import Embedder, Reporter
from citekite.reports import Progress
from citekite.settings import Settings
from citekite.store.embedded import is_embedded

if TYPE_CHECKING:
    import pyarrow as pa

# Files of one task: a task costs some milliseconds.
TASK_FILES = 32
# Rows of one batch: large enough for every request of the pool, small enough to be soon stored.
BATCH_ROWS = 1024
_CONNECT_SECONDS = 10
# Parts of a core, so that both kinds of worker fit on the smallest cluster; a core bears one of each.
_READ_CORES = 0.5
_EMBED_CORES = 0.25
# Neither questions nor reports on the terminal; variables that Ray, and what it starts, read when it starts.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_LOG_LEVEL": "ERROR", "RAY_BACKEND_LOG_LEVEL": "fatal"}


class RayEmbedding:
    """An `Embedding`: reads, embeds and stores on the cluster of the settings."""

    def __init__(
        self, scan: Scan, settings: Settings, embedder: Embedder, report: Reporter, stopped: Callable[[], bool]
    ) -> None:
        with importing("ray", "ray", "the engine 'ray'"):
            import ray.data  # noqa: F401
        self.total: int | None = None
        self.asks_for_contexts = False
        self._embedded = 0
        self._scan = scan
        self._settings = settings
        self._embedder = embedder
        self._report = report
        self._stopped = stopped
        self._ledger: Any = None
        self._read = 0
        self._later: list[tuple[int, Failed | Remark]] = []

    def run(self, put: Put[Result]) -> None:
        """Put the results as they come."""
        files = list(self._scan.files())
        if files:
            with _cluster(self._settings.ray_address), closing(self._tables(files)) as tables:
                for table in tables:
                    for item in unpacked(table):
                        self._take(item, files, put)
        # In the order of the files, whichever worker had them.
        for number, outcome in sorted(self._later, key=lambda told: told[0]):
            self._scan.take(files[number], outcome)
        self.total = self._embedded

    def opened(self) -> None:
        """Let the workers write, where more than one process may."""
        if not is_embedded(self._settings.uri):
            self._ledger.share.remote()

    def _take(self, item: Told | Broken | Result, files: list[SourceFile], put: Put[Result]) -> None:
        match item:
            case Told(_, None):
                self._read += 1
                self._report(Progress("reading", self._read, len(files), "files"))
            case Told(number, Failed() | Remark() as outcome):
                self._later.append((number, outcome))
            case Told(number, Change() | Unchanged() as outcome):
                self._scan.take(files[number], outcome)
            case Broken(error):
                raise error
            case Embedded() | Written():
                self._embedded += item.chunks
                put(item)
            case Refused() | Borrowed():
                put(item)

    def _tables(self, files: list[SourceFile]) -> Any:
        """The tables of the last stage, as they come."""
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        context = DataContext.get_current()
        context.enable_progress_bars = False
        blocks = list(self._blocks(files))
        cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        workers = max(1, min(cores, len(blocks)))
        embedders = min(workers, self._settings.concurrency)
        # The requests at once are those of the settings, however many workers send them.
        settings = self._settings.model_copy(update={"concurrency": self._settings.concurrency // embedders})
        self._ledger = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Ledger).remote(
            self._scan.known_vectors()
        )
        dataset = (
            ray.data.from_arrow(blocks)
            .map_batches(
                ReadFiles,
                batch_size=None,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=workers),
                fn_constructor_args=(ray.put(self._scan.reading),),
                num_cpus=_READ_CORES,
            )
            .map_batches(
                EmbedEntries,
                batch_size=BATCH_ROWS,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=embedders),
                fn_constructor_args=(settings, self._embedder.name, self._embedder.dimension, self._ledger),
                num_cpus=_EMBED_CORES,
            )
        )
        return read_ahead(_tables_of(dataset), most=1, stopped=self._stopped)

    def _blocks(self, files: list[SourceFile]) -> Iterator[pa.Table]:
        numbered = list(enumerate(files))
        for start in range(0, len(numbered), TASK_FILES):
            yield packed(filter(None, map(self._portable, numbered[start : start + TASK_FILES])))

    def _portable(self, numbered: tuple[int, SourceFile]) -> tuple[int, SourceFile] | None:
        """A file that can be read elsewhere; with its bytes, where it lies in a temporary file of this process."""
        number, file = numbered
        try:
            pickle.dumps(file.read)
        except TypeError:
            try:
                data = file.read()
            except DocumentError as error:
                self._later.append((number, Failed(file.source, str(error))))
                return None
            return number, replace(file, read=functools.partial(bytes, data))
        return numbered


def _tables_of(dataset: Any) -> Iterator[pa.Table]:
    import ray

    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except ray.exceptions.RayTaskError:
        raise  # a bug, with its traceback
    except ray.exceptions.RayError as error:
        said = str(error).strip().partition("\n")[0]
        raise ClusterError(
            f"Ray gave up: {said}; what was stored stays, and the same command goes on from there"
        ) from error


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """A connection to a cluster, to one of this machine alone where no address is given; one that is there is used."""
    import ray

    if ray.is_initialized():
        yield
        return
    connect(address or "local")
    try:
        yield
    finally:
        with suppress(Exception):  # of a thread that is still waiting for the cluster
            ray.shutdown()


def connect(address: str, **options: Any) -> None:
    """Connect this process to a cluster, or start one ("local"), without a word; `options` are those of `ray.init`."""
    import ray

    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if address == "local":
        options = {"include_dashboard": False, **options}
    try:
        host, _, port = address.rpartition(":")
        if host:  # Ray itself would ask an address where nobody listens for minutes
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        with _muted():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError) as error:
        said = str(error).strip().partition("\n")[0]
        raise ClusterError(
            f"no Ray cluster answers at {address!r} ({said}): start one with `ray start --head`, or leave ray_address "
            "out for the cores of this machine"
        ) from error


@contextmanager
def _muted() -> Iterator[None]:
    """Without what is written past Python on standard error: Ray's core says there that it was told to be silent."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
