"""Doctor: each state of each check, and remedies that are commands which exist."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from citekite import KnowledgeBase
from citekite.cli.app import app
from citekite.cli.options import OPTIONS
from citekite.doctor import Check, examine
from citekite.settings import Settings, load_settings
from commands import citekite, write_docs
from scripted_endpoint import Fault, ScriptedEndpoint

KEY = "fw-not-to-be-shown"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with one synced collection of the embedded embedder."""
    folder = tmp_path_factory.mktemp("doctor")
    uri = str(folder / "citekite.db")
    with KnowledgeBase(settings=Settings(uri=uri)) as kb:
        kb.sync(write_docs(folder))
    return uri


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(key=KEY, models=["chat", "embedding"]) as running:
        yield running


def _examine(**arguments: object) -> dict[str, Check]:
    """The checks by name; each remedy that is a command of ours is one that exists."""
    checks = {check.name: check for check in examine(load_settings(arguments, environ={}).settings)}
    for check in checks.values():
        assert check.state in ("ok", "note", "failed")
        assert bool(check.remedy) == (check.state == "failed") or check.state == "note"
        _assert_exists(check.remedy)
    return checks


def _assert_exists(remedy: str) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in re.findall(r"citekite (\w+)", remedy):
        assert name in commands, remedy
    for flag in re.findall(r"--([a-z-]+)", remedy):
        assert flag.replace("-", "_") in OPTIONS, remedy


def test_all_is_well_but_for_the_model_that_nobody_set(uri: str) -> None:
    checks = _examine(uri=uri)

    assert {name: check.state for name, check in checks.items()} == {
        "disk": "ok",
        "database": "ok",
        "collection": "ok",
        "embedder": "ok",
        "model": "note",
    }
    assert checks["collection"].message == "citekite: 4 chunks, static:wordllama-l2-supercat-256"
    assert checks["embedder"].message == "static:wordllama-l2-supercat-256, 256 dimensions"
    assert "FIREWORKS_API_KEY" in checks["model"].remedy


def test_before_the_first_sync_the_collection_is_a_note_and_nothing_is_made(tmp_path: Path) -> None:
    checks = _examine(uri=str(tmp_path / "new" / "citekite.db"))

    assert (checks["disk"].state, checks["database"].state, checks["embedder"].state) == ("ok", "ok", "ok")
    assert (checks["collection"].state, checks["collection"].remedy) == ("note", "citekite sync FOLDER")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_fails_the_database_and_leaves_the_embedder_open() -> None:
    checks = _examine(uri="http://127.0.0.1:9")

    assert checks["database"].state == "failed"
    assert "http://127.0.0.1:9" in checks["database"].message
    assert "citekite doctor --uri" in checks["database"].remedy
    assert checks["embedder"].state == "note"
    assert "collection" not in checks


def test_another_embedder_than_the_collections_fails_and_reindex_mends_it(uri: str) -> None:
    checks = _examine(uri=uri, dimensions=64)

    assert checks["embedder"].state == "failed"
    assert checks["embedder"].remedy == "citekite reindex"


def test_an_embedder_without_its_key_fails(tmp_path: Path) -> None:
    checks = _examine(uri=str(tmp_path / "citekite.db"), provider="fireworks")

    assert checks["embedder"].state == checks["model"].state == "failed"
    assert "FIREWORKS_API_KEY" in checks["embedder"].message


def test_a_model_and_an_embedder_that_answer_are_well(tmp_path: Path, endpoint: ScriptedEndpoint) -> None:
    models = {"model": "chat", "embedding_model": "embedding"}
    checks = _examine(uri=str(tmp_path / "citekite.db"), base_url=endpoint.base_url, api_key=KEY, **models)

    assert checks["embedder"].message == "api:embedding, 64 dimensions"
    assert (checks["model"].state, checks["model"].message) == ("ok", "chat answers")


def test_every_fallback_model_is_checked(uri: str, endpoint: ScriptedEndpoint) -> None:
    models = {"model": "chat", "fallback_models": ["gone"]}
    checks = _examine(uri=uri, base_url=endpoint.base_url, api_key=KEY, **models)

    assert checks["model"].state == "ok"
    assert checks["fallback"].state == "failed"
    assert "does not serve the model 'gone'" in checks["fallback"].message


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(401, "bad key"), "401: bad key"),
        (Fault(404, "no such model"), "does not serve the model 'chat'"),
        (Fault(500, "on fire"), "500: on fire"),
        (Fault(kind="reset"), "no connection"),
    ],
)
def test_a_model_that_fails_says_how(uri: str, endpoint: ScriptedEndpoint, fault: Fault, said: str) -> None:
    endpoint.script("/chat/completions", fault, fault)
    model = _examine(uri=uri, base_url=endpoint.base_url, api_key=KEY, model="chat")["model"]

    assert model.state == "failed"
    assert said in model.message
    assert KEY not in model.message


def test_a_reranker_is_checked_where_one_is_set(uri: str, endpoint: ScriptedEndpoint) -> None:
    rerank = {"reranker": "api", "rerank_base_url": endpoint.base_url, "rerank_api_key": KEY, "rerank_model": "chat"}

    assert "reranker" not in _examine(uri=uri)
    assert _examine(uri=uri, **rerank)["reranker"] == Check("reranker", "ok", "api:chat answers")
    endpoint.script("/rerank", Fault(503))
    failed = _examine(uri=uri, **rerank)["reranker"]
    assert (failed.state, "answered 503" in failed.message) == ("failed", True)
    assert "set `rerank_model`" in _examine(uri=uri, reranker="sentence-transformers")["reranker"].message


def test_the_disk_fails_when_less_is_free_than_a_sync_may_need(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is raised above what this disk has, since filling it is out of the question."""
    monkeypatch.setattr("citekite.doctor.MIN_FREE_BYTES", shutil.disk_usage(tmp_path).total + 1)

    disk = _examine(uri=uri)["disk"]

    assert disk.state == "failed"
    assert disk.remedy


def test_the_command_shows_remedies_and_its_status_tells_a_failed_check(tmp_path: Path) -> None:
    well = citekite(tmp_path, "doctor")
    broken = citekite(
        tmp_path, "doctor", "--json", "--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--api-key", KEY
    )

    assert well.returncode == 0, well.stderr
    assert re.search(r"^note    collection: .+\n        → citekite sync FOLDER$", well.stdout, re.MULTILINE)
    assert broken.returncode == 1
    checks = json.loads(broken.stdout)
    assert [check["name"] for check in checks] == ["disk", "database", "collection", "embedder", "model"]
    assert set(checks[-1]) == {"name", "state", "message", "remedy"}
    assert checks[-1]["state"] == "failed"
    assert KEY not in broken.stdout + broken.stderr
