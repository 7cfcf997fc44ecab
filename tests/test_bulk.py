"""Loading a large new collection by files: what is imported is what upserts would have stored."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from citekite import KnowledgeBase
from citekite.errors import StoreError
from citekite.store import bulk
from citekite.store.bulk import Staging
from importing_server import ImportingServer
from stored import free_port, knowledge_base, milvus_server, rows, write

FILES = 40
CHUNKS = FILES * 31

pytest.importorskip("pymilvus.bulk_writer", reason="pip install 'citekite[bulk]'", exc_type=ImportError)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImportingServer]:
    with ImportingServer(tmp_path_factory.mktemp("server") / "server.db") as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    notes = "\n".join(f"## Note {n}\n\nIn BOOK bird {n * 7919 % 997} sings.\n" for n in range(30))
    books = {
        f"{n}.md": f'---\nquote: "\\"{n}"\n---\n# Book {n}\n\n{notes.replace("BOOK", f"book {n}")}'
        for n in range(FILES)
    }
    return write(tmp_path_factory.mktemp("docs"), books)


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "IMPORT_ROWS", 600)
    monkeypatch.setattr(bulk, "FILE_BYTES", 100_000)
    monkeypatch.setattr(bulk, "POLL_SECONDS", 0.01)


def loading(uri: str, collection: str, staging: Path) -> KnowledgeBase:
    return knowledge_base(uri, collection=collection, bulk_storage=f"file://{staging}", bulk_rows=100)


def test_a_large_sync_and_a_reindex_are_imported_and_end_like_upserts(
    server: ImportingServer, folder: Path, tmp_path: Path
) -> None:
    with loading(server.uri, "large", tmp_path / "staging") as kb:
        assert kb.sync(folder).added == CHUNKS
        assert {job["state"] for job in server.jobs.values()} == {"Completed"}
        synced = len(server.jobs)
        assert max(len(job["paths"]) for job in server.jobs.values()) >= 2
        assert kb.sync(folder).unchanged == FILES
        assert kb.reindex() == CHUNKS
        assert len(server.jobs) > synced
        assert {job["collectionName"] for job in server.jobs.values()} == {"large__1", "large__2"}
        assert kb.search("which bird of book 7 sings", mode="lexical")[0].chunk.title == "Book 7"
        assert kb.count() == CHUNKS
    with knowledge_base(tmp_path / "calm.db") as kb:
        kb.sync(folder)
    assert rows(server.uri, "large") == rows(tmp_path / "calm.db")
    assert list((tmp_path / "staging").iterdir()) == []


def test_an_import_that_fails_says_why_and_the_next_sync_ends_it(
    server: ImportingServer, folder: Path, tmp_path: Path
) -> None:
    with loading(server.uri, "failing", tmp_path / "staging") as kb:
        server.failure = "no quota left"
        with pytest.raises(StoreError, match=r"failed to import rows \(no quota left\): run the same command again"):
            kb.sync(folder)
        server.failure = ""
        before = len(server.jobs)
        assert kb.sync(folder).failures == ()
        assert (kb.count(), len(server.jobs)) == (CHUNKS, before)
        assert kb.sync(folder).unchanged == FILES


def test_no_row_of_an_interrupted_import_arrives_behind_the_back_of_the_next_writer(
    server: ImportingServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes on with an import whose sync was interrupted; its rows would be stored twice."""
    with loading(server.uri, "interrupted", tmp_path / "staging") as kb:

        def interrupted(*_: Any) -> str:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(bulk.Imports, "_ended", interrupted)
            with pytest.raises(KeyboardInterrupt):
                kb.sync(folder)
        (job,) = (job for job in server.jobs.values() if job["collectionName"] == "interrupted__1")
        assert job["state"] == "Pending"
        with pytest.raises(StoreError, match="have only now arrived: run the same command again"):
            kb.sync(folder)
        assert job["state"] == "Completed"
        assert kb.sync(folder).failures == ()
        assert kb.count() == CHUNKS


def test_a_server_without_imports_gets_upserts(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with milvus_server(tmp_path / "server.db") as uri, loading(uri, "plain", tmp_path / "staging") as kb:
        assert kb.sync(folder).added == CHUNKS
        assert kb.count() == CHUNKS
    told = [record for record in caplog.records if record.name == bulk.__name__]
    assert [record.levelno for record in told] == [logging.WARNING]
    assert "imports no files" in told[0].getMessage()


def test_a_small_load_is_not_staged(server: ImportingServer, folder: Path, tmp_path: Path) -> None:
    before = len(server.jobs)
    with loading(server.uri, "small", tmp_path / "staging") as kb:
        kb.sync(folder / "0.md")
    assert len(server.jobs) == before
    assert not (tmp_path / "staging").exists()


def test_storage_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    staged = tmp_path / "rows.parquet"
    staged.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"cannot be staged at 'file://.*Check address and credentials"):
        Staging(f"file://{tmp_path}/file", 1).upload(staged)


def test_files_are_staged_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path that the server gets is the key of an object in its bucket."""
    for module in ("moto", "s3fs"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no S3 to stage in here: pip install {module}")
    import boto3
    from moto.server import ThreadedMotoServer

    s3 = ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    s3.start()
    try:
        endpoint = "http://{}:{}".format(*s3.get_host_and_port())
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="milvus")
        file = tmp_path / "rows.parquet"
        file.write_bytes(b"PAR1")
        staging = Staging("s3://milvus/staging/here", 1)
        path = staging.upload(file)
        key = staging.seen_by_server(path)
        assert key.startswith("staging/here/")
        assert client.get_object(Bucket="milvus", Key=key)["Body"].read() == b"PAR1"
        staging.remove(path)
        assert "Contents" not in client.list_objects_v2(Bucket="milvus")
    finally:
        s3.stop()


def test_the_token_of_the_server_is_never_shown() -> None:
    assert "secret" not in json.dumps(repr(bulk.Imports("http://h:1", "default", "root:secret")))
