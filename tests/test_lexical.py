"""The lexical leg: analysis, fusion, and the index beside the embedded database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.knowledge_base import KnowledgeBase
from citekite.retrieve.fuse import fuse, lexical_weight, ranked
from citekite.retrieve.lexical import ENGLISH_STOP_WORDS, analyse, english_share, terms
from citekite.store.milvus import MilvusStore
from citekite.types import Chunk, Hit, Leg
from stored import BIRDS, knowledge_base, write

QUESTION = "Which bird hunts voles?"
SCORES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-100, 100), max_size=8)


def chunk(id: str, text: str) -> Chunk:
    return Chunk(id=id, source="birds.md", title="", ordinal=0, start=0, end=len(text), text=text)


# Analysis


@given(st.text())
def test_terms_survive_a_split_at_whitespace(text: str) -> None:
    """The stored string and the terms are the same thing: nothing in a term is a separator."""
    assert analyse(text).split() == terms(text)


@given(st.text(), st.text())
def test_terms_of_two_texts_are_the_terms_of_each(first: str, second: str) -> None:
    assert terms(first + "\n" + second) == terms(first) + terms(second)


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_case_of_a_question_does_not_matter(text: str) -> None:
    assert terms(text.upper()) == terms(text.lower())


def test_forms_of_a_word_share_their_stem_and_most_grams() -> None:
    assert set(terms("indexes")) & set(terms("indexing")) >= {"index", "0ind", "inde", "ndex"}


def test_typing_error_leaves_grams_in_common() -> None:
    assert len(set(terms("consistency")) & set(terms("consistancy"))) >= 5


def test_whole_word_counts_twice() -> None:
    assert terms("milvus").count("milvus") == 2


def test_stop_words_give_no_terms() -> None:
    assert terms(" ".join(ENGLISH_STOP_WORDS)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("向量数据库", ["向量", "量数", "数据", "据库"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("库", ["库"]),
        ("ภาษาไทย", ["ภาษ", "าษา", "ษาไ", "าไท", "ไทย"]),
    ],
)
def test_scripts_without_spaces_give_grams(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_combining_marks_stay_with_their_word() -> None:
    assert terms("हिन्दी")[0] == "हिन्दी"


def test_english_share_tells_english_from_other_languages() -> None:
    english = english_share("The kite is one of the birds that can hang in the air.")
    german = english_share("Der Milan ist einer der Vögel, die in der Luft stehen können.")
    assert english is not None
    assert german is not None
    assert english > 0.3 > 0.12 > german
    assert english_share("...") is None


# Fusion


@given(SCORES, SCORES, st.floats(0, 1))
def test_fused_scores_fall_and_lie_between_0_and_1(a: dict[str, float], b: dict[str, float], weight: float) -> None:
    found = fuse({"a": _leg(a), "b": _leg(b)}, {"a": 1 - weight, "b": weight})
    assert {id for id, _ in found} == a.keys() | b.keys()
    assert found == sorted(found, key=lambda hit: (-hit[1], hit[0]))
    assert all(0 <= score <= 1 + 1e-9 for _, score in found)


@given(SCORES, SCORES)
def test_weight_of_one_is_that_leg_alone(a: dict[str, float], b: dict[str, float]) -> None:
    scores = dict(fuse({"a": _leg(a), "b": _leg(b)}, {"a": 1.0, "b": 0.0}))
    assert all(scores[id] == 0 for id in b.keys() - a.keys())
    for low, high in ((x, y) for x in a for y in a if a[x] <= a[y]):
        assert scores[low] <= scores[high]


@given(SCORES)
def test_fusion_does_not_depend_on_the_scale_of_a_leg(a: dict[str, float]) -> None:
    other = {"a": 1.0, "z": 0.5}
    times_four = {id: 4 * score for id, score in a.items()}  # a power of two, so that nothing is rounded
    weights = {"a": 0.3, "b": 0.7}
    assert fuse({"a": _leg(a), "b": _leg(other)}, weights) == fuse({"a": _leg(times_four), "b": _leg(other)}, weights)


def test_ties_are_in_the_order_of_their_ids() -> None:
    assert [id for id, _ in fuse({"a": _leg({"y": 1.0, "x": 1.0, "z": 1.0})}, {"a": 1.0})] == ["x", "y", "z"]


def test_weak_leg_weighs_less() -> None:
    static = lexical_weight("static:m", english_only=True, mostly_english=True)
    foreign = lexical_weight("static:m", english_only=True, mostly_english=False)
    model = lexical_weight("api:m", english_only=False, mostly_english=False)
    assert model < static < foreign


def _leg(scores: dict[str, float]) -> dict[str, Leg]:
    return ranked(sorted(scores.items(), key=lambda item: (-item[1], item[0])))


# The index beside a database: it is derived, so whatever happens to it, a search finds what Milvus holds


@pytest.fixture
def uri(tmp_path: Path) -> Path:
    folder = write(tmp_path / "docs", BIRDS)
    with knowledge_base(tmp_path / "birds.db") as kb:
        kb.sync(folder)
    return tmp_path / "birds.db"


def lexical(kb: KnowledgeBase, question: str = QUESTION) -> list[Hit]:
    return kb.search(question, mode="lexical")


def _files(uri: Path) -> list[Path]:
    return [path for path in uri.with_name(uri.name + ".index").rglob("*") if path.is_file()]


def _delete(uri: Path) -> None:
    for path in _files(uri):
        path.unlink()


def _delete_stamp(uri: Path) -> None:
    (stamp,) = (path for path in _files(uri) if path.name == "version.json")
    stamp.unlink()


def _delete_segments(uri: Path) -> None:
    for path in _files(uri):
        if "json" not in path.name:
            path.unlink()


def _truncate(uri: Path) -> None:
    for path in _files(uri):
        if path.name != "version.json":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _truncate_segments(uri: Path) -> None:
    for path in _files(uri):
        if "json" not in path.name:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _overwrite(uri: Path) -> None:
    for path in _files(uri):
        path.write_bytes(b"\xff\x00not an index" * 9)


@pytest.mark.parametrize(
    "damage", [_delete, _delete_stamp, _delete_segments, _truncate, _truncate_segments, _overwrite]
)
def test_missing_or_damaged_index_is_made_anew(uri: Path, damage: Callable[[Path], None], tmp_path: Path) -> None:
    with knowledge_base(uri) as kb:
        before = lexical(kb)
    damage(uri)
    with knowledge_base(uri) as kb:
        assert lexical(kb) == before
    damage(uri)
    write(tmp_path / "docs", {"wrens.md": "# Wrens\n\nThe wren sings loudly.\n"})
    with knowledge_base(uri) as kb:
        assert kb.sync(tmp_path / "docs").new == 1
        assert {hit.chunk.title for hit in lexical(kb, "wren owl")} == {"Wrens", "Owls"}


def test_row_deleted_behind_our_back_is_not_found(uri: Path) -> None:
    from pymilvus import MilvusClient

    with knowledge_base(uri) as kb:
        lost, *_ = lexical(kb)
        assert "voles" in lost.chunk.text
        client = MilvusClient(str(uri))
        client.delete("citekite", ids=[lost.chunk.id])
        assert lost.chunk.id not in {hit.chunk.id for hit in lexical(kb)}
        client.close()


def test_index_of_another_content_version_is_not_used(uri: Path, tmp_path: Path) -> None:
    """A database put back from a copy, with as many chunks as the index but others."""
    with MilvusStore(str(uri)) as store:
        collection = store.open("citekite")
        collection.save_record(collection.record.renewed())
    stamp = next(path for path in _files(uri) if path.name == "version.json")
    before = stamp.read_text()
    with knowledge_base(uri) as kb:
        assert lexical(kb)
    assert stamp.read_text() != before


def test_second_search_does_not_build_the_index_again(uri: Path) -> None:
    with knowledge_base(uri) as kb:
        lexical(kb)
        times = {path: path.stat().st_mtime_ns for path in _files(uri)}
        lexical(kb)
    with knowledge_base(uri) as kb:
        lexical(kb)
    assert {path: path.stat().st_mtime_ns for path in _files(uri)} == times
