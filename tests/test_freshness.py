"""A search finds what was written last, whoever wrote it, and asks Milvus no more than it must."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from citekite import Filter, KnowledgeBase
from citekite.errors import StoreError, UnknownCollection
from citekite.ports import Vectors
from citekite.store.milvus import MilvusStore
from citekite.store.writer import Entry
from stored import BIRDS, knowledge_base, milvus_server, write

WREN = {"wrens.md": "# Wrens\n\n## Wren\n\nThe wren sings loudly.\n"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with milvus_server(tmp_path_factory.mktemp("server") / "data.db") as uri:
        yield uri


@pytest.fixture(params=["embedded", "server"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("server") if request.param == "server" else str(tmp_path / "birds.db")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "docs", BIRDS)


def titles(kb: KnowledgeBase, question: str, **options: Any) -> set[str]:
    return {hit.chunk.title for hit in kb.search(question, mode="lexical", **options)}


class CountingClient:
    """Milvus' client, which names the calls that are made."""

    def __init__(self, client: Any) -> None:
        self.calls: list[str] = []
        self._client = client

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._client, name)


def count_calls(kb: KnowledgeBase) -> list[str]:
    """The calls to Milvus that the knowledge base makes from now on."""
    collection = kb.collection()
    client = CountingClient(collection._client)
    collection._client = collection._rows.client = client
    return client.calls


def test_a_search_makes_one_call_to_milvus_and_a_question_two(folder: Path, tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "birds.db") as kb:
        kb.sync(folder)
        by_path = Filter(paths="*.md")
        kb.search("owl", filter=by_path)
        calls = count_calls(kb)
        kb.search("owl")
        assert calls == ["query"]
        calls.clear()
        kb.search("owl", filter=by_path)
        assert calls == ["query"], "sources and admitted ids are known from the search before"
        calls.clear()
        kb.ask("What does the barn owl hunt?")
        assert calls == ["query", "query"]


def test_what_another_object_writes_is_found_at_once(uri: str, folder: Path) -> None:
    with (
        knowledge_base(uri, collection="shared") as reader,
        knowledge_base(uri, collection="shared") as writer,
    ):
        reader.sync(folder)
        everywhere, below = Filter(paths="*.md"), Filter(paths="docs/*.md")
        assert titles(reader, "wren owl", filter=everywhere) == titles(reader, "wren owl") == {"Owls"}
        write(folder, WREN)
        assert writer.sync(folder).new == 1
        for kb in (reader, writer):
            assert titles(kb, "wren owl") == {"Wrens", "Owls"}
            assert titles(kb, "wren owl", filter=everywhere) == {"Wrens", "Owls"}
        (folder / "owls.md").unlink()
        writer.sync(folder, prune=True)
        assert titles(reader, "wren owl", filter=below) == titles(reader, "wren owl") == {"Wrens"}


def test_two_objects_share_the_index_of_an_embedded_database(folder: Path, tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "birds.db") as one, knowledge_base(tmp_path / "birds.db") as other:
        one.sync(folder)
        titles(other, "owl")
        write(folder, WREN)
        other.sync(folder)
        files = [path for path in (tmp_path / "birds.db.index").rglob("*") if path.is_file()]
        times = {path: path.stat().st_mtime_ns for path in files}
        for kb in (one, other, one, other):
            assert titles(kb, "wren") == {"Wrens"}
        assert {path: path.stat().st_mtime_ns for path in files} == times, "nobody had to make it anew"


def changes(kb: KnowledgeBase, title: str) -> tuple[list[Entry], Vectors]:
    """What stores one more chunk, with an id of its own, beside the first of the collection."""
    collection = kb.collection()
    entry = next(collection.entries())
    chunk = replace(entry.chunk, id=f"another-{title}", title=title, text=f"The {title} sings.")
    return [Entry(chunk, entry.digest, entry.chunks)], collection.vectors([entry.chunk.id])[entry.chunk.id][None]


def test_search_goes_on_while_another_object_writes(folder: Path, tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "birds.db") as reader, knowledge_base(tmp_path / "birds.db") as other:
        reader.sync(folder)
        entries, vectors = changes(other, "dodo")
        with other.collection().writing() as writer:
            writer.upsert(entries, vectors)
            assert titles(reader, "barn owl") == {"Owls"}
            assert titles(reader, "barn owl", filter=Filter(paths="*.md")) == {"Owls"}
            assert titles(reader, "dodo") == set(), "the lexical leg has it with the end of the sync"
        assert titles(reader, "dodo") == {"dodo"}
        assert titles(reader, "dodo", filter=Filter(paths="*.md")) == {"dodo"}


def test_search_waits_for_no_sync_of_its_own_object(folder: Path, tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "birds.db") as kb:
        kb.sync(folder)
        write(folder, WREN)
        reached, go_on = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            reached.set()
            assert go_on.wait(20)

        thread = threading.Thread(target=kb.sync, args=(folder,), kwargs={"report": hold})
        thread.start()
        try:
            assert reached.wait(20)
            assert titles(kb, "barn owl") == {"Owls"}
        finally:
            go_on.set()
            thread.join()
        assert titles(kb, "wren") == {"Wrens"}


def test_second_writer_in_one_process_is_refused(uri: str, folder: Path) -> None:
    with knowledge_base(uri, collection="two") as one, knowledge_base(uri, collection="two") as other:
        one.sync(folder)
        entries, vectors = changes(one, "dodo")
        with one.collection().writing() as writer:
            writer.upsert(entries, vectors)
            with pytest.raises(StoreError, match="another sync"):
                other.remove(folder)
        assert other.remove(folder) > 0


def test_write_that_fails_leaves_an_index_that_is_made_anew(folder: Path, tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "birds.db") as one, knowledge_base(tmp_path / "birds.db") as other:
        one.sync(folder)
        entries, vectors = changes(one, "dodo")

        def fail() -> None:
            with one.collection().writing() as writer:
                writer.upsert(entries, vectors)
                raise StoreError("on purpose")

        with pytest.raises(StoreError, match="on purpose"):
            fail()
        for kb in (other, one):
            assert titles(kb, "dodo") == {"dodo"}
        assert one.remove(folder) > 0


def test_index_that_cannot_be_written_is_told_in_words(folder: Path, tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "birds.db") as kb:
        kb.sync(folder)
        entries, vectors = changes(kb, "dodo")

        def lose_the_folder() -> None:
            with kb.collection().writing() as writer:
                writer.upsert(entries, vectors)
                (tmp_path / "birds.db.index").rename(tmp_path / "gone")

        with pytest.raises(StoreError, match="search index"):
            lose_the_folder()
        assert titles(kb, "dodo") == {"dodo"}


def test_search_follows_a_reindex_by_another_object(uri: str, folder: Path) -> None:
    with knowledge_base(uri, collection="moved") as reader:
        reader.sync(folder)
        assert titles(reader, "barn owl") == {"Owls"}
        with knowledge_base(uri, collection="moved") as other:
            other.reindex()
        for mode in ("lexical", "dense"):
            assert reader.search("barn owl", k=1, mode=mode)[0].chunk.title == "Owls"
        with MilvusStore(uri) as store:
            store.drop("moved")
        with pytest.raises(UnknownCollection, match="no collection 'moved'"):
            reader.search("barn owl")


def test_writer_keeps_what_another_object_recorded(uri: str, folder: Path) -> None:
    with knowledge_base(uri, collection="tuned") as one, knowledge_base(uri, collection="tuned") as other:
        one.sync(folder)
        before = one.status()
        other.set_tuned(k=3)
        with knowledge_base(uri, collection="tuned", chunk_characters=900) as differently:
            differently.sync(folder)
        between = one.status()
        assert (before.tuned, between.tuned) == ({}, {"k": 3})
        assert between.splitter != before.splitter
        one.sync(write(folder, WREN))
        assert one.status().tuned == {"k": 3}
        assert one.status().splitter == before.splitter
    with MilvusStore(uri) as store:
        assert store.open("tuned").record.k == 3
