"""What citekite relies on, alike on Milvus Lite in this process, on its server, and on a standalone Milvus server.

The standalone server is Milvus 2.3.5, which has no full text search: what needs that is left out there, and the test
says so. Each database is filled once; the tests read it, or a collection of their own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from citekite import KnowledgeBase
from citekite.errors import (
    FilterError,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    UnknownCollection,
    UnknownDocument,
)
from citekite.store import schema
from citekite.store.collection import Collection
from citekite.store.milvus import MilvusStore
from citekite.store.record import CollectionRecord
from citekite.store.writer import Entry
from citekite.types import Chunk
from scripted_endpoint import ScriptedEndpoint
from stored import BIRDS, MilvusProcess, StandaloneServer, free_port, knowledge_base, write

FILES = {
    **BIRDS,
    "heron.md": "---\nlang: en\nyear: 2020\n---\n# Heron\n\nThe heron is no kite, it wades.\n",
    "staff.md": "# Staff\n\nThe keeper of the owls is paid monthly.\n",
}
CHUNKS = 9


@dataclass(frozen=True)
class Database:
    """A database, how it is reached, and a folder whose documents are in its collection `birds`."""

    kind: str
    settings: dict[str, Any]
    folder: Path
    has_lexical: bool = True
    has_infix: bool = True
    token: str = field(default="", repr=False)

    def open(self, collection: str = "birds", **values: Any) -> KnowledgeBase:
        return knowledge_base(**{**self.settings, "collection": collection, **values})

    def store(self) -> MilvusStore:
        return MilvusStore(self.settings["uri"], token=self.settings.get("token", ""))


@pytest.fixture(scope="module", params=["embedded", "served", "standalone"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    data = tmp_path_factory.mktemp(request.param)
    folder = write(data / "docs", FILES)
    if request.param == "embedded":
        yield _filled(Database("embedded", {"uri": str(data / "birds.db")}, folder))
    elif request.param == "served":
        with MilvusProcess(data / "birds.db") as server:
            yield _filled(Database("served", {"uri": server.uri}, folder))
    else:
        if importlib.util.find_spec("milvus") is None:
            pytest.skip("no standalone server here: pip install milvus==2.3.5 (Linux, x86-64)")
        try:
            server = StandaloneServer(data / "server")
        except TimeoutError as error:
            pytest.skip(f"the standalone server does not start here: {error}")
        with server as standalone:
            settings = {"uri": standalone.uri, "token": standalone.TOKEN}
            yield _filled(Database("standalone", settings, folder, has_lexical=False, has_infix=False))


def _filled(database: Database) -> Database:
    with database.open() as kb:
        assert kb.sync(database.folder).new == len(FILES)
        kb.sync(database.folder / "staff.md", access=["hr"])
    return database


@pytest.fixture(scope="module")
def kb(database: Database) -> Iterator[KnowledgeBase]:
    with database.open() as kb:
        yield kb


@pytest.fixture(scope="module")
def collection(kb: KnowledgeBase) -> Collection:
    return kb.collection()


def _lexical_needed(database: Database) -> None:
    if not database.has_lexical:
        pytest.skip(f"the {database.kind} server has no full text search")


def _names(hits: Any) -> set[str]:
    return {Path(hit.chunk.source).name for hit in hits}


# Reading


def test_dense_search_finds_and_ranks(kb: KnowledgeBase) -> None:
    hits = kb.search("Which bird hunts voles at night?", mode="dense", k=CHUNKS)
    assert hits[0].chunk.text == "## Barn owl\n\nThe barn owl hunts voles at night."
    assert len(hits) == CHUNKS
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_lexical_search_finds_stems(database: Database, kb: KnowledgeBase) -> None:
    _lexical_needed(database)
    assert kb.search("hunted vole", mode="lexical")[0].chunk.title == "Owls"


def test_without_full_text_search_hybrid_is_dense_and_lexical_is_refused(database: Database, kb: KnowledgeBase) -> None:
    if database.has_lexical:
        pytest.skip("there is full text search")
    assert all(set(hit.legs) == {"dense"} for hit in kb.search("kite", mode="hybrid"))
    with pytest.raises(StoreError, match=r"no full text search \(Milvus 2.5 or newer\): use --mode dense"):
        kb.search("kite", mode="lexical")


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('metadata["lang"] == "en" and metadata["year"] > 2000', {"heron.md"}),
        ('array_contains(headings, "Golden eagle")', {"eagles.md"}),
        ("ordinal >= 2", {"kites.md"}),
        ('title in ["Owls", "Heron"]', {"owls.md", "heron.md"}),
        ('title == "Nothing"', set()),
        ('source like "%kites%"', {"kites.md"}),
    ],
)
def test_filters_mean_the_same(database: Database, kb: KnowledgeBase, expression: str, names: set[str]) -> None:
    if '"%' in expression and not database.has_infix:
        with pytest.raises(FilterError, match="unsupported pattern"):
            kb.search("kite", filter=expression)
        return
    for mode in ("dense", "lexical") if database.has_lexical else ("dense",):
        found = kb.search("the kite, the owl, the eagle and the heron", k=20, filter=expression, mode=mode)
        assert _names(found) == names, mode


@pytest.mark.parametrize("expression", ["colour == 3", "source ===", 'source like "unfinished'])
def test_a_filter_that_milvus_refuses_is_named(kb: KnowledgeBase, expression: str) -> None:
    with pytest.raises(FilterError, match="cannot evaluate the filter") as caught:
        kb.search("kite", filter=expression, mode="dense")
    assert repr(expression) in str(caught.value)


def test_documents_chunks_and_vectors_are_read_as_they_were_stored(kb: KnowledgeBase, collection: Collection) -> None:
    documents = kb.documents()
    assert [Path(document.source).name for document in documents] == sorted(Path(name).name for name in FILES)
    assert collection.count() == sum(document.chunks for document in documents) == CHUNKS
    kites = next(document for document in documents if document.title == "Kites")
    stored = kb.document(kites.source)
    assert kb.document(kites.id) == stored
    assert stored.text.startswith("# Kites")
    assert [chunk.ordinal for chunk in collection.at({kites.source: [2, 0]})] in ([0, 2], [2, 0])
    ids = [chunk.id for chunk in stored.chunks]
    assert [chunk.id for chunk in collection.chunks([ids[1], "unknown", ids[0]])] == [ids[1], ids[0]]
    lengths = [np.linalg.norm(vector) for vector in collection.vectors(ids).values()]
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    assert {entry.chunk.id for entry in collection.entries()} >= set(ids)
    with pytest.raises(UnknownDocument, match=r"'swans\.md'"):
        kb.document("swans.md")


def test_states_tell_what_is_complete(database: Database, collection: Collection) -> None:
    states = collection.states([str(database.folder / "deep")])
    (state,) = states.values()
    digest, *others = {*state.rows.values()}
    assert (others, state.chunks, state.access) == ([], 2, {()})
    assert state.is_complete(digest)


def test_a_reader_sees_what_its_groups_may(database: Database, kb: KnowledgeBase) -> None:
    """A server that cannot evaluate the condition refuses, rather than showing too much or nothing."""
    if not database.has_infix:
        for call in (lambda kb: kb.search("owls"), lambda kb: kb.documents(), lambda kb: kb.count()):
            with pytest.raises(StoreError, match=r"older than 2\.4 and cannot look into access lists"):
                call(kb.restricted_to(["hr"]))
        return
    hr, eng = kb.restricted_to(["hr"]), kb.restricted_to(["eng"])
    assert "staff.md" in _names(hr.search("Who is paid?", k=20))
    assert "staff.md" not in _names(eng.search("Who is paid?", k=20))
    assert (len(hr.documents()), len(eng.documents())) == (len(FILES), len(FILES) - 1)
    assert (hr.count(), eng.count()) == (CHUNKS, CHUNKS - 1)


def test_an_answer_cites(kb: KnowledgeBase) -> None:
    answer = kb.ask("Which bird hunts voles at night?", mode="dense")
    assert "The barn owl hunts voles at night." in answer.text
    assert answer.citations


def test_errors_are_in_words(database: Database) -> None:
    with database.open("elsewhere") as kb:
        for call in (lambda: kb.search("kite"), kb.documents, kb.status, kb.reindex):
            with pytest.raises(UnknownCollection, match=r"'elsewhere'.*birds.*citekite sync"):
                call()
    if database.kind == "standalone":
        with database.open(token="root:wrong") as kb, pytest.raises(StoreDenied, match=r"refused the token.*--token"):
            kb.count()
    if database.kind != "embedded":
        with database.open(database="other") as kb, pytest.raises(UnknownCollection, match="no database 'other'"):
            kb.count()
        with database.open(uri=f"http://127.0.0.1:{free_port()}") as kb, pytest.raises(StoreUnreachable):
            kb.count()


# Writing


def _record(dimension: int) -> CollectionRecord:
    return CollectionRecord("static:test", dimension, english_only=True, splitter="test")


def _entry(number: int, text: str = "A kite.", **values: Any) -> Entry:
    chunk = Chunk(
        id=f"{number:016x}-{number:024x}-0",
        source=f"/docs/{number}.md",
        title=f"Document {number}",
        ordinal=0,
        start=0,
        end=len(text),
        text=text,
        headings=values.pop("headings", ()),
        line=1,
        page=None,
        metadata=values.pop("metadata", {}),
    )
    return Entry(chunk, "digest", 1)


def _vectors(count: int, dimension: int = 4) -> Any:
    return np.eye(dimension, dtype=np.float32)[np.arange(count) % dimension]


def test_limits_are_those_of_bytes_and_every_text_comes_back(database: Database) -> None:
    """At each limit that is checked before writing, the strictest server takes what passes the check."""
    wide = "貓" * (schema.MAX_VARCHAR // 3)
    entries = [
        _entry(0, wide),
        _entry(1, "quotes \" and ' and \\ and \x00 and \U0001f985", metadata={"quote": '"', "list": [1, {"a": None}]}),
        _entry(2, "x", headings=("h" * schema.MAX_HEADING,) * schema.MAX_HEADINGS),
        _entry(3, "y", metadata={"long": "m" * (schema.MAX_METADATA - 20)}),
    ]
    with database.store() as store:
        collection = store.create("limits", _record(4))
        with collection.writing() as writer:
            writer.upsert(entries, _vectors(4))
        found = {entry.chunk.id: entry.chunk for entry in collection.entries()}
        store.drop("limits")
    for entry in entries:
        assert found[entry.chunk.id] == entry.chunk


def test_more_rows_than_an_answer_of_the_server_may_hold_are_read(database: Database) -> None:
    """1,500 rows of 4 KB are more than the standalone server gives at once; their ids are not."""
    size = 1_500
    with database.store() as store:
        collection = store.create("wide", _record(4))
        with collection.writing() as writer:
            writer.upsert([_entry(number, "· " * 1_300) for number in range(size)], _vectors(size))
        assert len({chunk.id for chunk in collection.all_chunks()}) == size
        assert sum(len(state.rows) for state in collection.states(["/docs/"]).values()) == size
        store.drop("wide")


def test_writing_replaces_deletes_and_is_one_writers_at_a_time(database: Database) -> None:
    with database.store() as store:
        collection = store.create("written", _record(4))
        assert store.generation("written") == 1
        with collection.writing() as writer:
            writer.upsert([_entry(n) for n in range(6)], _vectors(6))
            writer.upsert([_entry(0, "Another text.")], _vectors(1))
            writer.delete([_entry(5).chunk.id, "unknown"])
            if database.kind != "embedded":
                with pytest.raises(StoreError, match="another sync writes"), collection.writing() as second:
                    second.delete(["unknown"])
        first = collection.record.version
        assert collection.count() == 5
        assert {chunk.text for chunk in collection.all_chunks()} == {"A kite.", "Another text."}
        assert collection.search_dense(_vectors(1)[0], 2, "")[0][1] == pytest.approx(1)
        with collection.writing() as writer:
            writer.set_tuned(lexical_weight=0.3, k=7, abstain_threshold=None)
        again = store.open("written")
        assert again.record.tuned == {"lexical_weight": 0.3, "k": 7}
        assert again.record.version != first
        store.drop("written")
        assert "written" not in store.names()


def test_a_small_life(database: Database, tmp_path: Path) -> None:
    """Sync, remove, another sync, a reindex with another embedder, an answer."""
    folder = write(tmp_path / "docs", BIRDS)
    with database.open("life") as kb:
        assert kb.sync(folder).new == 3
        assert kb.sync(folder).unchanged == 3
        assert kb.remove(folder / "deep") == 2
        write(folder, {"owls.md": "# Owls\n\n## Barn owl\n\nThe barn owl sleeps by day.\n"})
        report = kb.sync(folder, prune=True)
        assert (report.new, report.changed, report.unchanged) == (1, 1, 1)
        assert (kb.count(), report.deleted) == (7, 1)
    with ScriptedEndpoint(dimension=48) as endpoint:
        api = {"embedder": "api", "base_url": endpoint.base_url, "embedding_model": "m", "api_key": "k"}
        with database.open("life", **api) as kb:
            assert kb.reindex() == 7
            assert (kb.status().dimension, kb.count()) == (48, 7)
            assert kb.sync(folder).unchanged == 3
            assert kb.search("the owl sleeps", mode="dense")
            assert kb.status().collections.count("life") == 1
            kb.drop()
        with database.open("life") as kb, pytest.raises(UnknownCollection):
            kb.count()
