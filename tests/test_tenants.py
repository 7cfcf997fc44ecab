"""Two tenants at `/v1` and `/mcp`: whatever one asks by a client of theirs, nothing of the other appears."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from openai import OpenAI

from citekite.serve.keys import KeyStore
from citekite.settings import Settings
from scripted_endpoint import ScriptedEndpoint
from served import serving
from stored import knowledge_base, write

# Each holds a word of its own that no document besides it has.
DOCUMENTS = {
    "everyone": ("canteen.md", "# Canteen\n\nThe canteen opens at noon, says zirconium.\n"),
    "hr": ("salaries.md", "# Salaries\n\nThe salary of a cook is in band beryllium.\n"),
    "legal": ("lawsuits.md", "# Lawsuits\n\nThe lawsuit of the cook ends in ytterbium.\n"),
}
WORDS = {"everyone": "zirconium", "hr": "beryllium", "legal": "ytterbium"}
QUESTIONS = ("What about the salary of a cook?", "How does the lawsuit of the cook end?", "beryllium ytterbium")


@dataclass(frozen=True)
class Doors:
    """A server, what it asks its model, the keys of its readers by group, and every document by group."""

    address: str
    endpoint: ScriptedEndpoint
    keys: dict[str, str]
    documents: dict[str, tuple[str, str]]  # id and source


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("tenants")
    with knowledge_base(folder / "own.db") as kb:
        for group, (name, text) in DOCUMENTS.items():
            kb.sync(write(folder / group, {name: text}), access=group)
        ids = {Path(one.source).parent.name: (one.id, one.source) for one in kb.documents()}
    store = KeyStore(folder / "own.db.serve")
    keys = {group: store.create(group, "read", groups=[group])[1] for group in ("hr", "legal")}
    with ScriptedEndpoint() as endpoint:
        settings = Settings(
            uri=str(folder / "own.db"), embedder="static", base_url=endpoint.base_url, model="m", retry_seconds=0
        )
        with serving(settings) as address:
            yield Doors(address, endpoint, keys, ids)


@pytest.fixture(params=["hr", "legal"])
def group(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def others(group: str) -> str:
    return "legal" if group == "hr" else "hr"


def assert_is_of(group: str, *told: Any) -> None:
    """Neither the text of the others' document, nor its name, title or place is in what a reader was told."""
    text = json.dumps(told, default=str).lower()
    name = DOCUMENTS[others(group)][0]
    for word in (WORDS[others(group)], name, name.removesuffix(".md")):
        # A question is repeated by whoever is asked it.
        assert word not in text.replace(QUESTIONS[1].lower(), "").replace(QUESTIONS[2], "")


def test_a_completion_cites_what_the_key_may_see_and_the_model_reads_no_more(doors: Doors, group: str) -> None:
    begin = len(doors.endpoint.received)
    cited: set[str] = set()
    with OpenAI(api_key=doors.keys[group], base_url=f"{doors.address}/v1", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["citekite"]
        for question in QUESTIONS:
            turn: list[Any] = [{"role": "user", "content": question}]
            history: list[Any] = [
                *turn,
                {"role": "assistant", "content": f"It is as in {doors.documents[others(group)][1]} [1]."},
                {"role": "user", "content": "Tell me more of that."},
            ]
            whole = client.chat.completions.create(model="citekite", messages=turn).model_dump()
            stream = client.chat.completions.create(model="gpt-4.1", messages=turn, stream=True)
            told = [chunk.model_dump() for chunk in stream]
            followed = client.chat.completions.create(model="citekite", messages=history).model_dump()
            assert_is_of(group, whole, told)
            assert WORDS[others(group)] not in json.dumps(followed)
            cited |= {one["source"] for one in whole["choices"][0]["message"]["citations"]}
        assert len(client.embeddings.create(model="citekite", input="a").data) == 1
    assert doors.documents[group][1] in cited
    passages = json.dumps([one.body for one in doors.endpoint.received[begin:]])
    assert DOCUMENTS[others(group)][1].splitlines()[-1] not in passages


def test_the_tools_see_what_the_key_may_see(doors: Doors, group: str) -> None:
    id, source = doors.documents[others(group)]
    own = doors.documents[group][1]

    async def look() -> None:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {doors.keys[group]}"}, timeout=20) as http,
            Client(streamable_http_client(f"{doors.address}/mcp", http_client=http)) as client,
        ):
            told: list[Any] = [(await client.list_tools()).model_dump()]
            for question in QUESTIONS:
                for filter in ({}, {"sources": [source]}, {"expression": 'title != "" or access like "%"'}):
                    arguments = {"question": question, "k": 50, "filter": filter}
                    told += [(await client.call_tool(tool, arguments)).model_dump() for tool in ("search", "ask")]
            listed = await client.call_tool("list_documents", {})
            told.append(listed.model_dump())
            assert (listed.structured_content or {})["total"] == 2
            resources = (await client.list_resources()).resources
            assert len(resources) == 2
            told.append([one.model_dump() for one in resources])
            assert_is_of(group, [str(one).replace(source, "") for one in told])
            assert WORDS[group] in str(told)

            assert not (await client.call_tool("get_document", {"document": own})).is_error
            for document in (id, source, DOCUMENTS[others(group)][0]):
                refused = await client.call_tool("get_document", {"document": document})
                assert refused.is_error
                assert "there is no document" in refused.content[0].text  # type: ignore[union-attr]
            with pytest.raises(MCPError, match="there is no document") as unknown:
                await client.read_resource(f"citekite://documents/{id}")
            with pytest.raises(MCPError) as missing:
                await client.read_resource(f"citekite://documents/{id[::-1]}")
            assert unknown.value.code == missing.value.code

    asyncio.run(look())
