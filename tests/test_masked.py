"""The copy of a collection in which the headings of questions are hidden."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from citekite import KnowledgeBase
from citekite.errors import SourceError
from citekite.evaluate.masked import Mask, masked, without_heading
from citekite.evaluate.question import Question
from citekite.types import Chunk
from stored import BIRDS, knowledge_base, write

UNDERLINED = """\
Falcons
=======

Peregrine falcon
----------------

It dives at prey.

### In towns

It nests on towers.
"""


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeBase]:
    folder = tmp_path_factory.mktemp("masked")
    write(folder / "docs", {**BIRDS, "falcons.md": UNDERLINED})
    with knowledge_base(folder / "birds.db") as kb:
        kb.sync(folder / "docs")
        yield kb


@pytest.fixture(scope="module")
def copy(birds: KnowledgeBase) -> Iterator[KnowledgeBase]:
    """Hidden: the heading of a section with a section below it, a title, another heading; left out: a section."""
    questions = [
        hide("Falcons", "Peregrine falcon", source="falcons.md"),
        hide("Owls", source="owls.md"),
        hide("Kites", "Red kite", source=source_of(birds, "kites.md")),
        hide("Eagles", "Golden eagle", source="deep/eagles.md", answerable=False),
    ]
    with masked(birds, questions) as kb:
        yield kb


def source_of(kb: KnowledgeBase, name: str) -> str:
    return next(document.source for document in kb.documents() if document.source.endswith(f"/{name}"))


def hide(*heading: str, source: str, answerable: bool = True) -> Question:
    return Question("q", heading[-1], answerable=answerable, heading=heading, source=source)


def held(kb: KnowledgeBase, name: str = "") -> dict[str, Chunk]:
    chunks = sorted(kb.collection().all_chunks(), key=lambda chunk: (chunk.source, chunk.start))
    return {chunk.id: chunk for chunk in chunks if chunk.source.endswith(name)}


def test_a_hidden_heading_is_in_no_path_and_no_text(copy: KnowledgeBase) -> None:
    assert [(chunk.headings, chunk.text) for chunk in held(copy, "falcons.md").values()] == [
        (("Falcons",), UNDERLINED[:15]),
        (("Falcons",), "It dives at prey."),
        (("Falcons", "In towns"), "### In towns\n\nIt nests on towers."),
    ]


def test_offsets_and_lines_are_those_of_the_text_that_is_left(birds: KnowledgeBase, copy: KnowledgeBase) -> None:
    documents = {document.source: Path(document.source).read_text() for document in birds.documents()}

    for chunk in held(copy).values():
        text = documents[chunk.source]
        assert text[chunk.start : chunk.end] == chunk.text
        assert text.count("\n", 0, chunk.start) + 1 == chunk.line


def test_a_section_without_an_answer_is_left_out_whole(copy: KnowledgeBase) -> None:
    assert [chunk.headings for chunk in held(copy, "eagles.md").values()] == [("Eagles",)]


def test_a_hidden_title_leaves_the_chunk_too(copy: KnowledgeBase) -> None:
    owls = held(copy, "owls.md").values()

    assert [(chunk.title, chunk.headings) for chunk in owls] == [("", ("Barn owl",))]  # the lone title is dropped


def test_only_what_changed_is_embedded_and_the_rest_keeps_its_vector(birds: KnowledgeBase, copy: KnowledgeBase) -> None:
    before, after = held(birds), held(copy)
    old, new = birds.collection().vectors(list(before)), copy.collection().vectors(list(before))

    changed = {id for id in after if after[id] != before[id]}
    assert {id for id in new if abs(old[id] - new[id]).max() > 1e-6} == changed
    assert {before[id].headings[-1] for id in changed} == {"Peregrine falcon", "In towns", "Barn owl", "Red kite"}


def test_the_copy_searches_with_the_settings_of_the_original(tmp_path: Path) -> None:
    write(tmp_path / "docs", BIRDS)
    with knowledge_base(tmp_path / "birds.db", k=2, mode="lexical", collection="birds") as kb:
        kb.sync(tmp_path / "docs")
        with masked(kb, [hide("Kites", "Red kite", source="kites.md")]) as copy:
            hits = copy.search("kite")
            assert copy.collection().record.mostly_english == kb.collection().record.mostly_english
    assert [set(hit.legs) for hit in hits] == [{"lexical"}] * 2


def test_without_headings_there_is_no_copy(birds: KnowledgeBase) -> None:
    with masked(birds, [Question("1", "Who hunts voles?", sources=("owls.md",))]) as kb:
        assert kb is birds


def test_a_document_that_is_not_there_is_an_error_with_its_question(birds: KnowledgeBase) -> None:
    with (
        pytest.raises(SourceError, match=r"question 'q' was made of a heading of 'ravens.md'"),
        masked(birds, [hide("Ravens", source="ravens.md")]),
    ):
        pass


def test_a_heading_that_is_gone_is_an_error(birds: KnowledgeBase) -> None:
    with (
        pytest.raises(SourceError, match=r"owls.md has no heading 'Owls > Snowy owl' in this collection"),
        masked(birds, [hide("Owls", "Snowy owl", source="owls.md")]),
    ):
        pass


def test_two_headings_of_one_path_are_both_hidden() -> None:
    chunk = Chunk("1-a-0", "/a.md", "A", 0, 0, 16, "### C\n\nThe text.", headings=("A", "B", "C"))
    mask = Mask.of([hide("A", "B", source="/a.md"), hide("A", "B", "C", source="/a.md")], ["/a.md"])

    hidden = mask.apply(chunk)

    assert hidden is not None
    assert (hidden.headings, hidden.text, hidden.start) == (("A",), "The text.", 7)


def test_a_text_that_does_not_begin_with_the_heading_stays() -> None:
    chunk = Chunk("1-a-0", "/a.md", "A", 0, 5, 27, "the second part of it.", headings=("A", "B"))

    assert without_heading(chunk, "B") is chunk
