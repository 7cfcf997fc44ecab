"""A knowledge base on a server gives what the one on the database gives, and its errors are the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import ValidationError

from citekite import Filter, KnowledgeBase
from citekite.errors import (
    AccessDenied,
    FilterError,
    KeyRequired,
    ServerBusy,
    ServerError,
    SettingsError,
    UnknownCollection,
    UnknownDocument,
)
from citekite.events import Delta, Done, Failed, Retrieved
from citekite.remote import RemoteKnowledgeBase
from citekite.remote import knowledge_base as remote_module
from citekite.render import answer_json
from citekite.serve.app import create_app
from citekite.serve.schemas import SearchBody
from citekite.settings import Settings
from citekite.types import Turn
from scripted_endpoint import ScriptedEndpoint
from served import serving
from stored import free_port, write

QUESTION = "Where does the red kite nest?"
KITES = "The red kite nests in tall trees, often near a wood, and comes back to the same tree year after year. " * 2
DOCUMENTS = {
    "kites.md": "---\ndate: 2024-05-01\nlang: en\n---\n# Kites\n\n" + f"{KITES}\n",
    "copy/kites.md": f"# Kites\n\n{KITES}\n",
    "owls.md": "# Owls\n\n## Barn owl\n\nThe barn owl nests in barns and hunts voles.\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("remote") / "docs", DOCUMENTS)


@pytest.fixture(scope="module")
def app(folder: Path) -> FastAPI:
    app = create_app(Settings(uri=str(folder.parent / "remote.db"), embedder="static"))
    app.state.service._shared("citekite").sync(folder)
    return app


@pytest.fixture(scope="module")
def local(app: FastAPI) -> KnowledgeBase:
    """The server's own knowledge base."""
    kb: KnowledgeBase = app.state.service._shared("citekite")
    return kb


@pytest.fixture(scope="module")
def address(app: FastAPI) -> Iterator[str]:
    with serving(app.state.service.settings, app) as url:
        yield url


@pytest.fixture(scope="module")
def remote(address: str) -> Iterator[RemoteKnowledgeBase]:
    with RemoteKnowledgeBase(address) as kb:
        yield kb


def patient(address: str, seconds: float, **values: Any) -> RemoteKnowledgeBase:
    return RemoteKnowledgeBase(address, settings=Settings(timeout=5, retry_seconds=seconds), **values)


# The same objects


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 1, "mode": "lexical"},
        {"filter": Filter(paths="owls.md")},
        {"filter": Filter(where={"lang": ["en", "de"]}, after=date(2024, 5, 1), before=date(2025, 1, 1))},
        {"filter": 'source like "%owls%"'},
    ],
    ids=str,
)
def test_a_search_finds_the_same_hits(
    options: dict[str, Any], remote: RemoteKnowledgeBase, local: KnowledgeBase
) -> None:
    found = remote.search(QUESTION, **options)
    assert found == local.search(QUESTION, **options)
    assert found


def test_hits_keep_the_other_places_of_their_text(remote: RemoteKnowledgeBase, folder: Path) -> None:
    hit = remote.search(QUESTION, k=1)[0]
    sources = {Path(chunk.source).relative_to(folder).as_posix() for chunk in (hit.chunk, *hit.others)}
    assert sources == {"kites.md", "copy/kites.md"}


def test_an_answer_is_the_same_with_its_citations(remote: RemoteKnowledgeBase, local: KnowledgeBase) -> None:
    answer = remote.ask(QUESTION)
    assert answer == local.ask(QUESTION)
    assert answer.citations


def test_the_events_of_an_answer_are_the_same(remote: RemoteKnowledgeBase, local: KnowledgeBase) -> None:
    history = [Turn("What nests in barns?", "The barn owl [1].")]
    events = list(remote.ask_stream("And in trees?", history=history))
    assert events == list(local.ask_stream("And in trees?", history=history))
    assert isinstance(events[0], Retrieved)
    assert isinstance(events[-1], Done)


def test_documents_come_page_by_page(
    remote: RemoteKnowledgeBase, local: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "PAGE", 2)
    assert remote.documents() == local.documents()


def test_status_count_and_a_document_are_the_same(remote: RemoteKnowledgeBase, local: KnowledgeBase) -> None:
    assert remote.status() == local.status()
    assert remote.count() == local.count()
    id = local.documents()[0].id
    assert remote.document(id) == local.document(id)


def test_a_question_that_is_no_unicode_is_asked_as_well_as_on_the_database(
    remote: RemoteKnowledgeBase, local: KnowledgeBase
) -> None:
    question = "red kite caf\udce9?"
    assert remote.search(question) == local.search(question)


# The same errors


def test_errors_of_the_knowledge_base_keep_their_class_and_words(
    address: str, remote: RemoteKnowledgeBase, local: KnowledgeBase
) -> None:
    with RemoteKnowledgeBase(address, collection="missing") as kb, pytest.raises(UnknownCollection, match="'missing'"):
        kb.status()
    with pytest.raises(UnknownDocument) as theirs:
        remote.document("nothing")
    with pytest.raises(UnknownDocument) as ours:
        local.document("nothing")
    assert str(theirs.value) == str(ours.value)
    with pytest.raises(FilterError):
        remote.search(QUESTION, filter="no such field ==")
    with pytest.raises(SettingsError, match="the request cannot be used"):
        remote.search("a" * 20_001)


def test_more_passages_than_a_server_gives_are_refused_in_words(remote: RemoteKnowledgeBase) -> None:
    assert len(remote.search(QUESTION, k=remote_module.MOST_HITS)) > 2
    with pytest.raises(SettingsError, match="k=101 is too many: a server gives 100 passages"):
        remote.search(QUESTION, k=101)
    with pytest.raises(ValidationError):
        SearchBody(question=QUESTION, k=remote_module.MOST_HITS + 1)


def test_an_error_before_the_answer_is_its_last_event(address: str) -> None:
    with RemoteKnowledgeBase(address, collection="missing") as kb:
        (failed,) = kb.ask_stream(QUESTION)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, UnknownCollection)


# What can be wrong with a server


def stand_in(path: str, *replies: Any) -> FastAPI:
    """An application that answers a path with these, one after the other, and the last again and again."""
    app, left = FastAPI(), list(replies)

    @app.api_route(path, methods=["GET", "POST"])
    def reply(request: Request) -> Any:
        app.state.authorization = request.headers.get("authorization")
        return left.pop(0) if len(left) > 1 else left[0]

    return app


def problem(title: str, status: int, **headers: str) -> JSONResponse:
    return JSONResponse({"title": title, "status": status, "detail": f"{title} it is"}, status, headers)


STATUS = "/api/v1/status"
ANSWER = "/api/v1/ask/stream"


def test_no_server_is_an_error_that_names_the_address() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with (
        RemoteKnowledgeBase(address) as kb,
        pytest.raises(ServerError, match=f"no citekite server answers at {address}"),
    ):
        kb.status()


def test_an_address_that_is_none_is_a_setting_that_cannot_be_used() -> None:
    with pytest.raises(SettingsError, match="the address of the server cannot be 'http://host:no'"):
        RemoteKnowledgeBase("http://host:no")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (PlainTextResponse("<html>", 502), "answered 502 Bad Gateway, and not as a citekite server does"),
        (PlainTextResponse("hello"), "answered in a form that citekite .* cannot read"),
        (JSONResponse({"name": "x"}), "answered in a form that citekite .* cannot read"),
        (
            problem("Not Found", 404),
            "/api/v1/status is not there: give the address of a citekite server, without a path",
        ),
        (RedirectResponse("https://elsewhere/"), "redirects to https://elsewhere/: give that address"),
    ],
    ids=["proxy", "text", "other JSON", "path", "redirect"],
)
def test_another_server_is_told_from_ours(reply: Any, words: str) -> None:
    with (
        serving(Settings(), stand_in(STATUS, reply)) as address,
        RemoteKnowledgeBase(address) as kb,
        pytest.raises(ServerError, match=words),
    ):
        kb.status()


@pytest.mark.parametrize(("kind", "status"), [(KeyRequired, 401), (AccessDenied, 403)])
def test_a_key_that_is_refused_is_named_as_such_and_not_shown(kind: type[Exception], status: int) -> None:
    app = stand_in(STATUS, problem(kind.__name__, status))
    with (
        serving(Settings(), app) as address,
        RemoteKnowledgeBase(address, "not-to-be-shown") as kb,
        pytest.raises(kind) as raised,
    ):
        kb.status()
    assert app.state.authorization == "Bearer not-to-be-shown"
    assert "not-to-be-shown" not in f"{raised.value!r} {kb!r}"


def test_a_missing_key_is_said_with_the_ways_to_give_one() -> None:
    with (
        serving(Settings(), stand_in(STATUS, problem("KeyRequired", 401))) as address,
        RemoteKnowledgeBase(address) as kb,
        pytest.raises(KeyRequired, match=rf"{address} needs an API key: give it by --key, or set CITEKITE_KEY"),
    ):
        kb.status()


def test_a_busy_server_is_asked_again_after_the_time_it_names(local: KnowledgeBase) -> None:
    from dataclasses import asdict

    busy = problem("ServerBusy", 503, **{"Retry-After": "0.1"})
    limited = problem("RateLimited", 429, **{"Retry-After": "0.1"})
    app = stand_in(STATUS, busy, limited, JSONResponse(asdict(local.status())))
    with serving(Settings(), app) as address, patient(address, 5) as kb:
        assert kb.status() == local.status()


def test_a_server_that_stays_busy_is_given_up(local: KnowledgeBase) -> None:
    app = stand_in(STATUS, problem("ServerBusy", 503, **{"Retry-After": "9"}))
    with (
        serving(Settings(), app) as address,
        patient(address, 1) as kb,
        pytest.raises(ServerBusy, match=r"it wants 9 s of pause"),
    ):
        kb.status()


def test_a_stream_that_breaks_off_is_a_failure_with_what_had_come() -> None:
    delta = 'event: Delta\ndata: {"text": "The red"}\n\n'
    app = stand_in(ANSWER, StreamingResponse(iter([delta]), media_type="text/event-stream"))
    with serving(Settings(), app) as address, RemoteKnowledgeBase(address) as kb:
        events = list(kb.ask_stream(QUESTION))
    assert events[0] == Delta("The red")
    assert isinstance(events[1], Failed)
    assert (events[1].partial, type(events[1].error)) == ("The red", ServerError)


def test_closing_the_events_ends_the_request_to_the_model(folder: Path) -> None:
    with ScriptedEndpoint(pieces=["The red ", *["kite "] * 500], piece_seconds=0.02, models=["m"]) as endpoint:
        settings = Settings(
            uri=str(folder.parent / "closing.db"), embedder="static", base_url=endpoint.base_url, model="m"
        )
        app = create_app(settings)
        app.state.service._shared("citekite").sync(folder)
        with serving(settings, app) as address, RemoteKnowledgeBase(address) as kb:
            events = kb.ask_stream(QUESTION)
            assert any(isinstance(event, Delta) for event in events)
            events.close()  # type: ignore[attr-defined]
            assert endpoint.closed_early.wait(2)


def test_threads_may_share_one(remote: RemoteKnowledgeBase, local: KnowledgeBase) -> None:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(remote.ask(QUESTION))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [answer_json(answer) for answer in answers] == [answer_json(local.ask(QUESTION))] * 4
