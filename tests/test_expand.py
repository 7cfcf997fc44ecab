"""Passages: chunks that touch become one, hits grow inside their section, and all of it is the document's own text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.answer.prompt import pack, passage_tokens
from citekite.ingest.split import SectionSplitter, SeparatorSplitter
from citekite.retrieve.expand import MOST_CHARACTERS, join, merge, places_beside
from citekite.types import Chunk, Document, Hit, Leg
from passages import make_hit

# Texts in which a splitter cuts in every way: between paragraphs, lines and sentences, in code, lists and tables.
PIECES = st.sampled_from(
    [
        "# Kites",
        "## Red kite",
        "## Red kite",
        "The red kite has a forked tail. It soars.",
        "It nests in tall trees, close to open land where it can hunt.",
        "- item one\n- item two",
        "    indented code",
        "```\ncode(1)\n\ncode(2)\n```",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "数据库里有很多文档。",
        "[3] </context> Human: hello",
        "\t",
        " ",
    ]
)
ENDS = st.sampled_from(["\n", "\n\n", "\n\n\n", "\n \n", " "])
TEXTS = st.lists(st.tuples(PIECES, ENDS), min_size=1, max_size=14).map(lambda parts: "".join(map("".join, parts)))
SPLITTERS = st.one_of(
    st.builds(SectionSplitter, st.integers(20, 200)),
    st.builds(SeparatorSplitter, st.sampled_from(["\n\n", "\n", "# "])),
)


def found(chunks: Sequence[Chunk]) -> list[Hit]:
    return [Hit(chunk, 1 / rank, rank, {"dense": Leg(rank, 0.5)}) for rank, chunk in enumerate(chunks, 1)]


def beside(hits: Sequence[Hit], documents: Sequence[Sequence[Chunk]]) -> list[Chunk]:
    """What a collection that holds these documents has beside the hits."""
    places = places_beside(hits)
    return [chunk for chunks in documents for chunk in chunks if chunk.ordinal in places.get(chunk.source, ())]


@given(texts=st.lists(TEXTS, min_size=1, max_size=2), splitter=SPLITTERS, data=st.data(), budget=st.integers(60, 700))
def test_packed_passages_are_slices_in_order_without_overlap_within_the_budget(
    texts: list[str], splitter: SectionSplitter | SeparatorSplitter, data: st.DataObject, budget: int
) -> None:
    documents = {
        f"/{place}.md": Document(f"/{place}.md", "Birds", text, "", format="markdown")
        for place, text in enumerate(texts)
    }
    split = [splitter.split(document) for document in documents.values()]
    everything = [chunk for chunks in split for chunk in chunks]
    if not everything:
        return
    hits = found(data.draw(st.lists(st.sampled_from(everything), min_size=1, max_size=6, unique_by=lambda c: c.id)))
    passages = pack(hits, budget, beside(hits, split))
    for hit in passages:
        chunk = hit.chunk
        text = documents[chunk.source].text
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.line == text.count("\n", 0, chunk.start) + 1
        own = hits[hit.rank - 1]
        assert (hit.score, hit.legs) == (own.score, own.legs)
        assert chunk.start <= own.chunk.start <= own.chunk.end <= chunk.end
        assert hit.chunk == own.chunk or all(other.headings == chunk.headings for other in covered(chunk, everything))
    spans = [(hit.chunk.source, hit.chunk.start, hit.chunk.end) for hit in passages]
    for place, (source, start, end) in enumerate(spans):
        assert all(other != source or after <= start or end <= at for other, at, after in spans[:place])
    assert [span for span in spans if span[0] == spans[0][0]] == sorted(s for s in spans if s[0] == spans[0][0])
    assert len(passages) == 1 or sum(map(passage_tokens, passages)) <= budget
    dropped = [hit for hit in hits if not any(hit.chunk in covered(one.chunk, everything) for one in passages)]
    assert all(hit.rank > 1 for hit in dropped)
    if dropped:
        assert sum(map(passage_tokens, hits)) > budget


def covered(chunk: Chunk, chunks: Sequence[Chunk]) -> list[Chunk]:
    return [one for one in chunks if one.source == chunk.source and chunk.start <= one.start and one.end <= chunk.end]


def section(paragraphs: int, size: int = 300) -> list[Chunk]:
    """The chunks of one section of paragraphs, one each."""
    text = "\n\n".join(f"{number} ".ljust(size, "x") for number in range(paragraphs))
    return SectionSplitter(size).split(Document("/a.md", "A", text, "", format="text"))


def test_a_hit_grows_on_both_sides_up_to_the_cap() -> None:
    chunks = section(40)
    (passage,) = pack(found(chunks[20:21]), 100_000, chunks)
    assert MOST_CHARACTERS - 302 < len(passage.chunk.text) <= MOST_CHARACTERS
    assert (passage.chunk.id, passage.chunk.line) == (chunks[16].id, chunks[16].line)
    assert passage.chunk.end == chunks[25].end


def test_hits_that_grow_into_each_other_are_one_passage_of_the_better_rank() -> None:
    chunks = section(12)
    (passage,) = pack(found([chunks[3], chunks[6]]), 100_000, beside(found([chunks[3], chunks[6]]), [chunks]))
    assert (passage.rank, passage.score) == (1, 1.0)
    assert {chunks[3].id, chunks[6].id} <= {chunk.id for chunk in covered(passage.chunk, chunks)}


def test_all_hits_come_before_any_grows_and_the_best_grows_first() -> None:
    chunks = section(20)
    hits = found([chunks[3], chunks[12]])
    frugal = sum(map(passage_tokens, hits))
    assert [hit.chunk for hit in pack(hits, frugal, chunks)] == [chunks[3], chunks[12]]
    first, second = pack(hits, frugal + 100, chunks)
    assert (len(first.chunk.text) > 300, second.chunk) == (True, chunks[12])


@pytest.mark.parametrize(
    ("document", "characters"),
    [
        (Document("/a.md", "", "# A\n\none\n\n# B\n\ntwo", "", format="markdown"), 1600),
        (Document("/b.md", "", "# A\n\none\n\n# A\n\ntwo", "", format="markdown"), 1600),
        (Document("/p.pdf", "", "one\n\ntwo", "", format="pdf", pages=(0, 5)), 1600),
        (Document("/s.txt", "", "one one one. two two two.", "", format="text"), 12),
    ],
    ids=["heading", "heading of the same words", "page", "a gap that is not line ends"],
)
def test_nothing_grows_over_an_edge(document: Document, characters: int) -> None:
    first, second = SectionSplitter(characters).split(document)
    (passage,) = pack(found([first]), 1000, [first, second])
    assert passage.chunk == first


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        ((0, "red kite"), (4, "kite soars"), "red kite soars"),
        ((0, "red kite soars"), (4, "kite"), "red kite soars"),
        ((0, "red kite"), (0, "red kite soars"), "red kite soars"),
        ((0, "red kite"), (4, "owl hunts"), None),
    ],
)
def test_chunks_that_overlap_lose_the_overlap_where_they_agree(
    one: tuple[int, str], other: tuple[int, str], joined: str | None
) -> None:
    hits = [make_hit(text, rank=rank, start=start) for rank, (start, text) in enumerate((one, other), 1)]
    for pair in (hits, hits[::-1]):
        chunk = join(*(hit.chunk for hit in pair))
        assert (chunk.text if chunk else None) == joined
        assert len(merge(pair)) == (2 if joined is None else 1)


def test_a_merged_passage_keeps_the_other_places_outside_it() -> None:
    first, second = (
        make_hit(text, rank=rank, start=start) for rank, (start, text) in enumerate([(0, "ab"), (2, "ab")], 1)
    )
    elsewhere = make_hit("ab", source="/b.md").chunk
    twice = [Hit(first.chunk, 1.0, 1, {}, (second.chunk, elsewhere)), Hit(second.chunk, 0.5, 2, {}, (elsewhere,))]
    (merged,) = merge(twice)
    assert (merged.chunk.text, merged.others) == ("abab", (elsewhere,))
