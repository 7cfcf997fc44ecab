"""Confidence: what is missing for an answer lowers it, nothing missing raises it, and strangers get none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.answer.asked_for import holds_kind, holds_unit
from citekite.answer.confidence import (
    DEFAULT_THRESHOLD,
    STATEMENT_WEIGHTS,
    SUBJECT_WEIGHTS,
    confidence,
)
from citekite.answer.evidence import Evidence, evidence
from passages import make_hit, make_hits

BRIDGE = make_hits(
    "The Kite bridge was built by John Carver in 1932. It is the longest bridge of Norland and has seven arches.",
    "The harbour of Norland was closed in 1950. Ships now land at Easton, which has two quays.",
)
STORAGE = make_hits(
    "Milvus stores inserted data in object storage and metadata in etcd.",
    "Users can set the consistency level of a collection. The world's most advanced vector database.",
)


@pytest.mark.parametrize(
    "question",
    [
        "When was the Kite bridge built?",
        "Who built the Kite bridge?",
        "How many arches does the Kite bridge have?",
        "What is the longest bridge of Norland?",
    ],
)
def test_what_the_passages_say_is_answered(question: str) -> None:
    assert confidence(question, BRIDGE) > DEFAULT_THRESHOLD


@pytest.mark.parametrize(
    ("question", "figure"),
    [
        ("Which bridges of Norland were not built by John Carver?", "negation"),
        ("What is the shortest bridge of Norland?", "opposite"),
        ("How many lamps does the Kite bridge have?", "missing_unit"),
        ("When did ships first land at Easton?", "missing_kind"),
        ("Who built the Kite bridge in 1950?", "missing_name"),
        ("Who built the Kite bridge in 1871?", "missing_number"),
        ("Which bridge did John Carver build instead of the Kite bridge?", "exclusion"),
        ("What was the first bridge of Norland?", "superlative"),
    ],
)
def test_each_figure_sees_its_mismatch(question: str, figure: str) -> None:
    found = evidence(question, BRIDGE)
    assert found is not None
    if figure != "missing_name":
        assert getattr(found, figure) == 1.0
    answered = evidence("Who built the Kite bridge?", BRIDGE)
    assert answered is not None
    assert getattr(answered, figure) == 0.0


@pytest.mark.parametrize(
    "question",
    [
        "Which bridges of Norland were not built by John Carver?",
        "What is the shortest bridge of Norland?",
        "How many lamps does the Kite bridge have?",
        "zxqv blorptang frumious",
        "Who won the 1998 football world cup?",
        "今天天气怎么样",
        "Who are you?",
        "",
        "?!",
    ],
)
def test_what_they_do_not_say_is_refused(question: str) -> None:
    assert confidence(question, BRIDGE) < DEFAULT_THRESHOLD


@pytest.mark.parametrize("question", ["Where is metadata stored?", "etcd", "consistency levels of collections"])
def test_short_questions_about_documentation_are_answered(question: str) -> None:
    assert confidence(question, STORAGE) > DEFAULT_THRESHOLD


def test_of_sentences_equally_close_the_one_with_the_kind_asked_for_counts() -> None:
    hits = make_hits("You can add partitions to a collection. A collection can have up to 64 partitions.")
    found = evidence("How many partitions can a collection have?", hits)
    assert found is not None
    assert (found.missing_kind, found.missing_unit) == (0.0, 0.0)


def test_a_pronoun_stands_for_the_name_in_the_sentence_before() -> None:
    found = evidence("How many arches does the Kite bridge have?", BRIDGE)
    assert found is not None
    assert found.missing_name == 0.0


WAR = make_hits("In 1756, Essex declared war on Kent.", "Kent is in the south. Essex is in the east.")


@pytest.mark.parametrize(
    ("question", "swapped"),
    [
        ("When did Kent declare war on Essex?", 1.0),
        ("When did Essex declare war on Kent?", 0.0),
        ("When was war on Kent declared by Essex?", 0.0),
        ("When was the war of Kent and Essex declared?", 0.0),
    ],
)
def test_the_order_of_names_tells_who_did_what(question: str, swapped: float) -> None:
    found = evidence(question, WAR)
    assert found is not None
    assert found.swapped == swapped


def test_german_capitals_are_no_names_and_many_english_names_are() -> None:
    german = evidence(
        "Wann wurde die Brücke gebaut?", make_hits("Das Bauwerk ist eine Brücke und die Halle der Stadt.")
    )
    crowded = evidence(
        "Who met Norland in Easton?", make_hits("In Easton, Kent met Anna Reed, John Carver, Amy, Joe Ax.")
    )
    assert german is not None
    assert crowded is not None
    assert (german.missing_names, crowded.missing_names) == (0.0, 0.5)


@pytest.mark.parametrize("question", ["How do I make a carbonara?", "What is the mascot called?"])
def test_words_that_only_put_the_question_do_not_count_as_its_subject(question: str) -> None:
    hits = make_hits("This feature helps you to make most of a bridge. It is called streaming.")
    assert confidence(question, hits) == 0.0


def test_headings_count_as_text() -> None:
    under = make_hit("Run the installer twice.", headings=["Guide", "Upgrade the Kestrel server"])
    assert confidence("How do I upgrade the Kestrel server?", [under]) > DEFAULT_THRESHOLD


def test_languages_without_spaces_are_compared_by_grams() -> None:
    hits = make_hits("数据存储在对象存储中。元数据存储在etcd中。")
    assert confidence("元数据存储在哪里？", hits) > DEFAULT_THRESHOLD
    assert confidence("谁赢得了世界杯足球赛？", hits) < DEFAULT_THRESHOLD


def test_nothing_is_known_without_passages() -> None:
    assert confidence("etcd", []) == 0.0
    assert evidence("etcd", []) is None


def test_no_figure_may_raise_the_confidence() -> None:
    fields = [name for name in (*SUBJECT_WEIGHTS, *STATEMENT_WEIGHTS) if name]
    assert fields == list(Evidence.__dataclass_fields__)
    assert all(weight <= 0 for name, weight in {**SUBJECT_WEIGHTS, **STATEMENT_WEIGHTS}.items() if name)


WORDS = st.lists(
    st.sampled_from(
        ["Who", "how many", "not", "the", "Kite", "bridge", "1932", "seven", "数据", "größte", "first", "?", "."]
    ),
    max_size=12,
).map(" ".join)


@given(question=WORDS, texts=st.lists(WORDS, max_size=3))
def test_every_figure_and_the_confidence_lie_between_0_and_1(question: str, texts: list[str]) -> None:
    hits = make_hits(*texts)
    assert 0.0 <= confidence(question, hits) <= 1.0
    found = evidence(question, hits)
    if found is not None:
        assert all(-1e-9 <= getattr(found, name) <= 1 + 1e-9 for name in Evidence.__dataclass_fields__)


@pytest.mark.parametrize(
    ("question", "text", "held"),
    [
        ("In what year was it built?", "It was built in 1932.", True),
        ("In what year was it built, 1932?", "It was built in 1932.", False),
        ("What percentage voted?", "It was 51.6%.", True),
        ("What percentage voted?", "It was 51.", False),
        ("How much did it cost?", "It cost 20 dollars.", True),
        ("Wie viele Bögen hat sie?", "Sie hat sieben Bögen.", True),
        ("哪一年建成？", "建于1932年。", True),
        ("Who built it?", "It is by John Carver.", True),
        ("Who built it?", "It was built.", False),
        ("Why?", "Because.", None),
    ],
)
def test_the_kind_asked_for(question: str, text: str, held: bool | None) -> None:
    assert holds_kind(question, text) is held


def test_the_unit_asked_for() -> None:
    assert holds_unit("How many votes did it get?", "It got 1,200 valid votes.") is True
    assert holds_unit("How many votes did it get?", "It got most votes of 3 parties.") is False
    assert holds_unit("Who voted?", "3 voters.") is None
