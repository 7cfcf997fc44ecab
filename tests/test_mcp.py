"""MCP by its official client: over HTTP on a real socket, over stdio with a real process."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from citekite.errors import SettingsError
from citekite.serve.keys import KeyStore
from citekite.serve.mcp.tools import LONGEST_TEXT, lines_of
from citekite.serve.principal import SCOPES
from citekite.settings import Settings
from commands import citekite, command
from forked import environment
from scripted_endpoint import Fault, ScriptedEndpoint
from served import serving
from stored import BIRDS, knowledge_base, write

LION = {"lions.md": "# Lions\n\nThe lion sleeps all day.\n"}
QUESTION = "Which tail does the red kite have?"
Mode = Literal["auto", "legacy"]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of two collections, one like it that no server has open, and further documents."""
    folder = tmp_path_factory.mktemp("mcp")
    for collection, files in (("citekite", BIRDS), ("lions", LION)):
        with knowledge_base(folder / "served.db", collection=collection) as kb:
            kb.sync(write(folder / collection, files))
    for suffix in ("db", "db.index"):
        shutil.copytree(folder / f"served.{suffix}", folder / f"birds.{suffix}")
    write(folder / "more", {"swans.md": "# Swans\n\nThe mute swan hisses.\n"})
    return folder


@pytest.fixture(scope="module")
def address(folder: Path, endpoint: ScriptedEndpoint) -> Iterator[str]:
    """A server with a chat model."""
    settings = Settings(
        uri=str(folder / "served.db"), embedder="static", base_url=endpoint.base_url, model="chat", retry_seconds=0
    )
    with serving(settings) as address:
        yield address


@asynccontextmanager
async def over_http(address: str, key: str = "any", mode: Mode = "auto") -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=20) as http:
        transport = streamable_http_client(f"{address}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


@asynccontextmanager
async def over_stdio(folder: Path, *arguments: str, mode: Mode = "auto", **variables: str) -> AsyncIterator[Client]:
    program, *rest = command("mcp", "--uri", str(folder / "birds.db"), *arguments)
    parameters = StdioServerParameters(command=program, args=rest, env=environment(**variables), cwd=folder)
    async with Client(parameters, mode=mode, read_timeout_seconds=30) as client:
        yield client


def call(address: str, name: str, arguments: dict[str, Any], key: str = "any") -> Any:
    """The result of one call over HTTP."""

    async def run() -> Any:
        async with over_http(address, key) as client:
            return await client.call_tool(name, arguments)

    return asyncio.run(run())


def text_of(result: Any) -> str:
    return "\n".join(part.text for part in result.content)


def values_of(result: Any) -> dict[str, Any]:
    assert not result.is_error, text_of(result)
    values: dict[str, Any] = result.structured_content
    return values


async def walk_through(client: Client) -> None:
    """What an agent does: look at the tools, search, ask, read, list, and read a resource."""
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools) == ["search", "ask", "get_document", "list_documents"]
    assert all(tool.description and tool.output_schema and tool.annotations for tool in tools.values())
    assert tools["search"].input_schema["properties"]["k"]["description"]

    found = await client.call_tool("search", {"question": QUESTION, "k": 2})
    hits = values_of(found)["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert "The red kite has a forked tail." in text_of(found)
    assert "kites.md:" in text_of(found)

    answer = await client.call_tool("ask", {"question": QUESTION})
    assert values_of(answer)["outcome"] == "answered"
    assert values_of(answer)["citations"]
    assert "forked tail" in text_of(answer)
    assert "Sources\n[" in text_of(answer)

    by_id = await client.call_tool("get_document", {"document": hits[0]["document_id"]})
    by_source = await client.call_tool(
        "get_document", {"document": values_of(by_id)["source"], "first_line": 3, "last_line": 5}
    )
    assert values_of(by_id)["text"].startswith("# Kites\n\n## Red kite")
    assert values_of(by_source)["text"] == "## Red kite\n\nThe red kite has a forked tail."
    assert "lines 3-5 of 9" in text_of(by_source)

    page = values_of(await client.call_tool("list_documents", {"query": "EAGLE", "limit": 1}))
    assert (page["total"], [one["title"] for one in page["documents"]]) == (1, ["Eagles"])

    listed = (await client.list_resources()).resources
    assert len(listed) == 3
    templates = (await client.list_resource_templates()).resource_templates
    assert [template.uri_template for template in templates] == ["citekite://documents/{id}"]
    content = (await client.read_resource(f"citekite://documents/{hits[0]['document_id']}")).contents[0]
    assert content.text == values_of(by_id)["text"]  # type: ignore[union-attr]


async def meet_failures(client: Client) -> None:
    """Each failure is an error that says what it is; nothing found is none."""
    for name, arguments, reason in (
        ("search", {"question": QUESTION, "collection": "tigers"}, "tigers"),
        ("search", {"question": QUESTION, "filter": {"expression": "no such thing ("}}, "filter"),
        ("search", {"question": ""}, "question"),
        ("search", {"question": "a", "k": 51}, "k: "),
        ("search", {"query": "a"}, "query"),
        ("ask", {"question": QUESTION, "collection": "tigers"}, "tigers"),
        ("get_document", {"document": "nowhere.md"}, "nowhere.md"),
        ("get_document", {"document": "nowhere.md", "first_line": 0}, "first_line"),
        ("list_documents", {"collection": "tigers"}, "tigers"),
        ("sync", {"sources": ["https://example.org/"]}, "mcp_sync"),
    ):
        result = await client.call_tool(name, arguments)
        assert result.is_error, (name, arguments)
        assert reason in text_of(result), text_of(result)
    with pytest.raises(MCPError, match="there is no tool 'destroy'"):
        await client.call_tool("destroy", {})
    for uri in ("citekite://documents/none", "file:///etc/passwd"):
        with pytest.raises(MCPError, match=uri.rpartition("/")[2]):
            await client.read_resource(uri)

    nothing = await client.call_tool("search", {"question": "a", "filter": {"paths": ["*.none"]}})
    assert (values_of(nothing)["hits"], "Nothing in the documents" in text_of(nothing)) == ([], True)
    none = await client.call_tool("list_documents", {"query": "zebra"})
    assert (values_of(none)["total"], "'zebra'" in text_of(none)) == (0, True)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("check", [walk_through, meet_failures])
def test_over_http(address: str, check: Callable[[Client], Awaitable[None]], mode: Mode) -> None:
    async def run() -> None:
        async with over_http(address, mode=mode) as client:
            await check(client)

    asyncio.run(run())


def test_over_stdio(folder: Path) -> None:
    async def run() -> None:
        async with over_stdio(folder) as client:
            await walk_through(client)
            await meet_failures(client)

    asyncio.run(run())


def test_stdio_says_nothing_but_the_protocol_and_ends_with_its_input(folder: Path) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
    parameters = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    run = citekite(
        folder, "mcp", "--uri", "nowhere.db", stdin=json.dumps({**request, "params": parameters}) + "\nnot json\n"
    )
    replies = [json.loads(line) for line in run.stdout.splitlines()]

    assert run.returncode == 0, run.stderr
    assert replies[0]["result"]["serverInfo"]["name"] == "citekite"
    assert all(reply["jsonrpc"] == "2.0" for reply in replies)
    assert not (folder / "nowhere.db").exists()


def test_a_wrong_setting_is_said_before_the_protocol_begins(folder: Path) -> None:
    run = citekite(folder, "mcp", "-k", "0")

    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("citekite: setting 'k'")


def test_before_the_first_sync_every_tool_says_how_to_begin(tmp_path: Path) -> None:
    with serving(Settings(uri=str(tmp_path / "new.db"))) as address:
        for name, arguments in (
            ("search", {"question": "a"}),
            ("ask", {"question": "a"}),
            ("get_document", {"document": "a"}),
            ("list_documents", {}),
        ):
            result = call(address, name, arguments)
            assert result.is_error
            assert "citekite sync" in text_of(result)


def test_a_key_for_one_collection_reaches_no_other(address: str, folder: Path) -> None:
    owl = values_of(call(address, "list_documents", {"query": "owl"}))["documents"][0]
    keys = KeyStore(folder / "served.db.serve")
    _, key = keys.create("lions", "admin", collections=["lions"])
    try:
        own = call(address, "search", {"question": "Who sleeps?"}, key)
        others = [
            call(address, "search", {"question": QUESTION, "collection": collection}, key)
            for collection in ("citekite", "no_such_one")
        ]

        async def read() -> None:
            async with over_http(address, key) as client:
                assert [one.name for one in (await client.list_resources()).resources] == ["Lions"]
                with pytest.raises(MCPError):
                    await client.read_resource(f"citekite://documents/{owl['id']}")

        asyncio.run(read())
        assert httpx2.post(f"{address}/mcp", json={}).status_code == 401
    finally:
        keys.path.unlink()
    assert "The lion sleeps" in text_of(own)
    for other in others:
        assert other.is_error
        assert "not for the collection" in text_of(other)


def test_an_answer_that_breaks_off_is_an_error_with_what_had_come(address: str, endpoint: ScriptedEndpoint) -> None:
    endpoint.script("/chat/completions", Fault(kind="cut", after=2))
    result = call(address, "ask", {"question": QUESTION})
    assert result.is_error
    reason, _, partial = text_of(result).partition("The answer broke off; until then it said:")
    assert "Ask again" in reason
    assert partial.strip()


def test_what_the_tools_do_is_counted_as_that_of_the_other_ways_in(address: str) -> None:
    def counted() -> dict[str, float]:
        lines = httpx2.get(f"{address}/metrics").text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    before = counted()
    call(address, "ask", {"question": QUESTION})
    call(address, "ask", {"question": QUESTION, "collection": "tigers"})
    call(address, "search", {"question": QUESTION})
    after = counted()
    for name in (
        'citekite_answers_total{outcome="answered"}',
        'citekite_answers_total{outcome="failed"}',
        'citekite_stage_seconds_count{stage="generate"}',
        'citekite_stage_seconds_count{stage="dense"}',
    ):
        assert after[name] == before.get(name, 0) + 1, name
    assert after['citekite_tokens_total{kind="prompt"}'] > before.get('citekite_tokens_total{kind="prompt"}', 0)


def test_there_are_no_sessions_that_another_key_could_use(address: str) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
    parameters = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    reply = httpx2.post(
        f"{address}/mcp",
        json={**message, "params": parameters},
        headers={"Accept": "application/json, text/event-stream"},
    )

    assert reply.status_code == 200
    assert "mcp-session-id" not in reply.headers


def test_sync_is_there_where_it_is_allowed_for_those_who_may(folder: Path, tmp_path: Path) -> None:
    sources = {"sources": [str(folder / "more")]}
    keys = KeyStore(tmp_path / "own.db.serve")
    reader, writer, admin = (keys.create(scope, scope)[1] for scope in SCOPES)

    async def names(address: str, key: str) -> list[str]:
        async with over_http(address, key) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    with serving(Settings(uri=str(tmp_path / "own.db"), embedder="static", mcp_sync=True)) as address:
        assert "sync" not in asyncio.run(names(address, reader))
        assert "sync" in asyncio.run(names(address, writer))
        refused = [text_of(call(address, "sync", sources, key)) for key in (reader, writer)]
        done = call(address, "sync", sources, admin)
        found = call(address, "search", {"question": "What does the swan do?"}, admin)
        missing = call(address, "sync", {"sources": [str(folder / "not-there")]}, admin)
        jobs = httpx2.get(f"{address}/api/v1/jobs", headers={"Authorization": f"Bearer {admin}"}).json()["jobs"]
    audit = [json.loads(line) for line in (tmp_path / "own.db.serve" / "audit.jsonl").read_text().splitlines()]

    assert ["needs 'write'" in refused[0], "need the scope admin" in refused[1]] == [True, True]
    assert (values_of(done)["new"], "1 new" in text_of(done)) == (1, True)
    assert "hisses" in text_of(found)
    assert missing.is_error
    assert "not-there" in text_of(missing)
    assert [(job["kind"], job["state"], job["key"]) for job in jobs] == [
        ("sync", "failed", "admin"),
        ("sync", "done", "admin"),
    ]
    assert [(line["name"], line["action"], line["outcome"]) for line in audit] == [
        ("read", "mcp sync", "AccessDenied"),
        ("write", "mcp sync", "AccessDenied"),
        ("admin", "mcp sync", "done"),
        ("admin", "mcp sync", "SourceError"),
    ]


def test_several_clients_use_a_database_at_the_same_time(folder: Path) -> None:
    async def run() -> None:
        async with over_stdio(folder, mode="legacy") as first, over_stdio(folder) as second:
            calls = [client.call_tool("search", {"question": QUESTION}) for client in (first, second)]
            assert [text_of(found) for found in await asyncio.gather(*calls) if found.is_error] == []

    asyncio.run(run())


@pytest.fixture
def slow(endpoint: ScriptedEndpoint) -> Iterator[ScriptedEndpoint]:
    """The model endpoint, which now takes 20 s for an answer."""
    endpoint.received.clear()
    endpoint.closed_early.clear()
    endpoint.pieces, endpoint.piece_seconds = ["word "] * 1000, 0.02
    yield endpoint
    endpoint.pieces, endpoint.piece_seconds = None, 0.0


async def asking(client: Client, endpoint: ScriptedEndpoint) -> asyncio.Task[Any]:
    """A call that has got as far as the model."""
    call = asyncio.ensure_future(client.call_tool("ask", {"question": QUESTION}))
    while not endpoint.requests("/chat/completions"):
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    return call


def test_a_cancelled_call_stops_the_model_over_http(address: str, slow: ScriptedEndpoint) -> None:
    async def run() -> None:
        async with over_http(address) as client:
            (await asking(client, slow)).cancel()
            assert await asyncio.to_thread(slow.closed_early.wait, 2)

    asyncio.run(run())


def test_a_client_that_leaves_stops_the_model_in_the_earlier_protocol_too(address: str, slow: ScriptedEndpoint) -> None:
    async def run() -> None:
        async with over_http(address, mode="legacy") as client:
            (await asking(client, slow)).cancel()

    asyncio.run(run())
    assert slow.closed_early.wait(2)


def test_a_cancelled_call_stops_the_model_over_stdio(folder: Path, slow: ScriptedEndpoint) -> None:
    async def run() -> None:
        model = ("--embedder", "static", "--base-url", slow.base_url, "--model", "chat")
        async with over_stdio(folder, *model, mode="legacy") as client:
            (await asking(client, slow)).cancel()
            assert await asyncio.to_thread(slow.closed_early.wait, 2)

    asyncio.run(run())


@given(st.lists(st.text(max_size=20), min_size=1, max_size=30), st.integers(1, 40), st.none() | st.integers(1, 40))
def test_lines_read_one_range_after_the_other_are_the_document(lines: list[str], first: int, last: int | None) -> None:
    if first > len(lines) or (last is not None and last < first):
        with pytest.raises(SettingsError):
            lines_of(lines, first, last)
        return
    text, end = lines_of(lines, first, last)

    assert text == "\n".join(lines[first - 1 : end])
    assert end == min(last or len(lines), len(lines))


def test_a_long_document_comes_in_several_calls_and_a_long_line_is_cut() -> None:
    lines = [str(number) * 2000 for number in range(10)] * 10
    read: list[str] = []
    while len(read) < len(lines):
        text, end = lines_of(lines, len(read) + 1, None)
        assert len(text) <= LONGEST_TEXT
        read += text.split("\n")
        assert len(read) == end

    assert read == lines
    assert lines_of(["x" * (2 * LONGEST_TEXT), "y"], 1, None) == ("x" * LONGEST_TEXT, 1)
