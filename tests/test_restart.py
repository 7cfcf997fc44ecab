"""A Milvus server that is killed in the middle of a sync and of searches: it comes back, or stays away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from citekite.errors import StoreUnreachable
from citekite.reports import Progress
from citekite.store.writer import WRITE_ROWS
from stored import BIRDS, MilvusProcess, knowledge_base, rows, write


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusProcess]:
    """A server that each test leaves running."""
    with MilvusProcess(tmp_path_factory.mktemp("server") / "server.db") as process:
        yield process


class Outage:
    """Kills the server at the first sign of progress, and starts it again after a while; with None it stays away."""

    def __init__(self, server: MilvusProcess, seconds: float | None = 0.5) -> None:
        self._server = server
        self._seconds = seconds
        self._thread: threading.Thread | None = None

    def __call__(self, progress: Progress) -> None:
        if self._thread is None and progress.stage == "embedding":
            self.begin()

    def begin(self) -> None:
        self._server.kill()
        self._thread = threading.Thread(target=self._return)
        self._thread.start()

    def _return(self) -> None:
        if self._seconds is not None:
            time.sleep(self._seconds)
            self._server.start()

    def end(self) -> None:
        """Wait until it is over; an outage that never was would tell nothing."""
        assert self._thread is not None, "the server was not killed"
        self._thread.join()


def many(folder: Path) -> Path:
    notes = "\n".join(f"## Note {n}\n\nIt tells of bird {n * 7919 % 997}.\n" for n in range(WRITE_ROWS // 8))
    return write(folder, {f"{n}.md": f"# Book {n}\n\n{notes}".replace("It", f"Book {n}") for n in range(12)})


def test_a_sync_outlives_a_restart_and_ends_like_an_undisturbed_one(server: MilvusProcess, tmp_path: Path) -> None:
    folder = many(tmp_path / "docs")
    outage = Outage(server, seconds=2)
    with knowledge_base(server.uri, collection="shaken") as kb:
        report = kb.sync(folder, report=outage)
        outage.end()
        assert (report.failures, report.new) == ((), 12)
        assert kb.sync(folder).unchanged == 12
    with knowledge_base(tmp_path / "calm.db") as kb:
        kb.sync(folder)
    assert rows(server.uri, "shaken") == rows(tmp_path / "calm.db")


def test_a_first_sync_outlives_a_restart_while_the_collection_is_made(server: MilvusProcess, tmp_path: Path) -> None:
    """What was begun is made anew: neither the collection nor its name is refused as being there already."""
    outage = Outage(server)
    with knowledge_base(server.uri, collection="begun") as kb, pytest.MonkeyPatch.context() as patch:
        client = kb._connection.store._connected()._client
        create = client.create_index

        def create_index(*arguments: Any, **values: Any) -> None:
            patch.undo()
            outage.begin()  # the collection is there, its indexes are not
            create(*arguments, **values)

        patch.setattr(client, "create_index", create_index)
        assert kb.sync(write(tmp_path / "docs", BIRDS)).new == 3
        outage.end()
        assert kb.search("hunts voles")[0].chunk.title == "Owls"


def test_searches_wait_for_a_restart(server: MilvusProcess, tmp_path: Path) -> None:
    """Also one whose pages are being read."""
    with knowledge_base(server.uri, collection="searched") as kb:
        kb.sync(write(tmp_path / "docs", BIRDS))
        expected = [hit.chunk.id for hit in kb.search("hunts voles")]
        pages = kb.collection()._rows.client.query_iterator("searched__1", batch_size=2, output_fields=["id"])
        read = pages.next()
        outage = Outage(server)
        outage.begin()
        assert [hit.chunk.id for hit in kb.search("hunts voles")] == expected
        while page := pages.next():
            read += page
        assert len({row["id"] for row in read}) == len(read) == kb.count() == 7
        outage.end()


def test_a_server_that_stays_away_is_told_after_the_patience_and_the_next_sync_goes_on(
    server: MilvusProcess, tmp_path: Path
) -> None:
    folder = many(tmp_path / "docs")
    with knowledge_base(server.uri, collection="forsaken", store_seconds=1) as kb:
        kb.sync(folder / "0.md")
        outage = Outage(server, seconds=None)
        started = time.monotonic()
        with pytest.raises(StoreUnreachable, match=rf"{server.uri}.*check that it runs.*what was stored is kept"):
            kb.sync(folder, report=outage)
        with pytest.raises(StoreUnreachable):
            kb.check()
        assert 1 <= time.monotonic() - started < 15
        server.start()
        with knowledge_base(
            server.uri, collection="forsaken"
        ) as other:  # another client of this process: the writer is known to be gone
            assert other.sync(folder).unchanged >= 1
            assert other.sync(folder).unchanged == 12
