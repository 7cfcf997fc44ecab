"""Syncs through a server: on its own machine as a job of paths, from another as uploads; progress, failures, Ctrl-C."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from citekite.errors import SettingsError, SourceError, StoreError
from citekite.remote import RemoteKnowledgeBase, jobs
from citekite.reports import Progress
from citekite.serve.app import create_app
from citekite.settings import Settings
from scripted_endpoint import ScriptedEndpoint
from served import serving
from stored import BIRDS, write


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder = tmp_path_factory.mktemp("server")
    return create_app(Settings(uri=str(folder / "server.db"), embedder="static", max_upload_mb=0.2))


@pytest.fixture(scope="module")
def address(app: FastAPI) -> Iterator[str]:
    with serving(app.state.service.settings, app) as url:
        yield url


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write(tmp_path / "docs", BIRDS)


def beside(address: str, app: FastAPI, collection: str, settings: Settings | None = None) -> RemoteKnowledgeBase:
    """As a command on the server's own machine goes through it."""
    token = app.state.service.local_token
    return RemoteKnowledgeBase(address, token, collection, settings=settings, same_machine=True)


# On the same machine


def test_the_server_reads_the_files_of_its_own_machine(address: str, app: FastAPI, docs: Path) -> None:
    told: list[Progress] = []
    with beside(address, app, "same") as kb:
        first = kb.sync(docs, report=told.append)
        assert (first.new, first.unchanged, first.added, first.failures) == (3, 0, 7, ())
        assert {"reading", "embedding"} & {progress.stage for progress in told}
        assert [Path(one.source).relative_to(docs).as_posix() for one in kb.documents()] == sorted(BIRDS)
        assert kb.document(f"{docs}/owls.md").text == BIRDS["owls.md"].strip()

        (docs / "owls.md").unlink()
        second = kb.sync(docs, prune=True)
        assert (second.new, second.unchanged, second.pruned) == (0, 2, 1)


def test_globs_are_passed_on(address: str, app: FastAPI, docs: Path) -> None:
    with beside(address, app, "globs", Settings(exclude=("deep/**",))) as kb:
        assert kb.sync(docs).new == 2


def test_files_that_all_fail_are_reported_each_with_its_reason(address: str, app: FastAPI, tmp_path: Path) -> None:
    write(tmp_path, {"a.md": "  ", "b.md": "\n"})
    with beside(address, app, "failing") as kb:
        report = kb.sync(tmp_path)

    assert [(Path(one.source).name, "no text" in one.reason) for one in report.failures] == [
        ("a.md", True),
        ("b.md", True),
    ]


def test_a_source_that_is_not_there_is_the_same_error(address: str, app: FastAPI, docs: Path) -> None:
    with beside(address, app, "same") as kb, pytest.raises(SourceError, match="no file or folder"):
        kb.sync(docs / "missing")


def test_documents_are_removed_by_file_and_by_folder(
    address: str, app: FastAPI, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(docs)
    with beside(address, app, "removal") as kb:
        kb.sync(docs)
        assert kb.remove("owls.md") == 2
        assert kb.remove(docs) == 5
        with pytest.raises(StoreError, match=r"nothing of '.*owls\.md' is stored"):
            kb.remove("owls.md")


# From another machine


def test_files_of_another_machine_are_uploaded_under_names_that_stay_apart(address: str, docs: Path) -> None:
    with zipfile.ZipFile(docs / "more.zip", "w") as archive:
        archive.writestr("deep/eagles.md", "# Sea eagles\n\nThe sea eagle fishes.\n")
    with RemoteKnowledgeBase(address, collection="uploads") as kb:
        first = kb.sync(docs)
        assert (first.new, first.failures) == (4, ())
        names = [one.source.removeprefix("upload://shared/") for one in kb.documents()]
        assert names == [
            "docs--deep--eagles.md",
            "docs--kites.md",
            "docs--more.zip--deep--eagles.md",
            "docs--owls.md",
        ]
        again = kb.sync(docs)
        assert (again.new, again.unchanged, again.texts) == (0, 4, 0)
        assert kb.ask("What fishes?").citations[0].hit.chunk.title == "Sea eagles"
        assert kb.remove("upload://shared/docs--owls.md") == 2


def test_batches_are_jobs_of_their_own_and_one_report(
    address: str, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "BATCH_FILES", 2)
    told: list[Progress] = []
    with RemoteKnowledgeBase(address, collection="batches") as kb:
        done = kb.sync(docs / "kites.md", docs, report=told.append)
    assert (done.new, len(done.failures)) == (4, 0)
    assert [one.done for one in told if one.stage == "uploading"] == [1, 1, 2, 3]


def test_what_cannot_be_taken_is_a_failure_and_the_rest_goes_on(address: str, docs: Path) -> None:
    (docs / "large.md").write_text("Too much. " * 30_000)
    (docs / "empty.md").write_text("")
    (docs / "deep--eagles.md").write_text("# Another\n\nA file with the name of a path.\n")
    with RemoteKnowledgeBase(address, collection="failures") as kb:
        done = kb.sync(docs)
    assert done.new == 3
    assert {Path(failure.source).name for failure in done.failures} == {"large.md", "empty.md", "deep--eagles.md"}
    reasons = " ".join(failure.reason for failure in done.failures)
    assert "0.2 MB" in reasons
    assert "both are uploaded as 'docs--deep--eagles.md'" in reasons


def test_a_server_elsewhere_does_not_see_what_is_gone(address: str, docs: Path) -> None:
    with (
        RemoteKnowledgeBase(address) as kb,
        pytest.raises(SettingsError, match="--prune cannot go to a server on another machine"),
    ):
        kb.sync(docs, prune=True)


# Ctrl-C


def test_a_sync_that_is_stopped_cancels_its_job(tmp_path: Path) -> None:
    docs = write(tmp_path / "docs", {f"{number}.md": f"# Bird {number}\n\nIt flies.\n" for number in range(30)})
    with ScriptedEndpoint(latency=0.3, models=["e"]) as endpoint:
        settings = Settings(
            uri=str(tmp_path / "slow.db"),
            embedder="api",
            embedding_model="e",
            embedding_base_url=endpoint.base_url,
            embedding_api_key="k",
            batch_size=1,
            concurrency=1,
        )
        app = create_app(settings)
        stop = threading.Event()
        with serving(settings, app) as address, beside(address, app, "citekite") as kb:
            threading.Timer(1.0, stop.set).start()
            with pytest.raises(KeyboardInterrupt):
                kb.sync(docs, stopped=stop.is_set)
            (job,) = kb._client.get("jobs", dict)["jobs"]
            assert job["state"] == "cancelled"
            asked = len(endpoint.texts())
    assert 0 < asked < 30
