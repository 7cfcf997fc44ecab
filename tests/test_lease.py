"""One writer at a time on a server, shown on a Milvus Lite served over the network."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from citekite import KnowledgeBase
from citekite.errors import StoreError
from citekite.settings import Settings
from citekite.store import lease
from stored import milvus_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with milvus_server(tmp_path_factory.mktemp("server") / "served.db") as uri:
        yield uri


def test_a_second_writer_is_refused_until_the_first_is_done(server: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Kites\n\nKites soar.\n")
    settings = Settings(uri=server, collection="leased")
    with KnowledgeBase(settings=settings) as first, KnowledgeBase(settings=settings) as second:
        first.sync(tmp_path)
        (tmp_path / "b.md").write_text("# Owls\n\nOwls hoot.\n")
        with first.collection().writing() as writer:
            writer.delete(["unknown"])
            with pytest.raises(StoreError, match=r"another sync writes to this collection \(process \d+"):
                second.sync(tmp_path)
        assert second.sync(tmp_path).new == 1


def test_a_writer_that_died_is_no_obstacle(server: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Kites\n\nKites soar.\n")
    with KnowledgeBase(settings=Settings(uri=server, collection="orphaned")) as kb:
        kb.sync(tmp_path)
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        held = f'{{"id": "x", "host": "{socket.gethostname()}", "pid": {dead.pid}, "at": {time.time()}}}'
        kb._connection.store._connected().alter_collection_properties("orphaned__1", properties={lease.PROPERTY: held})
        (tmp_path / "b.md").write_text("# Owls\n\nOwls hoot.\n")
        assert kb.sync(tmp_path).new == 1


@pytest.mark.parametrize("by", ["a reader of other groups", "a change of the list"])
def test_who_may_see_a_document_is_not_decided_by_what_was_stored_before(server: str, tmp_path: Path, by: str) -> None:
    """Another process gives the document to eng between the look at what is stored and the first change."""
    (tmp_path / "a.md").write_text("# Kites\n\nKites soar.\n")
    settings = Settings(uri=server, collection=f"raced{len(by)}")
    with KnowledgeBase(settings=settings) as first, KnowledgeBase(settings=settings) as second:
        first.sync(tmp_path, access=["hr"])
        (tmp_path / "a.md").write_text("# Kites\n\nKites soar and glide.\n")
        raced = []

        def race(progress: object) -> None:
            if not raced:
                raced.append(second.sync(tmp_path, access=["eng"]))

        late = first.restricted_to(["hr"]) if by.startswith("a reader") else first
        with pytest.raises(StoreError, match="who may see what: run the same command again"):
            late.sync(tmp_path, report=race, access=["hr"])

        assert raced[0].changed == 1
        assert second.document(str(tmp_path / "a.md")).access == ("eng",)
        again = first.sync(tmp_path, access=["hr"])
        assert (again.failures, again.changed) == ((), 1)
