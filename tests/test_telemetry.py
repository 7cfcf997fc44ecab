"""Traces and figures: the tree of an answer, without its texts, across threads, and by OTLP to a collector."""

from __future__ import annotations

import gzip
import importlib.abc
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from citekite import KnowledgeBase, telemetry
from citekite.contexts import in_own_context
from citekite.errors import MissingExtra, UnknownCollection
from citekite.events import Delta, Failed
from citekite.remote.knowledge_base import RemoteKnowledgeBase
from citekite.settings import Settings
from citekite.telemetry import OFF, make_telemetry
from citekite.types import Turn
from commands import citekite
from scripted_endpoint import Fault, ScriptedEndpoint
from served import serving
from stored import BIRDS, write
from telemetry_recorded import Recorded, tree

QUESTION = "Where does the golden eagle nest?"
# Words of the question, the documents and the answers, none of which is a word of ours.
WORDS = re.compile(r"eagle|\bowl|vole|cliff|\bkite|forked|hunts|nests?\b|night", re.IGNORECASE)


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture(autouse=True)
def _afresh(recorded: Recorded) -> None:
    recorded.clear()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def settings(endpoint: ScriptedEndpoint, recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Those of a synced collection whose every model is at the endpoint."""
    folder = tmp_path_factory.mktemp("telemetry")
    settings = Settings(
        uri=str(folder / "birds.db"),
        base_url=endpoint.base_url,
        model="writer",
        embedder="api",
        embedding_model="embedder",
        reranker="api",
        rerank_model="reranker",
        batch_size=1,
        retry_seconds=0,
        telemetry=True,
    )
    with KnowledgeBase(settings=settings) as kb:
        kb.sync(write(folder / "birds", BIRDS))
    return settings


@pytest.fixture(scope="module")
def kb(settings: Settings) -> Iterator[KnowledgeBase]:
    with KnowledgeBase(settings=settings) as kb:
        yield kb


def test_an_answer_is_a_tree_of_its_stages(kb: KnowledgeBase, recorded: Recorded) -> None:
    answer = kb.ask(QUESTION, history=[Turn("What eats voles?", "The barn owl.")])

    root, search = "invoke_workflow ask", "retrieval citekite"
    children = {
        "": [root],
        root: ["rewrite", search, "neighbours", "pack", "confidence", "generate", "verify"],
        "rewrite": ["chat writer"],
        search: ["embed", "dense", "lexical", "fuse", "fetch", "dedupe", "rerank"],
        "embed": ["embeddings embedder"],
        "rerank": ["rerank reranker"],
        "generate": ["chat writer"],
    }
    assert tree(recorded.spans()) == children
    attributes = recorded.named(root).attributes or {}
    assert attributes["citekite.outcome"] == answer.outcome == "answered"
    assert attributes["gen_ai.data_source.id"] == "citekite"
    assert attributes["citekite.citations"] == len(answer.citations)
    assert (recorded.named("dense").attributes or {})["citekite.candidates"] == kb.count()
    assert (recorded.named("fuse").attributes or {})["citekite.fusion"] == "convex"


def test_calls_of_models_have_the_attributes_of_the_conventions(
    kb: KnowledgeBase, endpoint: ScriptedEndpoint, recorded: Recorded
) -> None:
    answer = kb.ask(QUESTION)

    port = int(endpoint.base_url.split(":")[2].split("/")[0])
    common = {"gen_ai.provider.name": "openai", "server.address": "127.0.0.1", "server.port": port}
    chat = recorded.named("chat writer")
    assert (chat.kind.name, chat.status.status_code.name) == ("CLIENT", "UNSET")
    values = dict(chat.attributes or {})
    assert values.pop("gen_ai.response.time_to_first_chunk") > 0
    assert values == {
        **common,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "writer",
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "writer",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
    }
    embedding = dict(recorded.named("embeddings embedder").attributes or {})
    assert embedding.items() >= {**common, "gen_ai.operation.name": "embeddings"}.items()
    retrieval = dict(recorded.named("retrieval citekite").attributes or {})
    assert retrieval.items() >= {"gen_ai.operation.name": "retrieval", "gen_ai.request.top_k": 5.0}.items()


def test_no_text_of_documents_questions_or_answers_is_in_a_trace(kb: KnowledgeBase, recorded: Recorded) -> None:
    answer = kb.ask(QUESTION, history=[Turn("What eats voles?", "The barn owl.")], deep=True)
    assert WORDS.search(answer.text)
    assert not WORDS.search(recorded.texts())
    assert len(recorded.spans()) > 20


def test_texts_are_in_a_trace_where_the_settings_want_them(settings: Settings, recorded: Recorded) -> None:
    with KnowledgeBase(settings=settings.model_copy(update={"telemetry_content": True})) as kb:
        answer = kb.ask(QUESTION)
    assert (recorded.named("invoke_workflow ask").attributes or {})["citekite.content.answer"] == answer.text
    assert (recorded.named("retrieval citekite").attributes or {})["gen_ai.retrieval.query.text"] == QUESTION
    chat = recorded.named("chat writer").attributes or {}
    system, asked = json.loads(str(chat["gen_ai.input.messages"]))
    assert (system["role"], asked["role"], asked["parts"][0]["type"]) == ("system", "user", "text")
    assert "nests on cliffs" in asked["parts"][0]["content"]
    assert json.loads(str(chat["gen_ai.output.messages"]))[0]["role"] == "assistant"
    assert QUESTION in str((recorded.named("embeddings embedder").attributes or {})["citekite.content.sent"])


def test_an_error_marks_the_spans_that_it_ended_and_keeps_what_it_says_to_itself(
    kb: KnowledgeBase, endpoint: ScriptedEndpoint, recorded: Recorded
) -> None:
    endpoint.script("/chat/completions", Fault(400, message="cannot read 'the golden eagle nests'"))
    events = list(kb.ask_stream(QUESTION))

    assert isinstance(events[-1], Failed)
    failed = {
        span.name: (span.attributes or {}).get("error.type") for span in recorded.spans() if not span.status.is_ok
    }
    assert failed == {"invoke_workflow ask": "RequestRefused", "chat writer": "RequestRefused"}
    assert not WORDS.search(recorded.texts())


def test_an_error_that_ends_a_search_is_in_its_span(settings: Settings, recorded: Recorded) -> None:
    empty = settings.model_copy(update={"collection": "empty"})
    with KnowledgeBase(settings=empty) as kb, pytest.raises(UnknownCollection):
        kb.ask(QUESTION)
    assert (recorded.named("invoke_workflow ask").attributes or {})["error.type"] == "UnknownCollection"


def test_a_stream_that_is_left_ends_its_spans_without_an_error(kb: KnowledgeBase, recorded: Recorded) -> None:
    events = kb.ask_stream(QUESTION)
    for event in events:
        if isinstance(event, Delta):
            break
    events.close()  # type: ignore[attr-defined]

    ended = {span.name: span.status.is_ok for span in recorded.spans()}
    assert [ended[name] for name in ("invoke_workflow ask", "generate", "chat writer")] == [True] * 3


def test_two_streams_read_in_turns_have_a_trace_each(kb: KnowledgeBase, recorded: Recorded) -> None:
    pairs = zip(kb.ask_stream(QUESTION), kb.ask_stream(QUESTION), strict=True)
    assert len([None for _ in pairs]) > 2
    traces = [span.context.trace_id for span in recorded.spans() if span.context]
    assert sorted(traces.count(trace) for trace in set(traces)) == [17, 17]


def test_a_sync_is_the_parent_of_what_is_embedded_in_threads(
    settings: Settings, recorded: Recorded, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"uri": str(tmp_path / "birds.db")})
    with KnowledgeBase(settings=settings) as kb:
        report = kb.sync(write(tmp_path / "birds", BIRDS))

    root = recorded.named("sync citekite")
    embeddings = [span for span in recorded.spans() if span.name == "embeddings embedder"]
    assert len(embeddings) == report.texts > 4
    assert {span.parent.span_id for span in embeddings if span.parent} == {root.context.span_id}  # type: ignore[union-attr]
    attributes = dict(root.attributes or {})
    assert (attributes["citekite.new"], attributes["citekite.texts"]) == (3, report.texts)
    assert all(attributes[f"citekite.{stage}_seconds"] > 0 for stage in ("read", "embed", "write"))
    assert not WORDS.search(recorded.texts())

    recorded.clear()
    with KnowledgeBase(settings=settings.model_copy(update={"embedding_model": "another"})) as kb:
        chunks = kb.reindex()
    attributes = dict(recorded.named("reindex citekite").attributes or {})
    assert attributes["citekite.chunks"] == attributes["citekite.texts"] == chunks > 0
    assert all(attributes[f"citekite.{stage}_seconds"] > 0 for stage in ("embed", "write"))
    assert set(tree(recorded.spans())["reindex citekite"]) == {"embeddings another"}


def test_a_request_goes_on_with_the_trace_that_it_comes_with(settings: Settings, recorded: Recorded) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with serving(settings) as url:
        headers = {"traceparent": f"00-{trace}-{parent}-01", "X-Request-Id": "request-7"}
        reply = httpx2.post(f"{url}/api/v1/ask", json={"question": QUESTION}, headers=headers)
        httpx2.get(f"{url}/api/v1/documents/none", params={"query": "eagle"})

    assert (reply.status_code, reply.headers["x-request-id"]) == (200, "request-7")
    request = recorded.named("POST /api/v1/ask")
    assert request.context
    assert f"{request.context.trace_id:032x}" == trace
    assert request.parent
    assert f"{request.parent.span_id:016x}" == parent
    assert (request.kind.name, (request.attributes or {})["http.response.status_code"]) == ("SERVER", 200)
    # The answer was made in another thread.
    assert tree(recorded.spans())["POST /api/v1/ask"] == ["invoke_workflow ask"]
    assert (recorded.named("GET /api/v1/documents/{id}").attributes or {})["http.response.status_code"] == 404
    figures = recorded.figures()
    counted = [value for labels, value in figures["citekite_http_requests_total"] if labels["route"] == "/api/v1/ask"]
    assert sum(counted) == 1
    durations = [labels for labels, _ in figures["http.server.request.duration"]]
    assert {labels["http.route"] for labels in durations} >= {"/api/v1/ask"}
    assert WORDS.search(recorded.texts()) is None


def test_a_question_to_a_server_goes_on_with_the_trace_of_the_program_that_asks(
    settings: Settings, recorded: Recorded
) -> None:
    from opentelemetry import trace

    with serving(settings) as url, RemoteKnowledgeBase(url) as kb:
        with trace.get_tracer("program").start_as_current_span("own work"):
            kb.search(QUESTION)
        assert tree(recorded.spans())["own work"] == ["POST /api/v1/search"]


def test_the_figures_of_models_are_those_of_the_conventions(kb: KnowledgeBase, recorded: Recorded) -> None:
    def tokens(kind: str) -> float:
        found = recorded.figures().get("gen_ai.client.token.usage", [])
        wanted = {"gen_ai.token.type": kind, "gen_ai.request.model": "writer", "gen_ai.operation.name": "chat"}
        return sum(value for labels, value in found if labels.items() >= wanted.items())

    before = tokens("input"), tokens("output")
    answer = kb.ask(QUESTION)
    after = tokens("input"), tokens("output")
    assert after[0] - before[0] == answer.usage.prompt_tokens > 0
    assert after[1] - before[1] == answer.usage.completion_tokens > 0
    durations = recorded.figures()["gen_ai.client.operation.duration"]
    assert {labels["gen_ai.operation.name"] for labels, _ in durations} == {"chat", "embeddings", "rerank"}


def test_telemetry_that_is_off_records_nothing_and_costs_next_to_nothing(
    settings: Settings, recorded: Recorded
) -> None:
    with KnowledgeBase(settings=settings.model_copy(update={"telemetry": False})) as kb:
        assert kb._connection.telemetry is OFF
        kb.ask(QUESTION)
    assert recorded.spans() == []

    began = time.thread_time()
    for _ in range(10_000):
        with telemetry.span("nothing"):
            pass
    assert (time.thread_time() - began) / 10_000 < 20e-6  # about 0.5 µs; the bound is for a machine that is busy


class _WithoutSdk(importlib.abc.MetaPathFinder):
    """Finds no SDK, as where it is not installed."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "opentelemetry.sdk":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_WithoutSdk(), *sys.meta_path])
    with pytest.raises(MissingExtra, match=r"pip install 'citekite\[otel\]'"):
        make_telemetry(Settings(telemetry=True))


def test_what_a_stream_sets_is_not_seen_between_its_items() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="outside")

    def items() -> Iterator[str]:
        variable.set("inside")
        yield variable.get()
        yield variable.get()

    seen = [(item, variable.get()) for item in in_own_context(items())]
    assert seen == [("inside", "outside")] * 2


class _Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def test_a_command_exports_by_otlp_to_where_the_variables_say(tmp_path: Path) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    write(tmp_path / "birds", BIRDS)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    server.received = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_SERVICE_NAME": "birdwatch",
            "CITEKITE_TELEMETRY": "true",
        }
        run = citekite(tmp_path, "sync", "birds", "--embedder", "static", **variables)
        assert run.returncode == 0, run.stderr
    finally:
        server.shutdown()
        server.server_close()
    bodies = dict(server.received)  # type: ignore[attr-defined]
    traces = ExportTraceServiceRequest.FromString(_unpacked(bodies["/v1/traces"]))
    (resource,) = traces.resource_spans
    attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert attributes["service.name"] == "birdwatch"
    assert [span.name for span in resource.scope_spans[0].spans] == ["sync citekite"]
    assert not WORDS.search(str(traces))
    ExportMetricsServiceRequest.FromString(_unpacked(bodies.get("/v1/metrics", b"")))


def _unpacked(body: bytes) -> bytes:
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
