"""What a server renders is parsed back to the same objects: hits, answers, events, documents, errors."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citekite import errors, parse, render
from citekite.answer.cite import locate
from citekite.errors import CitekiteError, MissingExtra, RateLimited, ServerError, SettingsError
from citekite.events import Cited, Delta, Done, Failed, Retrieved
from citekite.explanation import Explanation, ModelUse, Placed, Stage
from citekite.types import Answer, Chunk, Claim, Hit, Leg, Retrieval, Step, StoredDocument, Usage

TEXT = st.text(max_size=12)
COUNT = st.integers(0, 10_000)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
METADATA = st.dictionaries(TEXT, TEXT | COUNT | st.booleans() | st.lists(TEXT, max_size=2), max_size=2)
ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, CitekiteError) and kind is not MissingExtra
]


@st.composite
def chunks(draw: st.DrawFn, text: str | None = None) -> Chunk:
    start = draw(COUNT)
    text = draw(st.text(min_size=1, max_size=40)) if text is None else text
    return Chunk(
        id=f"{draw(st.uuids())}",
        source=draw(TEXT),
        title=draw(TEXT),
        ordinal=draw(COUNT),
        start=start,
        end=start + len(text),
        text=text,
        headings=tuple(draw(st.lists(TEXT, max_size=2))),
        line=draw(st.integers(1, 99)),
        page=draw(st.none() | st.integers(1, 99)),
        metadata=draw(METADATA),
        context=draw(TEXT),
        access=tuple(draw(st.lists(TEXT, max_size=2))),
    )


@st.composite
def hits(draw: st.DrawFn) -> Hit:
    chunk = draw(chunks())
    others = draw(st.lists(st.one_of(chunks(), chunks(text=f"More. {chunk.text}")), max_size=2))
    legs = draw(st.dictionaries(st.sampled_from(["dense", "lexical", "rerank"]), st.builds(Leg, COUNT, NUMBER)))
    return Hit(chunk, draw(NUMBER), draw(st.integers(1, 50)), legs, tuple(others))


USAGE = st.builds(Usage, COUNT, COUNT)
STRINGS = st.lists(TEXT, max_size=2).map(tuple)
STEPS = st.builds(
    Step, st.sampled_from(["plan", "search", "assess", "stop"]), COUNT, text=TEXT, queries=STRINGS, new=COUNT
)
HITS = st.lists(hits(), max_size=3).map(tuple)
LEGS = st.dictionaries(st.sampled_from(["dense", "lexical", "fused", "rerank"]), st.builds(Leg, COUNT, NUMBER))
USES = st.builds(
    ModelUse,
    st.sampled_from(["chat", "embedding", "rerank"]),
    TEXT,
    USAGE,
    st.booleans(),
    NUMBER,
    st.none() | NUMBER,
)
STAGES = st.builds(
    Stage,
    TEXT,
    NUMBER,
    st.none() | COUNT,
    st.lists(NUMBER, max_size=2).map(tuple),
    st.dictionaries(TEXT, TEXT | COUNT | NUMBER, max_size=2),
    st.lists(USES, max_size=2).map(tuple),
)
PLACED = st.builds(
    Placed,
    *(TEXT, TEXT, TEXT, COUNT, NUMBER, LEGS),
    parts=st.dictionaries(TEXT, NUMBER, max_size=2),
    passage=st.none() | COUNT,
    cited=st.booleans(),
)
EXPLANATIONS = st.none() | st.builds(
    Explanation, st.lists(STAGES, max_size=2).map(tuple), st.lists(PLACED, max_size=2).map(tuple)
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    found = draw(HITS)
    citations = []
    for number, hit in enumerate(found, 1):
        start = draw(st.integers(0, len(hit.chunk.text) - 1))
        end = draw(st.integers(start + 1, len(hit.chunk.text)))
        citations.append(locate(number, hit, start, end, verified=draw(st.booleans())))
    claims = st.builds(
        Claim,
        COUNT,
        COUNT,
        st.lists(COUNT, max_size=2).map(tuple),
        st.sampled_from(["supported", "partly", "not_supported"]),
        TEXT,
    )
    return Answer(
        question=draw(TEXT),
        text=draw(TEXT),
        citations=tuple(citations),
        hits=found,
        outcome=draw(st.sampled_from(["answered", "no_evidence", "cut_short"])),
        usage=draw(USAGE),
        model=draw(TEXT),
        standalone=draw(TEXT),
        dropped_markers=draw(COUNT),
        unverified_quotes=draw(STRINGS),
        notes=draw(STRINGS),
        claims=tuple(draw(st.lists(claims, max_size=2))),
        confidence=draw(st.none() | NUMBER),
        steps=tuple(draw(st.lists(STEPS, max_size=2))),
        explanation=draw(EXPLANATIONS),
    )


def sent(values: Any) -> Any:
    """The values as they arrive: through JSON, from a server that knows a key more."""
    arrived = json.loads(json.dumps(values))
    return {**arrived, "unknown to us": 1}


@settings(max_examples=50)
@given(hits())
def test_a_hit_comes_back_whole(hit: Hit) -> None:
    assert parse.parse_hit(sent(render.hit_json(hit))) == hit


@settings(max_examples=50)
@given(answers())
def test_an_answer_comes_back_whole_with_its_citations_on_its_hits(answer: Answer) -> None:
    assert parse.parse_answer(sent(render.answer_json(answer))) == answer


@settings(max_examples=50)
@given(st.builds(Retrieval, HITS, STRINGS, STRINGS, st.dictionaries(TEXT, NUMBER, max_size=2), USAGE, EXPLANATIONS))
def test_a_retrieval_comes_back_whole(found: Retrieval) -> None:
    assert parse.parse_retrieval(sent(render.retrieval_json(found))) == found


@settings(max_examples=50)
@given(
    st.one_of(
        STEPS,
        st.builds(Delta, TEXT),
        st.builds(Cited, COUNT, COUNT),
        st.builds(Retrieved, HITS, TEXT, STRINGS, STRINGS),
        st.builds(Done, answers()),
    )
)
def test_an_event_comes_back_whole(event: Any) -> None:
    name, values = render.event_json(event)
    assert parse.parse_event(name, sent(values)) == event


@settings(max_examples=30)
@given(st.lists(chunks(), max_size=3), METADATA)
def test_a_document_comes_back_with_its_chunks(found: list[Chunk], metadata: Any) -> None:
    text, placed = "", []
    shared = {"source": "/a.md", "title": "A", "metadata": metadata, "access": ("staff",)}
    for chunk in found:
        placed.append(replace(chunk, start=len(text), end=len(text) + len(chunk.text), **shared))
        text += chunk.text
    document = StoredDocument("d", "/a.md", "A", text, tuple(placed), metadata, ("staff",))
    assert parse.parse_document(sent(render.document_json(document))) == document


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_comes_back_as_the_same_class_with_the_same_message(kind: type[CitekiteError]) -> None:
    name, values = render.event_json(Failed(kind("it broke: do this"), "so far"))
    failed = parse.parse_event(name, sent(values))
    assert isinstance(failed, Failed)
    assert (type(failed.error), str(failed.error), failed.partial) == (kind, "it broke: do this", "so far")


def test_an_error_with_values_of_its_own_keeps_them() -> None:
    missing = parse.parse_problem(render.problem_json(MissingExtra("office", "reading a .docx")))
    assert isinstance(missing, MissingExtra)
    assert (str(missing), missing.extra) == (str(MissingExtra("office", "reading a .docx")), "office")
    limited = parse.parse_problem(render.problem_json(RateLimited("slower", 3)), 7.0)
    assert isinstance(limited, RateLimited)
    assert limited.retry_after == 7.0


def test_a_problem_of_another_title_is_an_error_of_the_request_or_of_the_server() -> None:
    assert type(parse.parse_problem({"title": "Unheard", "status": 400, "detail": "k: 0"})) is SettingsError
    unknown = parse.parse_problem({"title": "Not Found", "status": 404, "detail": ""})
    assert (type(unknown), str(unknown)) == (ServerError, "Not Found")
