"""Question sets: what a file says is what is asked, and a fault in it is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from citekite.errors import SourceError
from citekite.evaluate.dataset import read_dataset, write_questions
from citekite.evaluate.question import Question
from citekite.evaluate.relevance import gold, holds_passage, is_source, ranked_items
from citekite.types import Hit
from passages import make_hit, make_hits

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "questions.jsonl"
TEXT = st.text(min_size=1).filter(str.strip)


@st.composite
def questions(draw: st.DrawFn, id: str) -> Question:
    if not draw(st.booleans()):
        heading = draw(st.lists(TEXT, max_size=2))
        return Question(id, draw(TEXT), answerable=False, heading=tuple(heading), source="a.md" if heading else "")
    sources = draw(st.lists(TEXT, min_size=1, max_size=3))
    grades = draw(st.lists(st.integers(1, 3), min_size=len(sources), max_size=len(sources)) | st.just([]))
    texts = st.lists(TEXT, max_size=2).map(tuple)
    return Question(id, draw(TEXT), tuple(sources), draw(texts), draw(texts), grades=tuple(grades))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data(), count=st.integers(1, 3))
def test_written_questions_are_read_back(tmp_path: Path, data: st.DataObject, count: int) -> None:
    path = tmp_path / "questions.jsonl"  # written anew by every example
    written = [data.draw(questions(str(number))) for number in range(count)]
    write_questions(path, written)

    assert read_dataset(path).questions == tuple(written)


def test_the_example_set_is_read() -> None:
    found = read_dataset(EXAMPLES)

    assert (found.name, found.corpus, found.left_out) == ("questions", None, 0)
    assert found.questions[0].id == "1"
    assert found.questions[0].sources == ("knowledge/where-data-is-stored.md",)


def test_a_single_text_stands_for_a_list_and_a_chunk_for_a_passage(tmp_path: Path) -> None:
    path = write_lines(tmp_path, {"id": 7, "question": "Who?", "chunk": "It was me.", "answers": "me"})

    assert read_dataset(path).questions == (Question("7", "Who?", passages=("It was me.",), answers=("me",)),)


@pytest.mark.parametrize("mark", [{"answerable": False}, {"unanswerable": True}, {"is_impossible": True}])
def test_a_question_without_an_answer_is_marked_by_any_of_three_keys(tmp_path: Path, mark: dict[str, bool]) -> None:
    opposite = {key: not value for key, value in mark.items()}
    path = write_lines(tmp_path, {"question": "Q", **mark}, {"question": "Q", "answers": "a", **opposite})

    assert [question.answerable for question in read_dataset(path).questions] == [False, True]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "line 2: this is not valid JSON"),
        ("[1]", "line 2: a line is a JSON object"),
        ({"question": "Q", "source": "a.md"}, "nothing says what answers this question"),
        ({"question": "Q", "sourses": ["a.md"]}, "unknown key 'sourses': did you mean 'sources'"),
        ({"question": "Q", "zzz": 1}, "unknown key 'zzz': a question has answerable, answers"),
        ({"question": " ", "sources": ["a.md"]}, "the question is missing"),
        ({"question": 3, "sources": ["a.md"]}, "'question' is a text, not 3"),
        ({"question": "Q", "sources": [""]}, "'sources' is a list of texts, none of them empty"),
        ({"question": "Q", "sources": ["a"], "grades": [1, 2]}, "2 grades for 1 sources"),
        ({"question": "Q", "sources": ["a"], "grades": [0]}, "whole numbers above 0"),
        ({"question": "Q", "sources": ["a"], "answerable": False}, "marked as not answerable, yet has"),
        ({"question": "Q", "sources": ["a"], "answerable": "no"}, "'answerable' is true or false"),
        ({"question": "Q", "unanswerable": 1}, "'unanswerable' is true or false"),
        ({"question": "Q", "answerable": True, "is_impossible": True}, "'answerable' and 'is_impossible' contradict"),
        ({"question": "Q", "is_imposible": True}, "did you mean 'is_impossible'"),
        ({"question": "Q", "sources": ["a"], "heading": ["H"]}, "'heading' needs 'source'"),
        ({"question": "Q", "chunk": "a", "text": "b"}, "'text' says again"),
        ({"question": "Q", "sources": ["a"], "id": "1"}, "two questions with the id '1'"),
    ],
)
def test_a_fault_is_named_by_file_and_line(tmp_path: Path, row: Any, problem: str) -> None:
    path = write_lines(tmp_path, {"id": "1", "question": "Q", "sources": ["a.md"]}, row)

    with pytest.raises(SourceError) as raised:
        read_dataset(path)
    assert str(path) in str(raised.value)
    assert problem in str(raised.value)


def test_a_set_that_is_missing_or_empty_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no question set"):
        read_dataset(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(SourceError, match="has no questions"):
        read_dataset(tmp_path / "empty.jsonl")


def test_a_beir_folder_keeps_grades_and_counts_what_has_no_judgment(tmp_path: Path) -> None:
    beir(tmp_path, test="query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t1\nq1\td3\t0\nq9\td1\t1\n")
    found = read_dataset(tmp_path)

    first, unanswerable = found.questions
    assert gold(first) == {"corpus.jsonl#d1": 2, "corpus.jsonl#d2": 1}
    assert first.answers == ("two",)
    assert (unanswerable.id, unanswerable.answerable, unanswerable.sources) == ("q3", False, ())
    assert found.left_out == 1
    assert found.corpus == tmp_path / "corpus.jsonl"


def test_the_split_of_a_beir_folder_is_chosen(tmp_path: Path) -> None:
    beir(tmp_path, test="q1\td1\t1\n", dev="q2\td2\t1\n")
    assert read_dataset(tmp_path).questions[0].id == "q1"
    assert read_dataset(tmp_path, split="dev").questions[0].id == "q2"
    with pytest.raises(SourceError, match="no split 'train': it has dev, test"):
        read_dataset(tmp_path, split="train")
    (tmp_path / "qrels" / "test.tsv").rename(tmp_path / "qrels" / "other.tsv")
    with pytest.raises(SourceError, match="choose one of dev, other"):
        read_dataset(tmp_path)


def test_a_beir_folder_with_a_fault_names_it(tmp_path: Path) -> None:
    beir(tmp_path, test="query-id\tcorpus-id\tscore\nq1\td1\n")
    with pytest.raises(SourceError, match=r"test\.tsv, line 2: a judgment is query-id"):
        read_dataset(tmp_path)
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "One?"}', encoding="utf-8")
    (tmp_path / "qrels" / "test.tsv").write_text("Q1\td1\t1\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"test\.tsv names no relevant document for any query"):
        read_dataset(tmp_path)
    (tmp_path / "corpus.jsonl").unlink()
    with pytest.raises(SourceError, match=r"has no corpus\.jsonl: a BEIR folder holds"):
        read_dataset(tmp_path)


def test_a_document_counts_once_by_its_best_chunk() -> None:
    question = Question("1", "Q", sources=("b.md",))
    hits = [make_hit("x", source=source) for source in ("/docs/a.md", "/docs/b.md", "/docs/a.md", "/docs/b.md")]

    assert ranked_items(question, hits) == ["/docs/a.md", "b.md"]


def test_near_duplicates_are_found_with_their_hit() -> None:
    question = Question("1", "Q", sources=("copy.md",))
    first, copy = make_hit("x", source="/docs/a.md"), make_hit("x", source="/docs/copy.md")
    hit = Hit(first.chunk, 1.0, 1, {}, others=(copy.chunk,))

    assert ranked_items(question, [hit]) == ["copy.md"]


def test_passages_are_found_by_their_words_whatever_the_splitter() -> None:
    question = Question(
        "1", "Q", passages=("The red kite has a forked tail. It lives on carrion.", "Owls hunt at night.")
    )
    hits = make_hits(
        "Barn owls sleep.", "red kite, forked tail", "IT LIVES\non carrion. the red kite has a forked", "O"
    )

    found = ranked_items(question, hits)
    assert [hits[0].chunk.id, "passage 1"] == [found[0], found[1]]
    assert "passage 2" not in found
    assert gold(question) == {"passage 1": 1, "passage 2": 1}


@given(passage=TEXT, before=st.text(), after=st.text())
def test_a_text_that_contains_the_passage_holds_it(passage: str, before: str, after: str) -> None:
    assert holds_passage(f"{before} {passage} {after}", passage)


@given(name=st.text("abc/", min_size=1).filter(lambda name: not name.startswith(("/", "./"))), folder=st.text("abc/"))
def test_a_source_matches_from_a_slash_on(name: str, folder: str) -> None:
    assert is_source(f"/{folder}/{name}", name)
    assert not is_source(f"/{folder}x{name}", name)


def write_lines(folder: Path, *rows: Any) -> Path:
    path = folder / "set.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def beir(folder: Path, **splits: str) -> None:
    (folder / "qrels").mkdir()
    for name, text in splits.items():
        (folder / "qrels" / f"{name}.tsv").write_text(text, encoding="utf-8")
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "one"}\n', encoding="utf-8")
    queries = [
        {"_id": "q1", "text": "One?", "answers": ["two"], "metadata": {}},
        {"_id": "q2", "text": "Two?"},
        {"_id": "q3", "text": "Three?", "is_impossible": True, "answers": []},
    ]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
