"""Object stores as sources: buckets behind the real protocol of S3 on the loopback, and other file systems."""

from __future__ import annotations

import io
import pickle
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from citekite.errors import DocumentError, MissingExtra, SourceError, StoreError
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.scan import READS_AT_ONCE
from citekite.ingest.sources import find_files, is_under, normalise_source
from citekite.reports import Failure
from stored import BIRDS, free_port, knowledge_base

OPTIONS = LoadOptions()


class Bucket:
    """A bucket with a client that is not citekite's, and the requests that its server got."""

    def __init__(self, client: Any, log: Any, name: str) -> None:
        self._client = client
        self._log = log
        self.name = name
        client.create_bucket(Bucket=name)

    def put(self, **objects: str | bytes) -> None:
        for key, content in objects.items():
            self._client.put_object(Bucket=self.name, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)

    def requests(self) -> list[str]:
        """Method and path of the requests since the last call."""
        found = [line.split('"')[1] for line in self._log if '"' in line]
        self._log.clear()
        return [line for line in found if self.name in line]


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Any, list[str]]]:
    """A client of a server that speaks S3, and the lines of the server's log; the environment leads to it."""
    moto = pytest.importorskip("moto.server", reason="pip install 's3fs' 'moto[s3]' flask flask-cors")
    import logging

    import boto3

    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("werkzeug")
    logger.setLevel(logging.INFO)
    logger.addHandler(kept := Kept())
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        forget_connections()
        yield boto3.client("s3"), lines
    server.stop()
    logger.removeHandler(kept)


@pytest.fixture
def bucket(s3: tuple[Any, list[str]], request: pytest.FixtureRequest) -> Bucket:
    return Bucket(*s3, f"b{abs(hash(request.node.name))}")


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs.clear()


def forget_connections() -> None:
    """fsspec keeps file systems with the credentials that they were made with."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def found(source: str, options: LoadOptions = OPTIONS) -> list[str]:
    """The sources of the files found, relative to the source; a `Failure` shows as `! source: reason`."""
    shown = []
    for item in find_files(source, options):
        name = item.source.removeprefix(source).lstrip("/")
        shown.append(f"! {name}: {item.reason}" if isinstance(item, Failure) else name)
    return shown


def only(source: str, options: LoadOptions = OPTIONS) -> SourceFile:
    (item,) = find_files(source, options)
    assert isinstance(item, SourceFile)
    return item


def zipped(**members: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


# What is found


def test_a_prefix_is_walked_by_the_rules_of_a_folder(bucket: Bucket) -> None:
    paths = ["b.md", "a/z.txt", "a/b/c.md", ".git/x.md", "i.png", "draft/d.md", "/odd.md", "é b::c#1?.md"]
    bucket.put(**{f"docs/{path}": "text" for path in paths}, **{"docs2/no.md": "text"})
    bucket.put(**{"docs/": "", "docs/.gitignore": "# rules\ndraft/\n", "docs/m.zip": zipped(**{"in/e.md": "E"})})
    root = f"s3://{bucket.name}/docs"
    bucket.requests()

    assert found(root) == ["a/b/c.md", "a/z.txt", "b.md", "m.zip!/in/e.md", "é b::c#1?.md"]
    assert found(root, replace(OPTIONS, include=("*.md",), exclude=("a/**",))) == ["b.md", "é b::c#1?.md"]
    assert {file.read() for file in find_files(root, OPTIONS) if isinstance(file, SourceFile)} == {b"text", b"E"}
    assert only(f"{root}/é b::c#1?.md").read() == b"text"
    assert "docs/.git/" not in "".join(bucket.requests())  # what is hidden is not even listed


def test_an_object_and_an_archive_are_sources_themselves(bucket: Bucket) -> None:
    bucket.put(**{".notes.md": "text", "m.zip": zipped(**{"a.md": "A", "b.txt": "B"}), "n.zip": "no zip"})
    root = f"s3://{bucket.name}"

    file = only(f"{root}/.notes.md", replace(OPTIONS, include=("*.txt",)))
    assert (file.source, file.name, file.read()) == (f"{root}/.notes.md", ".notes.md", b"text")
    assert only(f"{root}/m.zip", replace(OPTIONS, include=("*.txt",))).read() == b"B"
    with pytest.raises(SourceError, match=r"n\.zip.* is not a zip archive"):
        found(f"{root}/n.zip")
    assert found(root) == [
        "m.zip!/a.md",
        "m.zip!/b.txt",
        f"! n.zip: {root}/n.zip is not a zip archive that can be read: File is not a zip file",
    ]


def test_what_is_over_the_limit_or_empty_is_refused_before_it_is_downloaded(bucket: Bucket) -> None:
    bucket.put(**{"a.md": "x" * 101, "e.md": "", "m.zip": zipped(**{"a.md": "x" * 300})})
    root = f"s3://{bucket.name}"
    options = replace(OPTIONS, max_file_bytes=100, max_archive_bytes=200)
    files = {item.source.rpartition("/")[2]: item for item in find_files(root, options)}
    bucket.requests()

    for name, reason in (("a.md", "max_file_mb"), ("e.md", "it is empty")):
        with pytest.raises(DocumentError, match=reason):
            files[name].read()  # type: ignore[union-attr]
    assert "max_archive_mb" in files["m.zip"].reason  # type: ignore[union-attr]
    assert [line for line in bucket.requests() if line.startswith("GET") and "list-type" not in line] == []
    assert len(only(f"{root}/a.md", replace(OPTIONS, max_file_bytes=101)).read()) == 101


def test_an_object_that_grew_since_it_was_listed_is_read_no_further_than_the_limit(bucket: Bucket) -> None:
    bucket.put(**{"a.md": "x"})
    file = only(f"s3://{bucket.name}/a.md", replace(OPTIONS, max_file_bytes=100))
    bucket.put(**{"a.md": "x" * 5000})
    with pytest.raises(DocumentError, match=r"it has 101 bytes or more"):
        file.read()
    bucket.delete("a.md")
    with pytest.raises(DocumentError, match=r"it is not there"):
        file.read()


def test_what_reads_an_object_can_be_sent_to_another_process(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/docs/a.md", b"text")
    read = pickle.dumps(only("memory://docs/a.md").read)
    assert b"fsspec" not in read  # no open connection, and nothing that it was opened with
    assert pickle.loads(read)() == b"text"


# What a sync makes of it


def test_a_bucket_is_synced_changed_cited_pruned_and_removed(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(**{f"docs/{name}": text for name, text in BIRDS.items()})
    root = f"s3://{bucket.name}/docs"
    with knowledge_base(tmp_path / "k.db") as kb:
        first = kb.sync(f"{root}/")
        assert (first.new, first.failures) == (3, ())
        assert kb.ask("Where does the golden eagle nest?").citations[0].hit.chunk.source == f"{root}/deep/eagles.md"

        bucket.put(**{"docs/owls.md": BIRDS["owls.md"] + "\n## Little owl\n\nThe little owl bobs.\n"})
        bucket.delete("docs/kites.md")
        second = kb.sync(root, prune=True)
        assert (second.new, second.changed, second.unchanged, second.pruned, second.texts) == (0, 1, 1, 1, 1)
        assert kb.sync(root).texts == 0

        bucket.delete("docs/deep/eagles.md")
        assert kb.remove(f"{root}/deep") == 2
        assert [document.source for document in kb.documents()] == [f"{root}/owls.md"]
        with pytest.raises(StoreError, match="nothing of"):
            kb.remove(f"{root}/deep")


def test_objects_are_read_side_by_side(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        memory.pipe(f"/docs/{number}.md", f"# {number}\n\nKite {number}.\n".encode())
    lock, reading, most = threading.Lock(), 0, 0
    read = type(memory).cat_file

    def slow(store: fsspec.AbstractFileSystem, path: str, **options: Any) -> Any:
        nonlocal reading, most
        with lock:
            reading += 1
            most = max(most, reading)
        time.sleep(0.05)
        with lock:
            reading -= 1
        return read(store, path, **options)

    monkeypatch.setattr(type(memory), "cat_file", slow)
    with knowledge_base(tmp_path / "k.db") as kb:
        assert kb.sync("memory://docs").new == 20
    assert 4 < most <= READS_AT_ONCE


def test_a_store_that_fails_in_the_middle_takes_nothing_from_the_collection(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(**{f"docs/{name}": text for name, text in BIRDS.items()})
    root = f"s3://{bucket.name}/docs"
    with knowledge_base(tmp_path / "k.db") as kb:
        kb.sync(root)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fsspec.filesystem("s3"), "cat_file", _refused)
            report = kb.sync(root, prune=True)
        assert (report.pruned, report.deleted, len(report.failures)) == (0, 0, 3)
        assert (
            "it cannot be read (PermissionError: Access Denied); it is reached with AWS_" in report.failures[0].reason
        )
        assert kb.sync(root, prune=True).unchanged == 3


def _refused(*arguments: Any, **options: Any) -> bytes:
    raise PermissionError("Access Denied")


# What goes wrong


@pytest.mark.parametrize("key", ["nothing", "docs/nothing.md"])
def test_what_is_not_there_is_said(bucket: Bucket, key: str) -> None:
    bucket.put(**{"docs/a.md": "text"})
    for source in (f"s3://{bucket.name}/{key}", f"s3://{bucket.name}x"):
        with pytest.raises(SourceError, match=rf"'{source}' is not there"):
            found(source)


def test_a_store_without_network_or_credentials_says_what_it_is_reached_with(
    s3: tuple[Any, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    forget_connections()
    with pytest.raises(
        SourceError, match=r"EndpointConnectionError: .*; it is reached with .*AWS_ENDPOINT_URL"
    ) as raised:
        found("s3://bucket/docs")
    assert "hunter2" not in str(raised.value)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    forget_connections()
    with pytest.raises(SourceError, match=r"NoCredentialsError.*AWS_ACCESS_KEY_ID.*FSSPEC_S3_ANON"):
        found("s3://bucket/docs")
    monkeypatch.undo()
    forget_connections()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gs://bucket/docs", r"pip install 'citekite\[gs\]'"),
        ("abfs://container@account.dfs.core.windows.net/docs", r"pip install 'citekite\[azure\]'"),
    ],
)
def test_a_package_that_is_missing_is_named(source: str, message: str) -> None:
    with pytest.raises(MissingExtra, match=message):
        found(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("sftp://me:hunter2@host/docs", "has a password in it"),
        ("s3://AKIDEXAMPLE:hunter2@bucket/docs", "has a password in it"),
        ("s3://", "names no bucket"),
        ("s3:///", "names no bucket"),
        ("s3://bucket/a\0b", "names no bucket"),
        ("file://docs/a.md", "three slashes"),
        ("nosuch://place/docs", "no file system is known for nosuch://"),
        ("ftp://127.0.0.1:1/docs", "ConnectionRefusedError"),
        ("oss://bucket/docs", "ossfs"),
    ],
)
def test_what_is_no_source_is_refused_without_showing_a_password(source: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason) as raised:
        found(normalise_source(source))
    assert "hunter2" not in str(raised.value)


WRAPPED = "zip tar libarchive simplecache filecache blockcache cached reference dir generic async_wrapper data"


@pytest.mark.parametrize("wrapper", WRAPPED.split())
def test_no_url_opens_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapper: str) -> None:
    """Neither as a scheme nor chained: `::` makes no URL, and a path is one of this machine, where there is no such."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.md").write_text("secret")
    for source in (
        f"{wrapper}://{tmp_path}/a.md",
        f"{wrapper}::file://{tmp_path}/a.md",
        f"{wrapper}::s3://bucket/a.md",
    ):
        with pytest.raises(SourceError, match=r"through another file system|no file or folder|no file system"):
            found(source)


# Names


def test_a_file_url_is_the_path_itself(tmp_path: Path) -> None:
    (tmp_path / "my docs").mkdir()
    (tmp_path / "my docs/a.md").write_text("text")
    url = (tmp_path / "my docs").as_uri()
    assert normalise_source(f"{url}/../my%20docs/") == normalise_source(str(tmp_path / "my docs"))
    assert [item.source for item in find_files(url, OPTIONS)] == [f"{tmp_path}/my docs/a.md"]


def test_urls_of_object_stores_have_one_form() -> None:
    for source in ("s3://bucket/docs", "S3://bucket/docs/", "s3://bucket/docs//"):
        assert normalise_source(source) == "s3://bucket/docs"
    assert normalise_source("github://owner:repository@main/docs/") == "github://owner:repository@main/docs"
    assert is_under("s3://bucket/docs/a.md", "s3://bucket")
    assert not is_under("s3://bucket/docs2/a.md", "s3://bucket/docs")
