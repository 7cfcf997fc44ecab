"""The search index beside the embedded database: both legs by themselves, against Milvus, and when it is gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.ports import Vectors
from citekite.store.milvus import MilvusStore
from citekite.store.record import CollectionRecord
from citekite.store.rows import Reader
from citekite.store.search_index import SearchIndex, Selection, Version
from citekite.store.vector_index import VectorIndex
from citekite.store.writer import Entry
from citekite.types import Chunk

DIMENSION = 4
EVERYTHING = Selection("", list)


def chunk(id: str, text: str, *, ordinal: int = 0, access: tuple[str, ...] = ()) -> Chunk:
    return Chunk(id, "/docs/a.md", "A", ordinal, 0, len(text), text, access=access)


def unit(*values: float) -> Vectors:
    rows = np.array(values, dtype=np.float32).reshape(-1, DIMENSION)
    result: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return result


def along(axis: int) -> Any:
    return np.eye(DIMENSION, dtype=np.float32)[axis]


def write_all(index: SearchIndex, chunks: Sequence[Chunk], vectors: Vectors, version: str) -> None:
    index.begin()
    index.add(chunks, vectors)
    index.commit(Version(version, len(chunks)))


def only(filter: str, admitted: Callable[[], Sequence[str]]) -> Selection:
    return Selection(filter, admitted)


def ids(found: Sequence[tuple[str, float]]) -> list[str]:
    return [id for id, _ in found]


@pytest.fixture
def index(tmp_path: Path) -> SearchIndex:
    return SearchIndex(tmp_path / "index")


def test_index_finds_what_was_added_replaced_and_not_what_was_removed(index: SearchIndex) -> None:
    chunks = [chunk("a", "red kite"), chunk("b", "black kite"), chunk("c", "barn owl")]
    write_all(index, chunks, np.eye(3, DIMENSION, dtype=np.float32), "1")
    assert set(ids(index.search_lexical("kite", 9, EVERYTHING))) == {"a", "b"}
    assert ids(index.search_dense(along(1), 1, EVERYTHING)) == ["b"]
    index.begin()
    index.add([chunk("a", "golden eagle")], along(3)[np.newaxis])
    index.remove(["b", "never there"])
    index.commit(Version("2", 2))
    assert index.search_lexical("kite", 9, EVERYTHING) == []
    assert ids(index.search_lexical("eagle", 9, EVERYTHING)) == ["a"]
    assert index.search_dense(along(3), 9, EVERYTHING) == [("a", 1.0), ("c", 0.0)]


def test_index_is_current_for_its_version_and_size_alone(index: SearchIndex, tmp_path: Path) -> None:
    assert not index.open(Version("1", 0))
    index.begin()
    index.add([chunk("a", "red kite")], unit(1, 0, 0, 0))
    assert not index.open(Version("1", 1)), "not before the commit"
    index.commit(Version("1", 1))
    for reader in (index, SearchIndex(tmp_path / "index")):
        assert reader.open(Version("1", 1))
        assert ids(reader.search_dense(along(0), 9, EVERYTHING)) == ["a"]
        assert not reader.open(Version("2", 1))
        assert not reader.open(Version("1", 2))


def test_filter_is_asked_once_for_each_expression_reader_and_version(index: SearchIndex) -> None:
    write_all(index, [chunk("a", "red kite"), chunk("b", "black kite")], np.eye(2, DIMENSION, dtype=np.float32), "1")
    asked: list[str] = []

    def admitted() -> list[str]:
        asked.append("b")
        return ["b"]

    for expression in ("x == 1", "x == 1", "x == 2", "x == 1"):
        assert ids(index.search_lexical("kite", 9, only(expression, admitted))) == ["b"]
        assert ids(index.search_dense(along(0), 9, only(expression, admitted))) == ["b"], "both legs share the answer"
    assert len(asked) == 2
    index.search_dense(along(0), 9, Selection("x == 1", admitted, Reader(["hr"])))
    assert len(asked) == 3
    index.begin()
    index.add([chunk("c", "whistling kite")], unit(1, 1, 0, 0))
    index.commit(Version("2", 3))
    index.search_lexical("kite", 9, only("x == 1", admitted))
    assert len(asked) == 4


def test_filter_does_not_change_a_score(index: SearchIndex) -> None:
    write_all(index, [chunk("a", "red kite"), chunk("b", "black kite of the north")], unit(1, 0, 0, 0, 3, 4, 0, 0), "1")
    everything = dict(index.search_lexical("kite", 9, EVERYTHING))
    assert index.search_lexical("kite", 9, only("f", lambda: ["b"])) == [("b", pytest.approx(everything["b"]))]
    assert index.search_lexical("kite", 9, only("nothing", list)) == []
    assert index.search_dense(along(1), 9, only("f", lambda: ["b"])) == [("b", pytest.approx(0.8))]
    assert index.search_dense(along(1), 9, only("nothing", list)) == []


def test_query_syntax_in_a_question_is_text(index: SearchIndex) -> None:
    write_all(index, [chunk("a", "red kite")], unit(1, 0, 0, 0), "1")
    assert ids(index.search_lexical('kite" AND (id:zzz OR -*) ~^2', 9, EVERYTHING)) == ["a"]


def test_a_search_sees_what_was_committed_last_while_a_writer_is_at_work(index: SearchIndex) -> None:
    write_all(index, [chunk("a", "red kite")], unit(1, 0, 0, 0), "1")
    index.begin()
    index.add([chunk("b", "black kite")], unit(1, 0, 0, 0))
    index.remove(["a"])
    assert ids(index.search_dense(along(0), 9, EVERYTHING)) == ["a"]
    index.prepare()
    assert ids(index.search_dense(along(0), 9, EVERYTHING)) == ["a"]
    index.commit(Version("2", 1))
    assert ids(index.search_dense(along(0), 9, EVERYTHING)) == ["b"]


def test_what_was_given_up_is_not_found_and_leaves_no_stamp(index: SearchIndex) -> None:
    write_all(index, [chunk("a", "red kite")], unit(1, 0, 0, 0), "1")
    index.begin()
    index.add([chunk("b", "black kite")], unit(1, 0, 0, 0))
    index.abandon()
    assert not index.is_ready
    assert not index.open(Version("1", 1))
    batches = [([chunk("c", "whistling kite")], unit(0, 1, 0, 0))]
    index.rebuild(batches, Version("1", 1))
    assert ids(index.search_dense(along(0), 9, EVERYTHING)) == ["c"]


words = st.sampled_from("abcdefgh")
vectors = st.lists(st.integers(-3, 3), min_size=DIMENSION, max_size=DIMENSION)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.tuples(words, vectors, st.sampled_from(["", "hr", "it"])), max_size=4)),
        st.tuples(st.just("remove"), st.lists(words, max_size=3)),
        st.tuples(st.just("commit"), st.none()),
    ),
    max_size=12,
)


@given(changes, vectors, st.integers(1, 9), st.sets(st.sampled_from(["hr", "it"])), st.none() | st.sets(words))
def test_vectors_are_found_as_a_plain_dictionary_finds_them(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[Any],
    question: list[int],
    limit: int,
    groups: set[str],
    allowed: set[str] | None,
) -> None:
    folder = tmp_path_factory.mktemp("vectors")
    index = VectorIndex(folder)
    held: dict[str, tuple[list[int], tuple[str, ...]]] = {}
    index.begin()
    for kind, values in [*steps, ("commit", None)]:
        if kind == "add" and values:
            added = [chunk(id, "text", access=(group,) if group else ()) for id, _, group in values]
            index.add(added, np.array([vector for _, vector, _ in values], dtype=np.float32))
            held |= {id: (vector, (group,) if group else ()) for id, vector, group in values}
        elif kind == "remove":
            index.remove(values)
            held = {id: one for id, one in held.items() if id not in values}
        elif kind == "commit":
            index.prepare()
            index.serve()
            index.begin()
    reader = Reader(groups)
    expected = sorted(
        (
            (id, float(np.dot(vector, question)))
            for id, (vector, access) in held.items()
            if reader.sees(access) and (allowed is None or id in allowed)
        ),
        key=lambda hit: (-hit[1], hit[0]),
    )[:limit]
    chosen = None if allowed is None else index.choosing(sorted(allowed))
    again = VectorIndex(folder)
    assert again.open()
    for one in (index, again):
        chosen = None if allowed is None else one.choosing(sorted(allowed))
        assert one.search(np.array(question, dtype=np.float32), limit, chosen, reader) == expected
    shutil.rmtree(folder)


def test_dead_rows_are_left_out_once_they_are_the_most(tmp_path: Path) -> None:
    index = VectorIndex(tmp_path)
    chunks = [chunk(f"c{number}", "text") for number in range(3_000)]
    numbers = unit(*np.random.default_rng(1).normal(size=3_000 * DIMENSION))
    index.begin()
    index.add(chunks, numbers)
    index.prepare()
    index.serve()
    whole = (tmp_path / "vectors.bin").stat().st_size
    before = index.search(numbers[2_999], 1, None, None)
    index.begin()
    index.remove([one.id for one in chunks[:2_000]])
    index.prepare()
    index.serve()
    assert (tmp_path / "vectors.bin").stat().st_size == whole // 3
    found = index.search(numbers[2_999], 1_500, None, None)
    assert len(found) == 1_000
    assert found[0] == before[0]


def test_dense_hits_are_those_of_milvus(tmp_path: Path) -> None:
    """Exactly, by a flat index; with and without a filter, and after rows were replaced and deleted."""
    random = np.random.default_rng(7)
    numbers = random.normal(size=(400, 32)).astype(np.float32)
    numbers /= np.linalg.norm(numbers, axis=1, keepdims=True)
    chunks = [chunk(f"c{number:03}", f"text {number}", ordinal=number) for number in range(400)]
    record = CollectionRecord(embedder="test", dimension=32, english_only=True, splitter="test")
    with MilvusStore(str(tmp_path / "data.db")) as store:
        collection = store.create("citekite", record)
        with collection.writing() as writer:
            writer.upsert([Entry(one, "digest", 400) for one in chunks], numbers)
        with collection.writing() as writer:
            writer.upsert([Entry(one, "digest", 400) for one in chunks[:50]], numbers[350:])
            writer.delete([one.id for one in chunks[100:150]])
        for question in numbers[::37]:
            for filter in ("", "ordinal >= 20 and ordinal < 300"):
                ours = collection.search_dense(question, 20, filter)
                milvus = collection._rows.search(question, "dense", "IP", 20, filter)
                assert [id for id, _ in ours] == [id for id, _ in milvus]
                assert [score for _, score in ours] == pytest.approx([score for _, score in milvus], abs=1e-5)
