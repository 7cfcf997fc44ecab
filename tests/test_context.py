"""What of the documents reaches an answer, on the embedded database and on a server: grown passages, each text once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from citekite import KnowledgeBase, render
from citekite.cli import show
from citekite.events import Retrieved
from citekite.retrieve.expand import places_beside
from commands import citekite
from stored import knowledge_base, milvus_server, write

NOTICE = "# Notice\n\nThe notice period is three months for everyone who works here."
FILLER = "It is so in summer and in winter, for guests and for staff, as it has been for very many years in this house."
DOCUMENTS = {
    "staff/notice.md": NOTICE,
    "old/notice.md": f"Kept for the record.\n\n{NOTICE}",
    "holidays.md": "# Holidays\n\nEveryone has 30 days of holidays, to be taken until March.",
    "guide.md": "\n\n".join(
        [
            "# Guide",
            f"The office opens at eight. {FILLER}",
            f"The lift is out of order on Mondays. {FILLER}",
            f"Parking costs nothing for bicycles. {FILLER}",
            f"The canteen serves soup at noon. {FILLER}",
            "## Contact",
            "Ask the porter.",
        ]
    ),
}
PARKING = "What does parking cost?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("docs"), DOCUMENTS)


@pytest.fixture(scope="module", params=["embedded", "server"])
def kb(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> Iterator[KnowledgeBase]:
    data = tmp_path_factory.mktemp("data") / "context.db"
    if request.param == "embedded":
        with knowledge_base(data, chunk_characters=200) as opened:
            opened.sync(folder)
            yield opened
    else:
        with milvus_server(data) as uri, knowledge_base(uri, chunk_characters=200) as opened:
            opened.sync(folder)
            yield opened


def test_a_search_gives_plain_chunks_and_an_answer_grown_ones(kb: KnowledgeBase) -> None:
    best, *_ = kb.search(PARKING)
    assert best.chunk.text == f"Parking costs nothing for bicycles. {FILLER}"
    retrieved, *_ = kb.ask_stream(PARKING, k=1)
    assert isinstance(retrieved, Retrieved)
    (passage,) = retrieved.hits
    text = DOCUMENTS["guide.md"]
    assert passage.chunk.text == text[: text.index("\n\n## Contact")] == text[passage.chunk.start : passage.chunk.end]
    assert (passage.rank, passage.score, passage.legs) == (1, best.score, best.legs)


def test_a_citation_in_a_grown_passage_points_into_the_document(kb: KnowledgeBase) -> None:
    (citation,) = kb.ask("When does the canteen serve soup?", k=1).citations
    assert "The canteen serves soup at noon." in citation.quote
    text = DOCUMENTS["guide.md"]
    assert text[citation.start : citation.end] == citation.quote
    assert citation.line == text.count("\n", 0, citation.start) + 1


def test_the_same_text_in_two_documents_is_one_hit_and_another_takes_its_place(kb: KnowledgeBase) -> None:
    hits = kb.search("How long is the notice period?", k=2)
    assert len(hits) == 2
    assert len({hit.chunk.text for hit in hits}) == 2
    (other,) = hits[0].others
    assert {Path(chunk.source).parent.name for chunk in (hits[0].chunk, other)} == {"staff", "old"}
    assert other.text == hits[0].chunk.text
    assert f"    also in Notice, {other.source}:{other.line}\n" in show.show_hit(hits[0])
    assert [place["source"] for place in render.hit_json(hits[0])["also"]] == [other.source]


def test_a_citation_names_every_place_of_its_words(kb: KnowledgeBase, folder: Path) -> None:
    answer = kb.ask("How long is the notice period?", k=2)
    citation = next(one for one in answer.citations if "three months" in one.quote)
    (also,) = citation.also
    for place in (citation, also):
        chunk = place.hit.chunk
        text = Path(chunk.source).read_text()
        assert text[place.start : place.end] == place.quote == citation.quote
        assert place.line == text.count("\n", 0, place.start) + 1
    assert f"\n    also in Notice, {also.hit.chunk.source}:{also.line}" in str(answer)
    assert render.citation_json(citation)["also"] == [
        {
            "chunk_id": also.hit.chunk.id,
            "source": also.hit.chunk.source,
            "title": "Notice",
            "headings": list(also.hit.chunk.headings),
            "start": also.start,
            "end": also.end,
            "line": also.line,
            "page": None,
        }
    ]


def test_chunks_are_found_by_their_place(kb: KnowledgeBase) -> None:
    (hit,) = kb.search(PARKING, k=1)
    collection = kb.collection()
    found = collection.at(places_beside([hit]))
    guide = [chunk for chunk in collection.all_chunks() if chunk.source == hit.chunk.source]
    assert sorted(chunk.ordinal for chunk in found) == sorted(chunk.ordinal for chunk in guide)
    assert {chunk.id for chunk in found} == {chunk.id for chunk in guide}
    assert collection.at({hit.chunk.source: [999], "/none.md": [0]}) == []
    assert collection.at({}) == []


def test_the_command_shows_where_else_the_text_stands(tmp_path: Path) -> None:
    write(tmp_path / "docs", DOCUMENTS)
    assert citekite(tmp_path, "sync", "docs").returncode == 0
    run = citekite(tmp_path, "ask", "How long is the notice period?")
    assert "    also in Notice, docs/" in run.stdout
