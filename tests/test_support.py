"""Each sentence of an answer is checked against what it cites."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.answer.cite import CitationStream
from citekite.answer.entail import entail
from citekite.answer.quantities import quantities
from citekite.answer.respond import AnswerPlan, respond
from citekite.answer.support import check_claims
from citekite.errors import EndpointReply
from citekite.events import Done
from citekite.ports import Message, Piece
from citekite.types import Claim, Retrieval, Usage
from passages import make_hits

HITS = make_hits(
    "Kites are birds of prey. The red kite weighs up to 1,300 grams and lives in Europe. "
    "It does not migrate in winter.",
    "The Kite bridge was built by John Carver in 1932. It has seven arches and carries 2.5 million travellers a year.",
    "数据存储在对象存储中。元数据存储在etcd中，共有三个副本，始于1932年。",
    "| Plan | Price | Users |\n|---|---|---|\n| Basic | 10 dollars | 5 |\n| Team | 25 dollars | 50 |\n",
    "The Kite bridge is old. It is the longest bridge of Norland.",
)


def check(text: str) -> list[tuple[str, str, tuple[int, ...], str]]:
    """The claims of an answer: text, verdict, numbers, reason."""
    stream = CitationStream(len(HITS))
    stream.feed(text)
    stream.finish()
    claims = check_claims(stream.text, HITS, stream.cited)
    return [(stream.text[c.start : c.end], c.verdict, c.numbers, c.reason) for c in claims]


@pytest.mark.parametrize(
    "text",
    [
        "The red kite lives in Europe [1].",
        "Red kites, which live in Europe, weigh up to 1300 grams [1].",
        "The bridge has 7 arches [2].",
        "The Kite bridge carries 2,500,000 travellers a year [2].",
        "The Kite bridge, built in 1932, has seven arches, and kites are birds of prey [1][2].",
        "The red kite does not migrate in winter [1].",
        '"It has seven arches and carries" is what it says of the Kite bridge [2].',
        "元数据存储在etcd中[3]。",
        "元数据始于1932年存储在etcd中[3]。",
        "The Team plan costs 25 dollars and has 50 users [4].",
    ],
)
def test_what_the_cited_passage_says_is_supported(text: str) -> None:
    assert [claim[1] for claim in check(text)] == ["supported"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The red kite weighs up to 5,000 grams [1].", "5,000 is not in what it cites"),
        ("The Kite bridge was built by John Carver in 1923 [2].", "1923 is not in what it cites"),
        ("The Kite bridge has eight arches [2].", "eight is not in what it cites"),
        ("The red kite does not live in Europe [1].", "it denies what it cites, or states what is denied there"),
        ("In winter it does migrate [1].", "it denies what it cites, or states what is denied there"),
        ("Milvus keeps vectors in segments [1].", "not found in what it cites: milvus, keeps, vectors, segments"),
        ("The red kite weighs up to 1,300 tons [1].", "1,300 tonnes is 1,300 grams in what it cites"),
        ("The Kite bridge is the shortest bridge of Norland [5].", "it has shortest where what it cites has longest"),
        ("元数据始于1933年存储在etcd中[3]。", "1933 is not in what it cites"),
        ("The red kite lives in Europe.", "it cites no passage"),
        (
            'It says "kites were brought to Europe by sailors" [1].',
            "the quotation “kites were brought to Europe by sailors” is not in what it cites",
        ),
        ("元数据存储在内存里面并且定期备份[3]。", "not found in what it cites: 在内, 内存, 存里, 里面, …"),
    ],
)
def test_what_it_does_not_say_is_not(text: str, reason: str) -> None:
    assert [claim[1::2] for claim in check(text)] == [("not_supported", reason)]


def test_a_name_that_does_not_stand_there_is_partly_supported_at_most() -> None:
    [(_, verdict, _, reason)] = check("The Kite bridge was built by Peter Miller in 1932 [2].")
    assert (verdict, reason) == ("partly", "not found in what it cites: Peter, Miller")


def test_the_wrong_passage_does_not_support() -> None:
    assert [claim[1] for claim in check("The Kite bridge has seven arches [1].")] == ["not_supported"]


def test_a_marker_at_the_end_of_a_paragraph_stands_for_all_of_it() -> None:
    text = "Kites are birds of prey. The red kite lives in Europe [1].\n\nThe bridge has seven arches."
    assert [claim[1:3] for claim in check(text)] == [
        ("supported", (1,)),
        ("supported", (1,)),
        ("not_supported", ()),
    ]


def test_headings_code_announcements_and_questions_claim_nothing() -> None:
    text = "# Kites\n\nHere is how:\n\nRun this [1]:\n\n```sh\nrm kite\n```\n\nAll of it?\n\n- Kites are birds [1]\n"
    assert [claim[0] for claim in check(text)] == ["Kites are birds [1]"]


@given(st.text(alphabet='kite bird. 1,30\n[]12-#`!?"“”不无三', max_size=80))
def test_claims_are_ordered_spans_of_the_answer(text: str) -> None:
    end = 0
    stream = CitationStream(len(HITS))
    stream.feed(text)
    stream.finish()
    for claim in check_claims(stream.text, HITS, stream.cited):
        assert end <= claim.start < claim.end <= len(stream.text)
        assert (claim.verdict == "supported") is (claim.reason == "")
        assert set(claim.numbers) <= {1, 2, 3, 4, 5}
        end = claim.end


@pytest.mark.parametrize("text", ["1,000", "1 000", "1.000", "1000", "１０００", "1 thousand"])
def test_a_thousand_is_a_thousand(text: str) -> None:
    assert any("1000" in forms for _, forms in quantities(text))


# --- by a model ---


class Scripted:
    """A chat model that replies with one text."""

    model = "judge-1"

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.asked: list[Sequence[Message]] = []

    def stream(self, messages: Sequence[Message], *, seconds: float = math.inf) -> Iterator[Piece]:
        self.asked.append(messages)
        yield Piece(self.replies.pop(0))
        yield Piece(finish_reason="stop", usage=Usage(10, 5))


TEXT = "The red kite lives in Europe [1]. The bridge is old [2]."
VERDICTS = (
    '```json\n{"verdicts": [{"statement": 1, "verdict": "supported", "reason": ""}, '
    '{"statement": 2, "verdict": "not_supported", "reason": "no age is given"}]}\n```'
)


def test_a_model_s_verdicts_replace_those_by_overlap_and_are_counted() -> None:
    model = Scripted(TEXT, VERDICTS)
    *_, done = respond("kites?", "kites?", Retrieval(HITS), model, AnswerPlan(2000, verify=True))
    assert isinstance(done, Done)
    assert [(claim.verdict, claim.reason) for claim in done.answer.claims] == [
        ("supported", ""),
        ("not_supported", "no age is given"),
    ]
    assert done.answer.usage == Usage(20, 10)
    prompt = model.asked[1][1].content
    assert '<passage number="2">' in prompt
    assert '<statement number="2" passages="2">' in prompt


@pytest.mark.parametrize(
    "reply", ["fine", "[]", "[" * 100_000, '{"verdicts": []}', VERDICTS.replace("not_supported", "wrong")]
)
def test_a_reply_that_is_no_verdict_leaves_overlap_and_a_note(reply: str) -> None:
    model = Scripted(TEXT, reply, reply)
    *_, done = respond("kites?", "kites?", Retrieval(HITS), model, AnswerPlan(2000, verify=True))
    assert isinstance(done, Done)
    assert done.answer.claims[0].verdict == "supported"
    assert any("checked by overlap alone" in note for note in done.answer.notes)
    claim: Any = Claim(0, 5, (1,), "supported")
    with pytest.raises(EndpointReply, match="judge-1"):
        entail("kites", [claim], HITS, Scripted(reply, reply))


def test_a_reason_that_a_model_gives_holds_no_control_characters() -> None:
    reply = VERDICTS.replace("no age is given", "no \\u001b[31mage\\u202e is given")
    claims = [Claim(0, 5, (1,), "supported"), Claim(5, 9, (1,), "supported")]
    judged, _ = entail("kites fly", claims, HITS, Scripted(reply))
    assert judged[1].reason.isprintable()


def test_the_judge_is_not_asked_about_an_answer_without_citations() -> None:
    model = Scripted()
    assert entail("kites", [Claim(0, 5, (), "not_supported", "it cites no passage")], HITS, model)[1] == Usage()
    assert model.asked == []


def test_the_marker_behind_an_extracted_list_stands_for_each_of_its_lines() -> None:
    text = "The settings of an external etcd are:\n\n- `external`: true for an external one.\n- `endpoints`: of etcd."
    *_, done = respond("etcd settings?", "etcd settings?", Retrieval(make_hits(text)), None, AnswerPlan(2000, 0.0))
    assert isinstance(done, Done)
    assert "`endpoints`" in done.answer.text
    assert {(claim.numbers, claim.verdict) for claim in done.answer.claims} == {((1,), "supported")}
