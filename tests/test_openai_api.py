"""The OpenAI-compatible endpoint, by OpenAI's own client on a real socket."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI, OpenAI

from citekite.serve.keys import KeyStore
from citekite.serve.openai_api.bodies import ChatBody, Message
from citekite.serve.openai_api.completion import HEADING, sources, without_sources
from citekite.settings import Settings
from citekite.types import Answer, Chunk, Citation, Hit
from scripted_endpoint import Fault, ScriptedEndpoint
from served import serving
from stored import BIRDS, knowledge_base, write

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
TUTORIAL = DATA / "tutorial.md"
QUESTION = "Which tail does the red kite have?"
LION = {"lions.md": "# Lions\n\nThe lion sleeps all day.\n"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openai")


@pytest.fixture(scope="module")
def address(folder: Path, endpoint: ScriptedEndpoint) -> Iterator[str]:
    """A server with a chat model and two collections."""
    uri = folder / "served.db"
    for collection, files in (("citekite", BIRDS), ("lions", LION)):
        with knowledge_base(uri, collection=collection) as kb:
            kb.sync(write(folder / collection, files))
    settings = Settings(
        uri=str(uri), embedder="static", base_url=endpoint.base_url, model="chat", retry_seconds=0, max_streams=4
    )
    with serving(settings) as address:
        yield f"{address}/v1"


def client_of(address: str, key: str = "any") -> OpenAI:
    return OpenAI(api_key=key, base_url=address, timeout=20, max_retries=0)


@pytest.fixture
def keys(folder: Path) -> Iterator[KeyStore]:
    """The keys of the server, which has none before and after a test."""
    store = KeyStore(folder / "served.db.serve")
    yield store
    store.path.unlink()


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[OpenAI]:
    with client_of(address) as client:
        yield client


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_each_collection_is_a_model(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["citekite", "lions"]
    assert client.models.retrieve("lions").id == "lions"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nomic-ai/nomic-embed-text-v1.5")


def test_a_completion_answers_the_last_user_turn_with_its_sources(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="citekite", messages=user(QUESTION), temperature=0.7, max_tokens=5, seed=1, user="me"
    )
    choice = completion.choices[0]
    extra = choice.message.model_extra or {}

    assert (completion.model, choice.finish_reason, len(completion.choices)) == ("citekite", "stop", 1)
    text, _, listed = (choice.message.content or "").partition(HEADING)
    assert "The red kite has a forked tail [2]." in text
    assert re.search(r"^- \[2\] Kites \\> Red kite, .*kites.md:5$", listed, re.MULTILINE), listed
    assert extra["outcome"] == "answered"
    assert extra["citations"][1]["quote"] == "The red kite has a forked tail."
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 0
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_a_stream_says_what_the_completion_says(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="citekite", messages=user(QUESTION))
    chunks = list(
        client.chat.completions.create(
            model="citekite", messages=user(QUESTION), stream=True, stream_options={"include_usage": True}
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    extra = [delta.model_extra for delta in deltas if delta.model_extra]

    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert len(deltas) > 6
    assert deltas[0].role == "assistant"
    assert extra == [whole.choices[0].message.model_extra]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert {(chunk.id, chunk.model, chunk.object) for chunk in chunks} == {
        (chunks[0].id, "citekite", "chat.completion.chunk")
    }


def test_a_stream_tells_its_usage_only_when_asked(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="citekite", messages=user(QUESTION), stream=True))

    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_the_asynchronous_client_streams_too(address: str) -> None:
    async def ask() -> tuple[str, str]:
        async with AsyncOpenAI(api_key="any", base_url=address, max_retries=0) as client:
            whole = await client.chat.completions.create(model="lions", messages=user("When does the lion sleep?"))
            stream = await client.chat.completions.create(
                model="lions", messages=user("When does the lion sleep?"), stream=True
            )
            streamed = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return whole.choices[0].message.content or "", "".join(streamed)

    whole, streamed = asyncio.run(ask())

    assert whole == streamed
    assert "The lion sleeps all day [" in whole


def test_the_history_reaches_the_model_without_the_lists_of_sources(client: OpenAI, endpoint: ScriptedEndpoint) -> None:
    first = client.chat.completions.create(model="citekite", messages=user(QUESTION)).choices[0].message.content
    begin = len(endpoint.received)
    client.chat.completions.create(
        model="citekite",
        messages=[
            {"role": "system", "content": "You are a pirate."},
            *user(QUESTION),
            {"role": "assistant", "content": first},
            {"role": "user", "content": [{"type": "text", "text": "And the"}, {"type": "text", "text": "black one?"}]},
        ],
    )
    rewriting = str(endpoint.received[begin].body["messages"])

    assert QUESTION in rewriting
    assert "And the\\nblack one?" in rewriting
    assert "has a forked tail" in rewriting
    assert "Sources" not in rewriting
    assert "pirate" not in rewriting


def test_a_question_that_nothing_answers_gets_an_ordinary_text(client: OpenAI, endpoint: ScriptedEndpoint) -> None:
    endpoint.pieces = ["The documents do not answer this question."]
    try:
        completion = client.chat.completions.create(model="citekite", messages=user("What does a tram cost?"))
    finally:
        endpoint.pieces = None
    message = completion.choices[0].message

    assert message.content == "The documents do not answer this question."
    assert (message.model_extra or {})["outcome"] == "no_evidence"
    assert completion.choices[0].finish_reason == "stop"


def test_a_name_that_no_collection_can_have_means_the_default_one(client: OpenAI) -> None:
    for name in ("accounts/fireworks/models/llama-v3p1-405b-instruct", "gpt-4.1", "llama3:8b"):
        assert client.chat.completions.create(model=name, messages=user(QUESTION)).model == "citekite"


def test_an_unknown_collection_is_a_model_that_is_not_found(client: OpenAI) -> None:
    for ask in (
        lambda: client.chat.completions.create(model="tigers", messages=user(QUESTION)),
        lambda: client.chat.completions.create(model="tigers", messages=user(QUESTION), stream=True),
        lambda: client.embeddings.create(model="tigers", input="a"),
        lambda: client.models.retrieve("tigers"),
    ):
        with pytest.raises(openai.NotFoundError, match=r"'tigers'.*there are citekite, lions") as caught:
            ask()
        assert (caught.value.type, caught.value.code) == ("UnknownCollection", "model_not_found")


def test_a_key_for_one_collection_reaches_no_other(address: str, keys: KeyStore) -> None:
    (_, for_birds), (_, for_lions) = (keys.create(name, "admin", collections=[name]) for name in ("citekite", "lions"))
    with client_of(address, for_birds) as birds, client_of(address, for_lions) as lions:
        with pytest.raises(openai.AuthenticationError) as unknown, client_of(address, "sk-wrong") as wrong:
            wrong.models.list()
        assert (unknown.value.type, unknown.value.code) == ("KeyRequired", "invalid_api_key")
        assert [model.id for model in birds.models.list()] == ["citekite"]
        assert lions.chat.completions.create(model="gpt-4.1", messages=user("Who sleeps?")).model == "lions"
        for ask in (
            lambda: birds.chat.completions.create(model="lions", messages=user("Who sleeps?")),
            lambda: birds.embeddings.create(model="lions", input="a"),
            lambda: birds.models.retrieve("lions"),
            lambda: birds.models.retrieve("no_such_collection"),
        ):
            with pytest.raises(openai.PermissionDeniedError) as caught:
                ask()
            assert caught.value.code == "AccessDenied"


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        ("n", {"n": 2}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
        ("response_format", {"response_format": {"type": "json_object"}}),
        ("logprobs", {"logprobs": True}),
        ("modalities", {"modalities": ["text", "audio"]}),
        ("messages", {"messages": []}),
        ("messages", {"messages": [{"role": "system", "content": "Be kind."}]}),
        ("messages", {"messages": [{"role": "user", "content": " "}]}),
        ("messages", {"messages": [{"role": "user", "content": "a" * 20_001}]}),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
    ],
)
def test_what_cannot_be_done_is_a_bad_request_that_names_the_parameter(
    client: OpenAI, parameter: str, values: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "citekite", "messages": user(QUESTION), **values})

    assert (caught.value.param, caught.value.type) == (parameter, "InvalidRequest")


def test_what_clients_send_without_meaning_anything_is_taken(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="citekite",
        messages=user(QUESTION),
        tools=[],
        tool_choice="none",
        n=1,
        response_format={"type": "text"},
        stop=["\n"],
        extra_body={"num_ctx": 4096},
    )
    assert completion.choices[0].message.content


def test_a_refusing_model_endpoint_is_a_server_error_that_is_not_tried_again(
    address: str, endpoint: ScriptedEndpoint
) -> None:
    endpoint.script("/chat/completions", Fault(401, "bad key"), Fault(401, "bad key"))
    begin = len(endpoint.received)
    with OpenAI(api_key="any", base_url=address, max_retries=2) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="citekite", messages=user(QUESTION))
        assert len(endpoint.received) == begin + 1
        with pytest.raises(openai.APIError) as broken:
            list(client.chat.completions.create(model="citekite", messages=user(QUESTION), stream=True))

    assert caught.value.status_code == 502
    assert caught.value.code == broken.value.code == "EndpointDenied"


def test_a_stream_that_breaks_ends_with_the_error(client: OpenAI, endpoint: ScriptedEndpoint) -> None:
    endpoint.script("/chat/completions", Fault(kind="error_event", message="out of memory", after=3))
    stream = iter(client.chat.completions.create(model="citekite", messages=user(QUESTION), stream=True))

    assert all(next(stream).choices for _ in range(3))
    with pytest.raises(openai.APIError, match="out of memory"):
        list(stream)


def test_a_stream_that_the_client_leaves_stops_the_model(client: OpenAI, endpoint: ScriptedEndpoint) -> None:
    endpoint.closed_early.clear()
    endpoint.pieces, endpoint.piece_seconds = ["word "] * 1000, 0.02
    try:
        stream = client.chat.completions.create(model="citekite", messages=user(QUESTION), stream=True)
        for chunk, _ in zip(stream, range(3), strict=False):
            assert chunk.choices
        stream.close()
        assert endpoint.closed_early.wait(1)
    finally:
        endpoint.pieces, endpoint.piece_seconds = None, 0.0


def wait_for_places(address: str, places: int) -> None:
    """Return when the server has so many free places: those of clients that left are free again soon."""
    soon = time.monotonic() + 2
    free = f"\ncitekite_workers_free {places:.1f}\n"
    while free not in (text := httpx2.get(address.removesuffix("/v1") + "/metrics").text):
        assert time.monotonic() < soon, text
        time.sleep(0.01)


def test_a_full_server_says_when_to_come_again_and_has_room_when_its_clients_have_left(
    address: str, client: OpenAI, endpoint: ScriptedEndpoint
) -> None:
    wait_for_places(address, 4)
    endpoint.pieces, endpoint.piece_seconds = ["word "] * 1000, 0.02
    streams = []
    try:
        for _ in range(4):
            streams += [client.chat.completions.create(model="citekite", messages=user(QUESTION), stream=True)]
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="citekite", messages=user(QUESTION), stream=True)
        assert (caught.value.status_code, caught.value.code) == (503, "ServerBusy")
        assert caught.value.response.headers["x-should-retry"] == "true"
        assert int(caught.value.response.headers["retry-after"]) >= 1
    finally:
        endpoint.pieces, endpoint.piece_seconds = None, 0.0
        for stream in streams:
            stream.close()
    wait_for_places(address, 4)


def test_embeddings_are_those_of_the_collection_as_numbers_and_packed(client: OpenAI, address: str) -> None:
    texts = ["The red kite has a forked tail.", "A tram."]
    packed = client.embeddings.create(model="citekite", input=texts)  # the client asks for base64 by itself
    numbers = client.embeddings.create(model="citekite", input=texts, encoding_format="float", dimensions=256)
    raw = httpx2.post(
        f"{address}/embeddings", json={"model": "citekite", "input": texts[0], "encoding_format": "base64"}
    ).json()

    assert packed.model == "static:wordllama-l2-supercat-256"
    assert [row.index for row in packed.data] == [0, 1]
    assert [row.embedding for row in packed.data] == [row.embedding for row in numbers.data]
    assert np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), "<f4").tolist() == packed.data[0].embedding
    assert np.linalg.norm(packed.data[0].embedding) == pytest.approx(1, abs=1e-5)
    assert packed.usage.total_tokens > 0


def test_many_texts_keep_their_order(client: OpenAI) -> None:
    texts = [f"text number {number % 700}" for number in range(2048)]
    vectors = [row.embedding for row in client.embeddings.create(model="any-model", input=texts).data]

    assert len(vectors) == 2048
    assert vectors[3] == vectors[703] == client.embeddings.create(model="citekite", input=texts[3]).data[0].embedding


@pytest.mark.parametrize(
    ("values", "parameter"),
    [
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": "a", "dimensions": 100}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_what_cannot_be_embedded_is_a_bad_request(client: OpenAI, values: dict[str, Any], parameter: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(**{"model": "citekite", **values})

    assert caught.value.param == parameter


def test_a_path_that_is_not_there_is_an_error_in_the_same_form(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.moderations.create(input="a")

    assert caught.value.type == "Not Found"


def test_before_the_first_sync_there_is_no_model_and_an_answer_says_how_to_begin(tmp_path: Path) -> None:
    with serving(Settings(uri=str(tmp_path / "new.db"))) as address, client_of(f"{address}/v1") as client:
        assert list(client.models.list()) == []
        assert len(client.embeddings.create(model="text-embedding-3-small", input="a").data[0].embedding) == 256
        for name in ("citekite", "gpt-4.1"):
            with pytest.raises(openai.NotFoundError, match="citekite sync"):
                client.chat.completions.create(model=name, messages=user("What?"))


def test_the_example_of_the_page_runs(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "openai-api.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for example in examples:
        exec(compile(example.replace("http://127.0.0.1:8080/v1", address), "<page>", "exec"), {})

    assert len(examples) == 1
    assert "**Sources**" in capsys.readouterr().out


lines = st.text(max_size=30).filter(lambda text: "**Sources**" not in text)


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), lines), max_size=12), lines)
def test_no_question_of_the_history_is_lost_or_made_up(messages: list[tuple[str, str]], last: str) -> None:
    body = ChatBody(
        model="m",
        messages=[Message(role=role, content=text) for role, text in messages]  # type: ignore[arg-type]
        + [Message(role="user", content=f"Q {last}")],
    )
    question, turns = body.conversation()

    assert question == f"Q {last}".strip()
    assert all(turn.answer in [text for role, text in messages if role == "assistant"] for turn in turns)
    asked = [text for role, text in messages if role == "user"]
    assert "\n".join(asked).startswith("\n".join(turn.question for turn in turns))


@given(st.text(max_size=40), st.text(min_size=1, max_size=40), st.booleans())
def test_the_list_of_sources_comes_off_again_and_holds_one_line_a_citation(title: str, path: str, is_url: bool) -> None:
    source = f"https://a.example/{path}" if is_url else path
    hit = Hit(Chunk("1-1", source, title, 0, 0, 4, "text", (title,)), 1.0, 1, {})
    answer = Answer("q", "Text [1].", (Citation(1, hit, "text", 0, 4, 1),) * 2, (hit,), "answered")
    listed = sources(answer)

    assert without_sources(answer.text + listed) == answer.text
    assert len(listed.removeprefix(HEADING).splitlines()) == 2
    names = re.sub(r"\(<[^<>\s]*>\)$", "", listed.removeprefix(HEADING), flags=re.MULTILINE)
    assert re.search(r"(?<!\\)(?:\\\\)*[<>`*]", names) is None


@pytest.mark.skipif(not TUTORIAL.is_file(), reason="the tutorial is not there")
def test_the_tutorials_own_script_runs_with_another_base_url_and_nothing_else(tmp_path: Path) -> None:
    page = TUTORIAL.read_text(encoding="utf-8")
    blocks = re.findall(r'<code translate="no" class="language-python">(.*?)<button', page, re.DOTALL)
    script = "\n".join(html.unescape(re.sub(r"<[^>]+>", "", block)) for block in blocks)
    theirs = "https://api.fireworks.ai/inference/v1"
    assert script.count(theirs) == 1
    shutil.copytree(DATA / "milvus_docs", tmp_path / "milvus_docs")
    with knowledge_base(tmp_path / "served.db") as kb:
        kb.sync(tmp_path / "milvus_docs")
    with serving(Settings(uri=str(tmp_path / "served.db"), embedder="static")) as address:
        (tmp_path / "script.py").write_text(script.replace(theirs, f"{address}/v1"), encoding="utf-8")
        run = subprocess.run(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            env=dict(os.environ),
        )
    assert run.returncode == 0, run.stderr
    dimension, numbers, rest = run.stdout.split("\n", 2)
    retrieved, end = json.JSONDecoder().raw_decode(rest)
    answer = rest[end:]

    assert (dimension, len(json.loads(numbers))) == ("256", 10)
    assert any(text.strip().startswith("Where does Milvus store data?") for text, _ in retrieved)
    assert "inserted data and metadata" in answer
    assert "**Sources**" in answer
    assert "product\\_faq.md" in answer
