"""Answers judged by a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.answer.generate import make_generator
from citekite.errors import EndpointError
from citekite.evaluate.judge import JudgeReport, judge_answers, kappa
from citekite.evaluate.question import Question
from citekite.ports import Generator
from citekite.settings import Settings
from citekite.types import Answer, Citation, Outcome
from passages import make_hits
from scripted_endpoint import Fault, ScriptedEndpoint

HITS = make_hits("The red kite has a forked tail.", "Owls hunt at night.")
CITATIONS = tuple(Citation(number, hit, hit.chunk.text, 0, 10, 1) for number, hit in enumerate(HITS, 1))


def answer(text: str, outcome: Outcome = "answered") -> Answer:
    return Answer("?", text, CITATIONS, HITS, outcome)


def strict(messages: Sequence[Mapping[str, str]]) -> Sequence[str]:
    """A judge that supports a sentence with "forked" or "night" in it, and an answer that has the reference's words."""
    user = messages[1]["content"]
    if '"verdicts"' in messages[0]["content"]:
        sentences = re.findall(r"^\d+\. (.*)$", user.rpartition("<answer>")[2], re.MULTILINE)
        return [json.dumps({"verdicts": [_word("forked" in s or "night" in s) for s in sentences]})]
    reference = re.findall(r"<reference>\n(.*)\n</reference>", user)
    given = re.findall(r"<answer>\n(.*)\n</answer>", user)
    return [json.dumps({"verdict": "correct" if reference[0] in given[0] else "incorrect"})]


def _word(supported: bool) -> str:
    return "supported" if supported else "not supported"


def model_of(endpoint: ScriptedEndpoint) -> Generator:
    found = make_generator(Settings(base_url=endpoint.base_url, model="judge", retry_seconds=0))
    assert found is not None
    return found


PAIRS = [
    (Question("a", "?", answers=("forked",)), answer("It is forked [1]. It is also very blue today [1].")),
    (Question("b", "?", answers=("by day",)), answer("Owls hunt at night [2].")),
    (Question("c", "?", sources=("a.md",)), answer("It has a forked tail [1].")),
    (Question("d", "?", answerable=False), answer("Nothing is said.", "no_evidence")),
]


def judged(script: object) -> JudgeReport:
    with ScriptedEndpoint(pieces=script) as endpoint:  # type: ignore[arg-type]
        return judge_answers(PAIRS, model_of(endpoint))


def test_sentences_and_answers_are_judged_twice_and_refusals_not_at_all() -> None:
    with ScriptedEndpoint(pieces=strict) as endpoint:
        found = judge_answers(PAIRS, model_of(endpoint))
        asked = endpoint.requests("/chat/completions")

    assert (found.model, found.answers, found.sentences) == ("judge", 3, 4)
    assert found.faithfulness == 3 / 4
    assert found.correctness == 1 / 2
    assert (found.faithfulness_kappa, found.correctness_kappa, found.gold_kappa) == (1.0, 1.0, 1.0)
    assert found.judgements[0].supported == ((True, False), (True, False))
    assert len(asked) == 2 * (3 + 2)
    assert found.usage.prompt_tokens > 0
    assert {request.body["messages"][0]["content"] for request in asked} == {
        prompt for pair in found.prompts.values() for prompt in pair
    }


def test_answers_judged_at_once_are_judged_as_one_after_another() -> None:
    with ScriptedEndpoint(pieces=strict) as endpoint:
        found = judge_answers(PAIRS * 3, model_of(endpoint), parallel=8)

    assert [one.question for one in found.judgements] == ["a", "b", "c"] * 3
    assert (found.faithfulness, found.correctness) == (3 / 4, 1 / 2)


def test_the_second_round_shows_everything_in_the_opposite_order() -> None:
    with ScriptedEndpoint(pieces=strict) as endpoint:
        judge_answers(PAIRS[:1], model_of(endpoint))
        first, second, *_ = [request.body["messages"][1]["content"] for request in endpoint.received]

    assert first.index("red kite") < first.index("Owls")
    assert second.index("Owls") < second.index("red kite")
    assert "1. It is forked" in first
    assert "2. It is forked" in second


def test_a_judge_that_goes_by_the_place_disagrees_with_itself() -> None:
    def first_is_supported(messages: Sequence[Mapping[str, str]]) -> Sequence[str]:
        if '"verdicts"' not in messages[0]["content"]:
            return ['{"verdict": "correct"}']
        count = len(re.findall(r"^\d+\. ", messages[1]["content"].rpartition("<answer>")[2], re.MULTILINE))
        return [json.dumps({"verdicts": [_word(place == 0) for place in range(count)]})]

    found = judged(first_is_supported)

    assert found.faithfulness_kappa is not None
    assert found.faithfulness_kappa < 0
    assert found.correctness_kappa is None  # always the same verdict: agreement by chance is certain
    assert found.gold_kappa == 0


def test_a_reply_that_cannot_be_read_is_a_problem_of_its_answer() -> None:
    def one_verdict(messages: Sequence[Mapping[str, str]]) -> Sequence[str]:
        return ['{"verdicts": ["supported"]}'] if "verdicts" in messages[0]["content"] else ['{"verdict": "correct"}']

    found = judged(one_verdict)

    assert [bool(one.problem) for one in found.judgements] == [True, False, False]
    assert "2 verdicts" in found.judgements[0].problem
    assert found.sentences == 2


def test_an_error_of_the_endpoint_is_raised() -> None:
    with ScriptedEndpoint(pieces=strict) as endpoint:
        endpoint.script("/chat/completions", Fault(400))
        with pytest.raises(EndpointError, match="scripted fault"):
            judge_answers(PAIRS, model_of(endpoint))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_kappa_is_symmetric_and_1_only_for_full_agreement(pairs: list[tuple[bool, bool]]) -> None:
    value, turned = kappa(pairs), kappa([(other, one) for one, other in pairs])

    assert (value is None) == (turned is None)
    if value is not None and turned is not None:
        assert value == pytest.approx(turned)
        assert (value == pytest.approx(1.0)) == all(one == other for one, other in pairs)
