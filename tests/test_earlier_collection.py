"""A collection of an earlier citekite: it serves as it is, and `reindex` brings it up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from citekite.errors import AccessDenied, SettingsError, StoreError
from citekite.store import schema
from citekite.store.milvus import MilvusStore
from citekite.store.record import PROPERTY, SCHEMA_VERSION, CollectionRecord
from stored import BIRDS, knowledge_base, rows, write

# As version 1 wrote it.
RECORD = {
    "counted_chunks": 0,
    "dimension": 256,
    "embedder": "static:wordllama-l2-supercat-256",
    "english_chunks": 0,
    "english_only": True,
    "lexical": False,
    "schema_version": 1,
    "splitter": "",
    "version": "",
}


# The fields that a version did not have yet.
MISSING = {1: {"context", "access"}, 2: {"access"}}


def make_earlier(uri: Path, version: int) -> None:
    """An empty collection as that version made it."""
    from pymilvus import CollectionSchema

    with MilvusStore(str(uri)) as store:
        client = store._connected(create=True)
        fields, indexes = schema.build(client, 256, lexical=False)
        earlier = CollectionSchema([field for field in fields.fields if field.name not in MISSING[version]])
        record = json.dumps({**RECORD, "schema_version": version})
        client.create_collection("citekite__1", schema=earlier, properties={PROPERTY: record})
        client.create_index("citekite__1", indexes)
        client.create_alias("citekite__1", "citekite")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("birds") / "docs", BIRDS)


@pytest.fixture
def uri(tmp_path: Path, folder: Path) -> Path:
    make_earlier(tmp_path / "citekite.db", version=1)
    return tmp_path / "citekite.db"


def fields(uri: Path) -> set[str]:
    """The fields of the generation that the name stands for."""
    with MilvusStore(str(uri)) as store:
        description: dict[str, Any] = store._connected().describe_collection(
            f"citekite__{store.generation('citekite')}"
        )
    return {field["name"] for field in description["fields"]}


def test_earlier_collection_is_searched_changed_and_brought_up_to_date(uri: Path, folder: Path) -> None:
    with knowledge_base(uri) as kb:
        assert kb.sync(folder).added == 7
        assert kb.search("What does the barn owl hunt?", k=1)[0].chunk.context == ""
        assert kb.ask("What does the barn owl hunt?").citations
        assert kb.remove(folder / "owls.md") == 2
        assert kb.sync(folder).added == 2
    assert "context" not in fields(uri)
    stored = rows(uri)

    with knowledge_base(uri, contextual=True, base_url="http://127.0.0.1:9/v1", model="m") as kb:
        with pytest.raises(SettingsError, match="no field for contexts: `citekite reindex` adds it"):
            kb.sync(folder)
        kb.reindex()
    assert "context" in fields(uri)
    assert rows(uri) == stored
    with knowledge_base(uri) as kb:
        assert kb.sync(folder).unchanged == 3
        assert kb.collection().record.schema_version == SCHEMA_VERSION


@pytest.mark.parametrize("version", MISSING)
def test_collection_without_access_lists_is_for_everyone_until_a_reindex(
    tmp_path: Path, folder: Path, version: int
) -> None:
    make_earlier(tmp_path / "citekite.db", version)
    with knowledge_base(tmp_path / "citekite.db") as kb:
        kb.sync(folder, access="everyone")
        staff = kb.restricted_to(["hr"])
        assert staff.count() == kb.count() == 7
        assert staff.ask("What does the barn owl hunt?").citations
        for attempt in (lambda: kb.sync(folder, access=["hr"]), lambda: staff.sync(folder)):
            with pytest.raises(SettingsError, match="no field for access lists: `citekite reindex` adds it"):
                attempt()
        with pytest.raises(AccessDenied):
            staff.remove(folder)
        kb.reindex()
        report = kb.sync(folder, access=["hr"])
        assert (report.changed, report.updated, report.texts) == (3, 7, 0)
        assert kb.restricted_to([]).count() == 0
        assert staff.count() == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({**RECORD, "schema_version": SCHEMA_VERSION + 1}), "made by a newer citekite .*upgrade citekite"),
        (json.dumps({**RECORD, "more": 1}), "made by a newer citekite"),
        ("", "not made by citekite"),
        ("[]", "not made by citekite"),
        ("{}", "not made by citekite"),
    ],
)
def test_record_that_cannot_be_read_is_told(text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        CollectionRecord.from_json(text, "birds")
