"""The account of tokens and costs by key and model, and what is seen of each request: its id, its line in the log."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import subprocess
from collections.abc import Iterator
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from citekite import KnowledgeBase
from citekite.explanation import ModelUse
from citekite.reports import SyncReport
from citekite.serve import watch
from citekite.serve.app import create_app
from citekite.serve.job_store import Job
from citekite.serve.ledger import Ledger
from citekite.serve.logs import Lines, set_up_logs
from citekite.serve.principal import Principal
from citekite.settings import Settings
from citekite.types import Usage
from commands import citekite, command
from forked import Forked, environment
from scripted_endpoint import Fault, ScriptedEndpoint
from served import serving, wait_for
from stored import BIRDS, write

QUESTION = "Where does the golden eagle nest?"
ID = re.compile(r"[0-9a-f]{16}")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as endpoint:
        yield endpoint


class Served:
    """A server with keys, and what it logs."""

    def __init__(self, url: str, app: FastAPI, log: io.StringIO, settings: Settings) -> None:
        self.service = app.state.service
        self.url, self.log, self.settings = url, log, settings
        self.keys = {
            name: self.service.keys.create(name, scope)[1]
            for name, scope in (("boss", "admin"), ("reader", "read"), ("writer", "write"))
        }

    def post(self, path: str, key: str, body: dict[str, Any], **headers: str) -> httpx2.Response:
        authorization = {"Authorization": f"Bearer {self.keys[key]}"}
        return httpx2.post(f"{self.url}{path}", json=body, headers={**authorization, **headers}, timeout=60)

    def get(self, path: str, key: str, **parameters: Any) -> Any:
        authorization = {"Authorization": f"Bearer {self.keys[key]}"}
        return httpx2.get(f"{self.url}{path}", params=parameters, headers=authorization).json()

    def lines(self, count: int) -> list[dict[str, Any]]:
        """The lines of the log, once there are so many: a reply is there a moment before its line."""
        wait_for(lambda: self.log.getvalue().count("\n") >= count)
        found = [json.loads(line) for line in self.log.getvalue().splitlines()]
        assert len(found) == count
        return found

    def rows(self, key: str, **days: str) -> dict[tuple[str, str, str], dict[str, Any]]:
        rows = self.get("/api/v1/usage", key, **days)["rows"]
        return {(row["key"], row["purpose"], row["model"]): row for row in rows}


@pytest.fixture(scope="module")
def served(endpoint: ScriptedEndpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("usage")
    settings = Settings(
        uri=str(folder / "birds.db"),
        base_url=endpoint.base_url,
        model="chatter",
        embedder="api",
        embedding_model="embedder",
        reranker="api",
        rerank_model="reranker",
        prompt_price=1.0,
        completion_price=10.0,
        retry_seconds=0,
        verify="model",
        log_format="json",
    )
    with KnowledgeBase(settings=settings) as kb:
        kb.sync(write(folder / "birds", BIRDS))
    log = io.StringIO()
    root, ours = logging.getLogger(), logging.getLogger("citekite")
    before = root.handlers[:], root.level, ours.level
    set_up_logs(settings, log)
    app = create_app(settings)
    try:
        with serving(settings, app) as url:
            yield Served(url, app, log, settings)
    finally:
        root.handlers[:], root.level = before[:2]
        ours.setLevel(before[2])


@pytest.fixture(autouse=True)
def _empty(served: Served) -> None:
    """Begin each test with an empty log, after the last line of the test before."""
    served.get("/api/v1/me", "boss")
    wait_for(lambda: "/api/v1/me" in served.log.getvalue())
    served.log.seek(0)
    served.log.truncate()


def test_the_account_adds_up_to_the_usage_in_the_answers(served: Served) -> None:
    turn = {"question": "What hunts voles?", "answer": "The barn owl."}
    bodies: list[dict[str, Any]] = [
        {"question": QUESTION},
        {"question": "And owls?", "history": [turn]},
        {"question": QUESTION, "deep": True},
    ]
    answers = [served.post("/api/v1/ask", "reader", body).json() for body in bodies]
    completion = served.post(
        "/v1/chat/completions", "reader", {"model": "citekite", "messages": [{"role": "user", "content": QUESTION}]}
    ).json()
    used = [*(answer["usage"] for answer in answers), completion["usage"]]

    rows = served.rows("boss")
    chat, embedding = rows["reader", "chat", "chatter"], rows["reader", "embedding", "embedder"]
    for kind in ("prompt_tokens", "completion_tokens"):
        assert chat[kind] == sum(usage[kind] for usage in used) > 0
    assert (chat["estimated"], embedding["estimated"]) == (0, 0)
    assert chat["cost"] == pytest.approx((chat["prompt_tokens"] + 10 * chat["completion_tokens"]) / 1e6)
    assert embedding["cost"] is None
    assert served.get("/api/v1/usage", "boss")["total"]["cost"] is None  # a part of it is not known
    assert chat["day"] == datetime.now(UTC).date().isoformat()

    figures = httpx2.get(f"{served.url}/metrics", headers={"Authorization": f"Bearer {served.keys['reader']}"}).text
    line = 'citekite_model_tokens_total{kind="completion",model="chatter",purpose="chat"}'
    assert f"{line} {float(chat['completion_tokens'])}" in figures


def test_a_key_sees_its_own_account_and_an_admin_all(served: Served) -> None:
    served.post("/api/v1/search", "writer", {"question": QUESTION})
    assert {key for key, _, _ in served.rows("writer")} == {"writer"}
    assert {"writer", "reader"} <= {key for key, _, _ in served.rows("boss")}
    assert served.rows("boss", until="2020-01-01") == {}
    assert served.get("/api/v1/usage", "boss", since="soon")["status"] == 400


def test_a_job_counts_for_the_key_that_started_it_also_when_the_key_is_gone(served: Served) -> None:
    _, text = served.service.keys.create("temporary", "write")
    served.keys["temporary"] = text
    files = {"files": ("buzzards.md", b"# Buzzards\n\nThe buzzard circles over fields.\n")}
    headers = {"Authorization": f"Bearer {text}", "X-Request-Id": "upload-1"}
    job = httpx2.post(f"{served.url}/api/v1/documents", files=files, headers=headers).json()
    wait_for(lambda: bool(served.get(f"/api/v1/jobs/{job['id']}", "boss")["ended"]))
    served.service.keys.revoke("temporary")

    row = served.rows("boss")["temporary", "embedding", "embedder"]
    assert (row["calls"], row["prompt_tokens"] > 0) == (1, True)


def test_what_an_endpoint_does_not_tell_is_estimated_and_said_to_be(served: Served, endpoint: ScriptedEndpoint) -> None:
    before = served.rows("boss").get(("boss", "chat", "chatter"), {"estimated": 0})
    endpoint.script("/chat/completions", Fault(400, message="stream_options is not supported"))
    reply = served.post("/api/v1/ask", "boss", {"question": QUESTION, "explain": True}).json()
    (use,) = [use for stage in reply["explanation"]["stages"] for use in stage["uses"] if stage["name"] == "generate"]
    assert (use["estimated"], use["usage"]["completion_tokens"] > 0) == (True, True)
    after = served.rows("boss")["boss", "chat", "chatter"]
    assert after["estimated"] > before["estimated"]


def test_the_account_outlives_the_server_and_is_read_beside_it(served: Served) -> None:
    shown = citekite(Path(served.settings.uri).parent, "usage", "--uri", served.settings.uri, "--json")
    assert shown.returncode == 0, shown.stderr
    beside = Ledger(served.service.home)
    assert [(row.key, row.model, row.calls) for row in beside.rows()] == [
        (row["key"], row["model"], row["calls"]) for row in json.loads(shown.stdout)
    ]
    beside.close()
    table = citekite(
        Path(), "usage", "--server", served.url, "--key", served.keys["boss"], "--daily"
    ).stdout.splitlines()
    assert table[0].split()[:4] == ["day", "key", "purpose", "model"]
    assert any("reader" in line and "unknown" in line for line in table)
    assert table[-2].endswith("cost unknown") or table[-1].endswith("cost unknown")


def test_figures_add_up_by_day_key_and_model(tmp_path: Path) -> None:
    days = iter([datetime(2026, 1, 5, 23, 59, tzinfo=UTC)] * 2 + [datetime(2026, 1, 6, tzinfo=UTC)] * 2)
    ledger = Ledger(tmp_path / "made", clock=lambda: next(days))
    team, other = Principal("team", "read", key_id="1"), Principal("team", "read", key_id="2")
    ledger.add(team, ModelUse("chat", "large", Usage(10, 5)))
    ledger.add(team, ModelUse("chat", "large", Usage(1, 2), estimated=True))
    ledger.add(team, ModelUse("chat", "large", Usage(7, 7)))
    ledger.add(other, ModelUse("chat", "large", Usage(100, 100)))

    first, second = ledger.rows(principal=team)
    assert (first.day, first.calls, first.estimated, first.usage) == ("2026-01-05", 2, 1, Usage(11, 7))
    assert (second.day, second.usage) == ("2026-01-06", Usage(7, 7))
    assert [row.usage for row in ledger.rows(since="2026-01-06")] == [Usage(107, 107)]  # of the name, to an admin
    ledger.close()
    assert (ledger.path.stat().st_mode & 0o777, len(ledger.rows())) == (0o600, 2)
    ledger.close()


def test_an_account_that_cannot_be_written_costs_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "usage.sqlite").write_text("this is no database, and long enough to be read as one" * 20)
    Ledger(tmp_path).add(Principal("team", "read"), ModelUse("chat", "large", Usage(1, 1)))
    assert "not in the account" in caplog.text


def test_each_request_is_a_line_of_json_with_its_id_route_and_key(served: Served) -> None:
    reply = served.post("/api/v1/search", "reader", {"question": QUESTION})
    (line,) = served.lines(1)
    assert ID.fullmatch(reply.headers["x-request-id"])
    assert (line.pop("request_id"), line.pop("bytes")) == (reply.headers["x-request-id"], len(reply.content))
    assert 0 < line.pop("seconds") < 60
    assert datetime.fromisoformat(line.pop("time")).tzinfo
    assert "POST /api/v1/search 200 in " in line.pop("message")
    assert line == {
        "level": "info",
        "logger": "citekite.access",
        "method": "POST",
        "route": "/api/v1/search",
        "status": 200,
        "key": "reader",
    }


def test_the_route_of_a_line_is_a_template_and_no_secret_stands_in_it(served: Served) -> None:
    served.get("/api/v1/documents/none", "reader")
    httpx2.get(f"{served.url}/api/v1/status", headers={"Authorization": "Bearer ck_12_secret"})
    first, second = served.lines(2)
    assert (first["route"], first["status"], second["status"], second["key"]) == (
        *("/api/v1/documents/{id}", 404, 401),
        None,
    )
    assert "ck_" not in served.log.getvalue()


@pytest.mark.parametrize("given", ["trace:7f.a-b_c", "x" * 128])
def test_a_well_formed_id_is_taken_over_and_stands_in_reply_problem_and_log(served: Served, given: str) -> None:
    reply = served.post("/api/v1/search", "reader", {"question": 7}, **{"X-Request-Id": given})
    assert (reply.headers["x-request-id"], reply.json()["request_id"], served.lines(1)[0]["request_id"]) == (given,) * 3


@pytest.mark.parametrize("given", ["a b", "x" * 129, '{"level": "error"}', "-"])
def test_any_other_id_is_replaced(served: Served, given: str) -> None:
    reply = served.post("/api/v1/search", "reader", {"question": QUESTION}, **{"X-Request-Id": given})
    assert ID.fullmatch(reply.headers["x-request-id"])


def test_what_threads_log_has_the_id_of_their_request(served: Served, endpoint: ScriptedEndpoint) -> None:
    body = {"question": QUESTION, "history": [{"question": "a", "answer": "b"}]}
    endpoint.script("/rerank", Fault(400, message="not today"))
    served.post("/api/v1/ask", "reader", body, **{"X-Request-Id": "thread-1"})
    failed, answered = served.lines(2)
    assert (failed["logger"], failed["level"]) == ("citekite.retrieve.rerank", "warning")
    assert failed["request_id"] == answered["request_id"] == "thread-1"


def test_what_a_job_logs_has_the_id_of_the_request_that_started_it(served: Served) -> None:
    def work(*_: object) -> SyncReport:
        raise ZeroDivisionError

    def start() -> Job:
        watch._request_id.set("job-1")
        job: Job = served.service.jobs.start("sync", "citekite", (), Principal("test", "admin"), work)
        return job

    job = copy_context().run(start)
    wait_for(lambda: bool(served.service.jobs.get(job.id).ended))
    (line,) = served.lines(1)
    assert (line["request_id"], line["level"]) == ("job-1", "error")
    assert "ZeroDivisionError" in line["exception"]


def test_lines_for_people_have_time_level_and_id_and_stay_one_line() -> None:
    record = logging.makeLogRecord({"name": "citekite", "levelname": "INFO", "msg": "two\nlines \x1b[2J", "created": 0})
    record.request_id = "request-1"
    assert Lines().format(record) == "1970-01-01T00:00:00.000Z INFO    citekite: two lines [2J [request-1]"


def test_what_comes_by_mcp_is_on_the_account_of_its_key(served: Served) -> None:
    _, served.keys["agent"] = served.service.keys.create("agent", "read")
    call = {"name": "search", "arguments": {"question": QUESTION}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    reply = served.post("/mcp", "agent", body, Accept="application/json, text/event-stream")
    assert reply.status_code == 200
    assert {purpose for _, purpose, _ in served.rows("agent")} == {"embedding", "rerank"}


def test_a_server_logs_each_request_once_and_nothing_but_json(tmp_path: Path) -> None:
    process = Forked(
        command("serve", "--port", "0", "--log-format", "json", "--embedder", "static"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        address = re.search(r"http://\S+/", process.stdout.readline())
        assert address
        httpx2.get(f"{address[0]}healthz", headers={"X-Request-Id": "request-1"}, timeout=30)
        process.send_signal(signal.SIGTERM)
        _, logged = process.communicate(timeout=30)
    finally:
        process.kill()
    lines = [json.loads(line) for line in logged.splitlines()]
    assert [(line["request_id"], line["route"], line["status"]) for line in lines] == [("request-1", "/healthz", 200)]
