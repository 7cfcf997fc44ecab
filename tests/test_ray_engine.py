"""Syncs on a Ray cluster of two workers: the same collection and the same report as in one process, whatever dies."""

from __future__ import annotations

import builtins
import os
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from citekite.access import Grant
from citekite.errors import ClusterError, EndpointDenied, MissingExtra, SettingsError
from citekite.ingest import ray_engine
from citekite.ingest.ray_tasks import Ledger, packed, unpacked
from citekite.ingest.stored import KnownVectors, Stored
from citekite.reports import Progress, SyncReport
from citekite.store.collection import RowVersion
from citekite.store.writer import Writer
from commands import command, environment
from scripted_endpoint import ScriptedEndpoint
from stored import free_port, knowledge_base, milvus_server, rows, write

KEY = "sk-hunter2-hunter2"
LICENCE = "## Licence\n\nThis may be copied by everyone who feeds a kite.\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two cores, to which this process is connected."""
    ray = pytest.importorskip("ray", reason="pip install 'ray[data]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_engine, "TASK_FILES", 4)
        patch.setattr(ray_engine, "BATCH_ROWS", 16)
        ray_engine.connect("local", num_cpus=2, object_store_memory=100_000_000)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


def library(folder: Path) -> Path:
    """Documents that say some of the same, a table, an archive, a guessed encoding, and files that fail."""
    files = {
        f"{number % 3}/{number:02}.md": f"# Handbook\n\n{LICENCE}\n## Nest {number}\n\nIt is {number} m high.\n"
        for number in range(24)
    }
    write(folder, {**files, "table.csv": "id,text\n1,A red kite.\n2,A black kite.\n3,\n", "empty.md": " "})
    (folder / "bad.pdf").write_bytes(b"no PDF")
    (folder / "latin.txt").write_bytes(b"caf\xe9 for kites")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("in/owl.md", f"# Handbook\n\n{LICENCE}")
    return folder


@pytest.fixture
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker of a kind for the whole sync: processes take longer to start than such a sync takes."""
    monkeypatch.setattr(ray_engine, "TASK_FILES", 100)


def alike(report: SyncReport) -> SyncReport:
    """The report without its time, its failures in no order."""
    by_source = sorted(report.failures, key=lambda failure: failure.source)
    return replace(report, seconds=0, failures=tuple(by_source), warnings=tuple(sorted(report.warnings, key=str)))


def workers(stage: str) -> list[int]:
    """The processes of a stage, as Ray names them."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and stage in (folder / "cmdline").read_text():
                found.append(int(folder.name))
    return found


def test_both_engines_build_the_same_collection_and_the_same_report(
    cluster: str, tmp_path: Path, one_worker: None
) -> None:
    docs = library(tmp_path / "docs")
    with knowledge_base(tmp_path / "local.db") as local, knowledge_base(tmp_path / "ray.db", engine="ray") as on_ray:
        first = on_ray.sync(docs)
        assert alike(first) == alike(local.sync(docs))
        assert (first.new, len(first.failures), len(first.warnings)) == (28, 3, 1)
        assert first.texts < first.added - 20  # the licence was embedded for one of them
        before = on_ray.collection().record.version

        again = on_ray.sync(docs)
        assert (again.unchanged, again.texts, again.added, again.deleted) == (28, 0, 0, 0)
        assert on_ray.collection().reload_record().version == before  # nothing was written

        (docs / "0/00.md").unlink()
        (docs / "1/01.md").write_text(f"# Handbook\n\nIt has moved.\n\n{LICENCE}")
        (docs / "new.md").write_text(f"# Handbook\n\n{LICENCE}\n## Nest 1\n\nIt is new.\n")
        (docs / "table.csv").write_text("id,text\n1,A red kite.\n")
        second = on_ray.sync(docs, prune=True)
        assert alike(second) == alike(local.sync(docs, prune=True))
        assert (second.new, second.changed, second.pruned, second.failures[0].source) == (1, 1, 1, f"{docs}/bad.pdf")
    assert rows(tmp_path / "local.db") == rows(tmp_path / "ray.db")


def test_a_worker_that_is_killed_changes_nothing_on_a_server_to_which_the_workers_write(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    docs = library(tmp_path / "docs")
    killed: list[int] = []
    here: list[int] = []
    upsert = Writer.upsert

    def counted(writer: Writer, entries: Any, vectors: Any) -> None:
        here.append(len(entries))
        upsert(writer, entries, vectors)

    def kill(progress: Progress) -> None:
        if progress.stage == "embedding" and not killed:
            killed.extend(workers("EmbedEntries"))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(Writer, "upsert", counted)
    with ScriptedEndpoint(dimension=16) as endpoint, milvus_server(tmp_path / "s.db") as uri:
        values = {"embedder": "api", "base_url": endpoint.base_url, "api_key": KEY, "embedding_model": "m"}
        with knowledge_base(uri, collection="local", **values) as kb:
            local = kb.sync(docs)
        sent = len(endpoint.texts())
        here.clear()
        with knowledge_base(uri, collection="ray", engine="ray", **values) as kb:
            report = kb.sync(docs, report=kill)
            assert kb.collection().state()  # the lease is given back
        assert killed
        assert alike(report) == alike(local)
        assert rows(uri, "ray") == rows(uri, "local")
        assert sum(here) < report.added  # the other rows never came to this process
        assert len(endpoint.texts()) - sent <= sent + 2 * ray_engine.BATCH_ROWS  # but for what was in flight
    assert_not_told(KEY)
    assert "hunter2" not in "".join(capfd.readouterr())


def assert_not_told(secret: str) -> None:
    """Nothing that Ray wrote down has a secret in it."""
    import ray

    logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    files = [path for path in logs.rglob("*") if path.is_file()]
    assert files
    assert [path.name for path in files if secret.encode() in path.read_bytes()] == []


def test_an_error_of_a_worker_and_a_stop_are_those_of_a_local_sync_and_the_next_one_goes_on(
    cluster: str, tmp_path: Path, one_worker: None
) -> None:
    docs = library(tmp_path / "docs")
    stopped: list[Progress] = []

    def stop(progress: Progress) -> None:
        if progress.stage == "embedding":
            stopped.append(progress)

    with ScriptedEndpoint(dimension=16, key=KEY) as endpoint:
        values: dict[str, Any] = {"embedder": "api", "base_url": endpoint.base_url, "embedding_model": "m"}
        wrong = knowledge_base(tmp_path / "ray.db", engine="ray", api_key="wrong", **values)
        with wrong, pytest.raises(EndpointDenied, match="401"):
            wrong.sync(docs)
        with knowledge_base(tmp_path / "ray.db", engine="ray", api_key=KEY, **values) as kb:
            with pytest.raises(KeyboardInterrupt):
                kb.sync(docs, report=stop, stopped=lambda: bool(stopped))
            stored = kb.count()
            rest = kb.sync(docs)
        with knowledge_base(tmp_path / "local.db", api_key=KEY, **values) as kb:
            assert 0 < stored < rest.added + stored == kb.sync(docs).added
    assert rows(tmp_path / "local.db") == rows(tmp_path / "ray.db")


def test_the_command_connects_to_a_cluster_and_is_quiet(cluster: str, tmp_path: Path) -> None:
    write(tmp_path / "docs", {"a.md": "# A\n\nA kite.\n", "b.pdf": "no PDF"})
    arguments = command("sync", "docs", "--engine", "ray", "--ray-address", cluster, "--quiet")
    run = subprocess.run(
        arguments, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert run.returncode == 3, run.stderr
    assert run.stdout.startswith("1 new, 0 changed, 0 unchanged documents: 1 chunk added")
    assert run.stderr.splitlines() == [f"failed: {tmp_path}/docs/b.pdf: " + run.stderr.partition("b.pdf: ")[2].strip()]


# Without a cluster


def test_a_text_is_claimed_for_one_chunk_and_stays_with_it() -> None:
    old, new = f"{'0a' * 12}", f"{'0b' * 12}"
    one, two, three = (f"{number:016x}" for number in range(1, 4))
    stored = Stored([RowVersion(f"{one}-{old}-0", "/a.md", "d", 1, ())])
    ledger = Ledger(KnownVectors(stored.changeable(Grant())))
    claims = [f"{two}-{old}-0", f"{two}-{new}-0", f"{three}-{new}-0"]
    assert ledger.claim(claims) == ([f"{one}-{old}-0", None, f"{two}-{new}-0"], False)
    ledger.share()
    assert ledger.claim(claims) == ([f"{one}-{old}-0", None, f"{two}-{new}-0"], True)  # a batch that is done again


def test_what_passes_between_workers_comes_as_it_was() -> None:
    items = ["", b"\0\0", ("a", 1, None), MissingExtra("ray", "this")]
    assert [str(item) for item in unpacked(packed(items))] == [str(item) for item in items]


def test_an_address_where_no_cluster_answers_is_named() -> None:
    pytest.importorskip("ray", reason="pip install 'ray[data]'")
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at '{address}'"):
        ray_engine.connect(address)


def test_contexts_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "docs", {"a.md": "# A\n\nA kite.\n"})
    values = {"engine": "ray", "contextual": True, "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    with knowledge_base(tmp_path / "k.db", **values) as kb, pytest.raises(SettingsError, match="--engine local"):
        kb.sync(tmp_path / "docs")


def test_ray_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("ray."):
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return imported(name, *rest, **named)

    # Not by taking it away from all: Ray's own threads import it at any time, in this process too.
    monkeypatch.setattr(builtins, "__import__", absent)
    with knowledge_base(tmp_path / "k.db", engine="ray") as kb, pytest.raises(MissingExtra, match=r"citekite\[ray\]"):
        kb.sync(tmp_path)
