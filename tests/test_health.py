"""What watches the server: health, readiness, figures, and the description of the API."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter

from citekite.render import answer_json, event_json, retrieval_json
from citekite.serve import replies
from citekite.serve.app import create_app
from citekite.serve.principal import OWNER
from citekite.serve.routes import health
from citekite.serve.routes.ask import STREAM
from citekite.settings import Settings
from commands import write_docs
from scripted_endpoint import ScriptedEndpoint
from served import serving
from stored import free_port

ASK = {"question": "Where does Milvus keep inserted data?"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def app(endpoint: ScriptedEndpoint, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder = tmp_path_factory.mktemp("watched")
    settings = Settings(uri=str(folder / "docs.db"), embedder="static", base_url=endpoint.base_url, model="stand-in")
    app = create_app(settings)
    app.state.service.knowledge_base(OWNER).sync(write_docs(folder))
    return app


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[httpx2.Client]:
    with serving(app.state.service.settings, app) as url, httpx2.Client(base_url=url, timeout=20) as client:
        yield client


def figures(client: httpx2.Client) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_a_process_that_answers_is_alive_and_one_with_a_database_is_ready(client: httpx2.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_an_empty_server_is_ready_and_makes_no_database(tmp_path: Path) -> None:
    with serving(Settings(uri=str(tmp_path / "none.db"))) as url:
        assert httpx2.get(f"{url}/readyz").status_code == 200

    assert list(tmp_path.iterdir()) == []


def test_a_server_without_its_database_is_alive_and_soon_says_that_it_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "READY_SECONDS", 0.5)
    with serving(Settings(uri=f"http://127.0.0.1:{free_port()}")) as url:
        began = time.monotonic()
        response = httpx2.get(f"{url}/readyz", timeout=20)
        took = time.monotonic() - began
        assert httpx2.get(f"{url}/healthz").status_code == 200

    assert (response.status_code, response.json()["title"]) == (503, "StoreUnreachable")
    assert took < 2


def test_requests_are_counted_by_route_and_never_by_path(client: httpx2.Client) -> None:
    before = figures(client)
    assert client.post("/api/v1/search", json=ASK).status_code == 200
    assert client.post("/api/v1/search", json={}).status_code == 400
    for number in range(3):
        client.get(f"/api/v1/documents/made-up-{number}")
        client.get(f"/made-up-{number}")
    client.request("BREW", "/made-up")
    after = figures(client)

    def more(*labels: str) -> float:
        return after[("citekite_http_requests_total", *labels)] - before.get(
            ("citekite_http_requests_total", *labels), 0
        )

    assert more("POST", "/api/v1/search", "200") == 1
    assert more("POST", "/api/v1/search", "400") == 1
    assert more("GET", "/api/v1/documents/{id}", "404") == 3
    assert more("GET", "other", "404") == 3
    assert more("other", "other", "404") == 1
    assert not any("made-up" in label for key in after for label in key)
    assert after[("citekite_http_request_seconds_count", "POST", "/api/v1/search")] >= 2


def test_answers_stages_tokens_and_places_are_counted(client: httpx2.Client, app: FastAPI) -> None:
    before = figures(client)
    answer = client.post("/api/v1/ask", json=ASK).json()
    streamed = client.post("/api/v1/ask/stream", json=ASK).text
    client.post("/api/v1/search", json=ASK)
    after = figures(client)

    def more(*key: str) -> float:
        return after[key] - before.get(key, 0)

    assert "event: Done" in streamed
    assert more("citekite_answers_total", "answered") == 2
    assert more("citekite_tokens_total", "prompt") == 2 * answer["usage"]["prompt_tokens"] > 0
    assert more("citekite_tokens_total", "completion") == 2 * answer["usage"]["completion_tokens"] > 0
    for stage, times in {"retrieve": 2, "generate": 2, "embed": 1, "dense": 1, "lexical": 1, "fetch": 1}.items():
        assert more("citekite_stage_seconds_count", stage) == times
    assert after[("citekite_answers_under_way",)] == 0
    assert after[("citekite_workers_free",)] == app.state.service.settings.max_streams
    assert after[("process_resident_memory_bytes",)] > 1e6


# The description of the API.


def test_the_typed_replies_are_what_is_rendered(
    app: FastAPI, endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "pieces", ["Milvus keeps 900 tapes of inserted data in Oslo [1]."])
    kb = app.state.service.knowledge_base(OWNER)
    found = retrieval_json(kb.retrieve(ASK["question"]))
    answer = answer_json(kb.ask(ASK["question"]))

    assert found["hits"]
    assert answer["citations"]
    assert answer["claims"]
    for kind, values in ((replies.SearchReply, found), (replies.AnswerReply, answer)):
        TypeAdapter(kind).validate_json(json.dumps(values), strict=True)


@pytest.mark.parametrize(
    ("kind", "example"), [(replies.SearchReply, replies.SEARCH), (replies.AnswerReply, replies.ANSWER)]
)
def test_the_examples_are_replies(kind: Any, example: dict[str, Any]) -> None:
    TypeAdapter(kind).validate_json(json.dumps(example), strict=True)


def test_the_example_of_a_stream_has_the_events_of_one(app: FastAPI) -> None:
    shown = {
        name: set(json.loads(data)) for name, data in re.findall(r"^event: (\w+)\ndata: (.*)$", STREAM, re.MULTILINE)
    }
    made = dict(event_json(event) for event in app.state.service.knowledge_base(OWNER).ask_stream(ASK["question"]))

    assert shown == {name: set(values) for name, values in made.items()}


def test_the_description_names_the_key_the_examples_and_the_problems_of_each_route(client: httpx2.Client) -> None:
    described = client.get("/api/v1/openapi.json").json()

    assert described["info"]["title"] == "citekite"
    assert described["components"]["securitySchemes"]["key"] | {"description": ""} == {
        "type": "http",
        "scheme": "bearer",
        "description": "",
    }
    for path in ("/api/v1/search", "/api/v1/ask", "/api/v1/ask/stream"):
        operation = described["paths"][path]["post"]
        (content,) = operation["responses"]["200"]["content"].values()
        assert content["example"]
        assert operation["security"] == [{"key": []}]
        assert {"400", "401", "403", "404", "409", "429", "502", "503"} <= set(operation["responses"])
        assert set(operation["responses"]["404"]["content"]) == {"application/problem+json"}
        assert "422" not in operation["responses"]
    for body in ("SearchBody", "AskBody"):
        assert described["components"]["schemas"][body]["examples"]
