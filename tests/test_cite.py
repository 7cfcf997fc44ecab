"""Citations: markers are read from any split of a stream, and every citation is a span that stands in its document."""

from __future__ import annotations

import re
from itertools import pairwise, zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.answer.cite import CitationStream, locate, resolve
from citekite.answer.verify import find_quote, quotations, unverified_quotes
from citekite.events import Cited, Delta
from citekite.types import Citation, Hit
from passages import make_hit, make_hits

PASSAGES = 5
MARKERS = ["[1]", "[9]", "[0]", "[1,2]", "[2-4]", "[^3]", "【4】", "［５］", "【1†a】", "[2024]", "[0,1]", "[passage"]
PIECES = st.lists(
    st.one_of(
        st.sampled_from(MARKERS),
        st.sampled_from(["[", "]", "`", "```", "~~~", "word", "a", "1", "12", ",", "-", ".", "^", "é", "数"]),
        st.sampled_from([" ", "  ", "\n", "```\n", "\n```py\n", "[1, 2]", "[passage 2]"]),
    ),
    max_size=20,
).map("".join)


def read(*pieces: str, passages: int = PASSAGES) -> tuple[CitationStream, list[Delta | Cited]]:
    """Everything that comes of a stream of pieces."""
    stream = CitationStream(passages)
    events = [event for piece in pieces for event in stream.feed(piece)]
    return stream, events + stream.finish()


@given(text=PIECES, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_every_split_of_a_stream_reads_the_same(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    whole, _ = read(text)
    for split in (pieces, list(text)):
        parts, _ = read(*split)
        assert (parts.text, parts.cited, parts.dropped) == (whole.text, whole.cited, whole.dropped)


@given(PIECES)
def test_deltas_make_the_text_and_each_citation_stands_before_its_marker(text: str) -> None:
    stream, events = read(*text)
    so_far = ""
    for event, following in zip_longest(events, events[1:]):
        if isinstance(event, Delta):
            so_far += event.text
        else:
            assert 1 <= event.number <= PASSAGES
            assert event.position == len(so_far)
            assert following == Delta(f"[{event.number}]")
    assert so_far == stream.text


@given(st.text(alphabet="ab .,\n数é#*()<>{}", max_size=60))
def test_text_without_markers_passes_unchanged(text: str) -> None:
    stream, _ = read(*text)
    assert (stream.text, stream.cited, stream.dropped) == (text, [], 0)


@pytest.mark.parametrize(
    ("written", "text", "numbers", "dropped"),
    [
        ("A [1][2].", "A [1][2].", [1, 2], 0),
        ("A [1, 2] and [3;4].", "A [1][2] and [3][4].", [1, 2, 3, 4], 0),
        ("A [2-4].", "A [2][3][4].", [2, 3, 4], 0),
        ("A 【1】 B［２］ C [^3] D [Passage 4] E【5†source】", "A [1] B[2] C [3] D [4] E[5]", [1, 2, 3, 4, 5], 0),
        ("A [9]. B [0] C [1, 9].", "A. B C [1].", [1], 3),
        ("In [2024], scores in [0, 1] up to [1, 65536] [see].", None, [], 0),
        ("`a[1]` is first, `b[2]", "`a[1]` is first, `b[2]", [], 0),
        ("a `b` [1]", "a `b` [1]", [1], 0),
        ("a ` b [1]\nnext [2]", "a ` b [1]\nnext [2]", [2], 0),
        ("```py\na[1]\n```\nso [2]", None, [2], 0),
        ("- ```\n  a[1]\n  ```\nso [2]", None, [2], 0),
        ("cut [1", "cut [1", [], 0),
    ],
)
def test_markers_come_out_as_one_kind(written: str, text: str | None, numbers: list[int], dropped: int) -> None:
    stream, _ = read(*written)
    assert stream.text == (written if text is None else text)
    assert [cited.number for cited in stream.cited] == numbers
    assert stream.dropped == dropped


def test_only_what_may_become_a_marker_is_held_back() -> None:
    stream = CitationStream(3)
    assert stream.feed("Stored in etcd [") == [Delta("Stored in etcd")]
    assert stream.feed("1") == []
    assert stream.feed("]. Yes") == [Delta(" "), Cited(1, 15), Delta("[1]"), Delta(". Yes")]
    assert stream.feed(" [see") == [Delta(" [see")]
    assert stream.finish() == []


# --- resolving ---

STORAGE = """#### Where does Milvus store data?

Milvus deals with two types of data, inserted data and metadata.

Inserted data are stored in persistent storage as *incremental log*, in
[MinIO](https://min.io/) or S3.

Metadata are kept in etcd."""


def cite(text: str, *passages: Hit) -> tuple[Citation, ...]:
    stream, _ = read(text, passages=len(passages))
    return resolve(stream.text, passages, stream.cited)


def test_a_quotation_is_cited_with_exactly_its_span() -> None:
    document = "front\nmatter\n" + STORAGE
    hit = make_hit(STORAGE, start=13, line=3)
    (citation,) = cite("It says “Inserted data are stored in persistent storage as incremental log” [1].", hit)
    assert citation.quote == "Inserted data are stored in persistent storage as *incremental log"
    assert document[citation.start : citation.end] == citation.quote
    assert document.count("\n", 0, citation.start) + 1 == citation.line == 7
    assert citation.verified


def test_without_a_quotation_the_likest_sentence_is_cited() -> None:
    (citation,) = cite("The metadata is kept in etcd [1].", make_hit(STORAGE))
    assert citation.quote == "Metadata are kept in etcd."


def test_a_marker_after_the_full_stop_belongs_to_the_sentence_before() -> None:
    (citation,) = cite("The metadata is kept in etcd. [1] Two types of inserted data exist.", make_hit(STORAGE))
    assert citation.quote == "Metadata are kept in etcd."


def test_where_nothing_is_shared_the_whole_passage_is_cited() -> None:
    passage = "Vögel fliegen. Fische schwimmen."
    (citation,) = cite("数据存储 [1]。", make_hit(passage))
    assert citation.quote == passage


def test_a_number_is_cited_once_by_its_first_use_and_in_order_of_use() -> None:
    hits = make_hits("Kites fly. Kites are birds.", "Milvus is a genus.")
    found = cite("Milvus is a genus [2]. Kites are birds [1]. Kites fly [1].", *hits)
    assert [(citation.number, citation.quote) for citation in found] == [
        (2, "Milvus is a genus."),
        (1, "Kites are birds."),
    ]
    assert found[0].hit is hits[1]


def test_a_quotation_that_the_cited_passage_lacks_is_unverified() -> None:
    hits = make_hits("Kites are birds of prey that soar.", "Metadata are kept in etcd.")
    wrong, right = cite('"Kites are fishes of prey" [1]. "Metadata are kept in etcd" [2].', *hits)
    assert not wrong.verified
    assert right.verified
    assert unverified_quotes('"Kites are fishes of prey" [1], "Metadata are kept in etcd" [1]', hits) == (
        "Kites are fishes of prey",
    )


def test_a_quotation_is_verified_by_any_passage_that_its_sentence_cites() -> None:
    hits = make_hits("Kites are birds of prey.", "Metadata are kept in etcd.")
    found = cite('"Kites are birds of prey" and soar [1][2].', *hits)
    assert [citation.verified for citation in found] == [True, True]


@given(
    sentences=st.lists(st.text(alphabet="abc Ä数.!\n*[]`|#-", max_size=30), min_size=1, max_size=5),
    start=st.integers(0, 50),
    answer=PIECES,
)
def test_every_citation_is_a_span_of_its_document(sentences: list[str], start: int, answer: str) -> None:
    text = "\n".join(sentences) or "x"
    document = "·\n" * start + text
    hit = make_hit(text, start=2 * start, line=start + 1)
    stream, _ = read(answer, passages=1)
    for citation in resolve(stream.text, [hit], stream.cited):
        assert document[citation.start : citation.end] == citation.quote
        assert citation.line == document.count("\n", 0, citation.start) + 1


def test_locating_moves_offsets_into_the_document() -> None:
    citation = locate(2, make_hit("one\ntwo", start=10, line=4), 4, 7)
    assert (citation.number, citation.quote, citation.start, citation.end, citation.line) == (2, "two", 14, 17, 5)


# --- quotations ---


@pytest.mark.parametrize(
    "written",
    [
        '"one two three four"',
        "“one two three four”",
        "„one two three four“",
        "«one two three four»",
        "「one two three four」",
    ],
)
def test_quotation_marks_of_many_languages_are_read(written: str) -> None:
    assert quotations(f"He said {written}, then left.") == ["one two three four"]


@pytest.mark.parametrize(
    "text", ['"three words only"', '`"one two three four"`', '```\n"a b c d e"\n```', 'a 5" by 3" board is here']
)
def test_short_quotations_and_code_are_no_quotations(text: str) -> None:
    assert quotations(text) == []


@pytest.mark.parametrize(
    ("quote", "passage"),
    [
        ("Stored as a log", "It is stored\n  as **a** log."),
        ("it's a dash-like thing", "It’s a dash–like thing"),
        ("see the docs for more", "see the [docs](https://x.y/z) for more"),
        ("the sky is blue today", "The sky is blue[3] today"),
        ("first part … last part.", "the first part, then much, then the last part"),
        ("ＦＵＬＬ width letters here", "full width letters here"),
    ],
)
def test_layout_and_typography_do_not_hide_a_quotation(quote: str, passage: str) -> None:
    assert find_quote(quote, passage) is not None


@pytest.mark.parametrize(
    ("quote", "passage"),
    [("data is stored here", "data is not stored here"), ("last … first", "first and last"), ("...", "anything...")],
)
def test_other_words_or_another_order_are_no_quotation(quote: str, passage: str) -> None:
    assert find_quote(quote, passage) is None


@given(passage=st.text(alphabet="ab Ä\n'’“*é数ﬁ-", min_size=1, max_size=40), data=st.data())
def test_any_part_of_a_passage_is_found_in_it(passage: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(passage) - 1))
    part = passage[start : data.draw(st.integers(start + 1, len(passage)))]
    if re.search(r"\w", part):
        assert find_quote(part, passage) is not None
