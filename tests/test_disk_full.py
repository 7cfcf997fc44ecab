"""A disk that fills up: what writes stops at once and says so, reads go on, and with space again nothing is missing.

The disk is a tmpfs of a few megabytes, which takes root to mount.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from citekite import KnowledgeBase
from citekite.errors import DiskFull
from citekite.settings import Settings
from served import serving, wait_for
from stored import knowledge_base, rows, write

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")

ROOM = 200_000_000


@dataclass(frozen=True)
class SmallDisk:
    """A file system whose free space is what a test wants it to be."""

    path: Path

    def leave(self, free: int) -> None:
        """Let so many bytes be free, and no more."""
        state = os.statvfs(self.path)
        used = (state.f_blocks - state.f_bfree) * state.f_bsize
        subprocess.run(["mount", "-o", f"remount,size={used + free}", self.path], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "small"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", path], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield SmallDisk(path)
    subprocess.run(["umount", "-l", path], check=True)


def book(numbers: range, note: str = "words") -> dict[str, str]:
    return {
        f"{number}.md": f"# Bird {number}\n\n"
        + "\n".join(f"## Note {n}\n\nBird {number} of note {n}: {f'{note} ' * 60}\n" for n in range(10))
        for number in numbers
    }


def hits(kb: KnowledgeBase, mode: Any = "dense") -> list[str]:
    return [hit.chunk.id for hit in kb.search("note 3 of bird 7", mode=mode)]


# How much is free when the job begins: not enough for the record of the collection, for the log, for the segment or the
# index; and last enough for Milvus, but not for making the index anew.
FREE = [0, 40_000, 300_000, 450_000]


def changes(kb: KnowledgeBase, docs: Path) -> None:
    kb.sync(docs, prune=True)


def removal(kb: KnowledgeBase, docs: Path) -> None:
    kb.remove(docs / "1.md")


def reindexing(kb: KnowledgeBase, docs: Path) -> None:
    kb.reindex()


@pytest.mark.parametrize("job", [changes, removal, reindexing])
def test_a_full_disk_at_any_step_loses_nothing(
    disk: SmallDisk, tmp_path: Path, job: Callable[[KnowledgeBase, Path], None]
) -> None:
    """In one process throughout: it searches on, and when there is space again the same call ends as a clean one."""
    docs = write(tmp_path / "docs", book(range(12)))
    uri, clean = disk.path / "full.db", tmp_path / "clean.db"
    with knowledge_base(clean) as kb, knowledge_base(uri) as full:
        kb.sync(docs)
        full.sync(docs)
        beside = full.in_collection("beside")
        beside.sync(docs / "7.md")
        write(docs, book(range(6, 18), "other words"))
        disk.leave(FREE[0])
        with pytest.raises(DiskFull, match="Free some space, then run the same command again"):
            job(full, docs)
        for free in FREE[1:]:
            assert full.count() >= 110
            assert hits(full)
            assert len(hits(beside)) == 5
            disk.leave(free)
            try:
                job(full, docs)
            except DiskFull:
                continue
            break
        else:
            disk.leave(ROOM)
            job(full, docs)
        job(kb, docs)
        disk.leave(ROOM)
        assert hits(full) == hits(kb)
    assert rows(uri) == rows(clean)


def test_a_server_answers_on_and_writes_again_when_there_is_space(disk: SmallDisk, tmp_path: Path) -> None:
    """Nothing has to be started again: what failed is sent again."""
    docs = write(tmp_path / "docs", book(range(8)))
    settings = Settings(uri=str(disk.path / "full.db"), data_dir=str(tmp_path / "home"), embedder="static")
    with serving(settings) as url, Server(url) as server:
        assert server.job("jobs", {"sources": [str(docs)]})["state"] == "done"
        before = server.hits()
        write(docs, book(range(8, 12)))
        disk.leave(0)
        failed = server.job("jobs", {"sources": [str(docs)]})
        assert (failed["state"], failed["problem"]["title"], failed["problem"]["status"]) == ("failed", "DiskFull", 507)
        assert server.hits() == before
        id = server.client.get("documents").json()["documents"][0]["id"]
        refused = server.client.delete(f"documents/{id}")
        assert (refused.status_code, refused.json()["title"]) == (507, "DiskFull")
        assert server.hits() == before
        assert server.client.get("documents").json()["total"] == 8
        disk.leave(ROOM)
        assert server.client.delete(f"documents/{id}").json() == {"chunks": 11}
        assert server.job("jobs", {"sources": [str(docs)]})["report"]["new"] == 5
        assert server.client.get("documents").json()["total"] == 12
        now = server.hits()
    with knowledge_base(tmp_path / "clean.db") as kb:
        kb.sync(docs)
        assert now == hits(kb)


def test_a_server_whose_own_folder_is_full_takes_no_job_and_forgets_it(disk: SmallDisk, tmp_path: Path) -> None:
    """A job that could not be written down is none: it must not keep the collection from being deleted, for one."""
    settings = Settings(uri=str(tmp_path / "kites.db"), data_dir=str(disk.path / "home"), embedder="static")
    with serving(settings) as url, Server(url) as server:
        assert server.job("documents", files={"files": ("kite.md", b"# Kite\n\nForked.\n")})["state"] == "done"
        disk.leave(0)
        for sent in (
            {"files": {"files": ("owl.md", b"# Owl\n\nRound.\n" * 2000)}},
            {"files": {"files": ("owl.md", b"# Owl\n\nRound.\n")}},
        ):
            refused = server.client.post("documents", **sent)
            assert (refused.status_code, refused.json()["title"]) == (507, "DiskFull"), refused.json()
            assert "free some, then" in refused.json()["detail"]
        assert [job["state"] for job in server.client.get("jobs").json()["jobs"]] == ["done"]
        disk.leave(ROOM)
        assert server.job("documents", files={"files": ("owl.md", b"# Owl\n\nRound.\n")})["state"] == "done"


class Server:
    """A client of the server under test."""

    def __init__(self, url: str) -> None:
        self.client = httpx2.Client(base_url=f"{url}/api/v1/", timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def job(self, path: str, body: Any = None, **sent: Any) -> Any:
        """Start a job and wait for its end."""
        started = self.client.post(path, json=body, **sent)
        assert started.status_code == 202, started.json()
        job = f"jobs/{started.json()['id']}"
        wait_for(lambda: self.client.get(job).json()["ended"] is not None)
        return self.client.get(job).json()

    def hits(self) -> list[str]:
        found = self.client.post("search", json={"question": "note 3 of bird 7", "mode": "dense"})
        assert found.status_code == 200, found.json()
        return [hit["id"] for hit in found.json()["hits"]]
