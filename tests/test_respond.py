"""The event stream of an answer, with a model on a real socket and without one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.answer.generate import ChatModel
from citekite.answer.prompt import NOT_IN_DOCUMENTS
from citekite.answer.respond import NO_CITATION, NO_MODEL, AnswerPlan, respond, standalone_question
from citekite.endpoint.client import Endpoint
from citekite.errors import EndpointReply, EndpointUnavailable, RequestRefused
from citekite.events import Cited, Delta, Done, Event, Failed, Retrieved, answer_of
from citekite.ports import Generator, Message, Piece
from citekite.types import Answer, Hit, Retrieval, Turn, Usage
from passages import make_hit, make_hits
from scripted_endpoint import Fault, ScriptedEndpoint

HITS = make_hits(
    "Kites are birds of prey. They eat mice and insects.",
    "Milvus is the genus of the kites. The red kite lives in Europe.",
)
QUESTION = "What do kites eat?"

Connect = Callable[..., tuple[ScriptedEndpoint, ChatModel]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Starts an endpoint whose model answers with `pieces`, and connects a chat model to it."""
    with ExitStack() as stack:

        def start(*pieces: str, max_tokens: int = 1024, seconds: float = 0.0) -> tuple[ScriptedEndpoint, ChatModel]:
            server = stack.enter_context(ScriptedEndpoint(pieces=pieces or None, piece_seconds=seconds))
            endpoint = Endpoint(server.base_url, "key", retry_seconds=0)
            return server, ChatModel(endpoint, "kite-1", max_tokens=max_tokens)

        yield start


def events(generator: Generator | None, hits: Sequence[Hit] = HITS, question: str = QUESTION) -> list[Event]:
    return list(respond(question, question, Retrieval(tuple(hits)), generator, AnswerPlan(2000)))


def answer(found: Sequence[Event]) -> Answer:
    """The answer of a complete stream, after checking what holds for every one."""
    first, *middle, last = found
    assert isinstance(first, Retrieved)
    assert isinstance(last, Done)
    text, marks = "", []
    for event in middle:
        if isinstance(event, Cited):
            assert event.position == len(text)
            marks.append(event)
        else:
            assert isinstance(event, Delta)
            text += event.text
    assert text == last.answer.text
    assert first.hits == last.answer.hits
    assert list(dict.fromkeys(mark.number for mark in marks)) == [c.number for c in last.answer.citations]
    for mark in marks:
        assert text[mark.position :].startswith(f"[{mark.number}]")
    for citation in last.answer.citations:
        assert citation.hit == last.answer.hits[citation.number - 1]
    return last.answer


# --- with a model ---


def test_a_model_s_answer_is_streamed_cited_and_counted(connect: Connect) -> None:
    server, model = connect("They eat ", "mice and insects [", "1", "]. The genus is Milvus[2][7].")
    done = answer(events(model))
    assert done.text == "They eat mice and insects [1]. The genus is Milvus[2]."
    assert [citation.quote for citation in done.citations] == [
        "They eat mice and insects.",
        "Milvus is the genus of the kites.",
    ]
    assert (done.outcome, done.dropped_markers, done.model, done.notes) == ("answered", 1, "kite-1", ())
    assert done.usage.completion_tokens == 4
    assert done.usage.prompt_tokens > 0
    prompt = server.requests("/chat/completions")[0].body["messages"][-1]["content"]
    assert '<passage number="2"' in prompt
    assert f"<question>\n{QUESTION}\n</question>" in prompt


def test_the_passages_come_before_the_model_is_asked(connect: Connect) -> None:
    server, model = connect("Yes [1].")
    stream = respond(QUESTION, QUESTION, Retrieval(HITS), model, AnswerPlan(2000))
    assert next(stream) == Retrieved(HITS, QUESTION)
    assert server.received == []


def test_text_arrives_while_the_model_still_writes(connect: Connect) -> None:
    _, model = connect("one ", "two ", "three", seconds=0.05)
    stream = respond(QUESTION, QUESTION, Retrieval(HITS), model, AnswerPlan(2000))
    assert isinstance(next(stream), Retrieved)
    assert isinstance(next(stream), Delta)
    assert not any(isinstance(event, Done) for event in [next(stream)])
    assert isinstance(list(stream)[-1], Done)


def test_without_hits_the_model_is_not_asked(connect: Connect) -> None:
    server, model = connect("An invention.")
    done = answer(events(model, hits=()))
    assert (done.outcome, done.text, done.citations) == ("no_evidence", NOT_IN_DOCUMENTS, ())
    assert server.received == []


def test_the_model_s_word_that_nothing_answers_is_no_evidence(connect: Connect) -> None:
    _, model = connect(NOT_IN_DOCUMENTS[:10], NOT_IN_DOCUMENTS[10:])
    done = answer(events(model))
    assert (done.outcome, done.notes, done.model) == ("no_evidence", (), "kite-1")


def test_an_answer_without_citation_says_so(connect: Connect) -> None:
    _, model = connect("They eat mice.")
    done = answer(events(model))
    assert (done.outcome, done.citations, done.notes) == ("answered", (), (NO_CITATION,))


def test_an_answer_at_the_limit_is_cut_short_and_names_the_setting(connect: Connect) -> None:
    _, model = connect("They eat mice [1] ", "and insects.", max_tokens=1)
    done = answer(events(model))
    assert done.outcome == "cut_short"
    assert "max_tokens" in done.notes[0]
    assert done.text == "They eat mice [1] "


def test_a_quotation_that_stands_nowhere_is_unverified(connect: Connect) -> None:
    _, model = connect('It says "they eat nothing but fish" [1].')
    done = answer(events(model))
    assert done.unverified_quotes == ("they eat nothing but fish",)
    assert not done.citations[0].verified


def test_a_stream_that_breaks_off_fails_with_what_had_come(connect: Connect) -> None:
    server, model = connect("They eat ", "mice [", "1] and more.")
    server.script("/chat/completions", Fault(kind="cut", after=2))
    *_, failed = events(model)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, EndpointUnavailable)
    assert failed.partial == "They eat mice ["
    with pytest.raises(EndpointUnavailable) as raised:
        answer_of([failed])
    assert raised.value.partial == failed.partial


def test_an_answer_of_a_fallback_names_it_and_says_why(connect: Connect) -> None:
    server, _ = connect("They eat mice [1].")
    server.failing = {"kite-1": Fault(404, "retired")}
    model = ChatModel(Endpoint(server.base_url, retry_seconds=0), "kite-1", fallbacks=("kite-2",))
    done = answer(events(model))
    assert done.model == "kite-2"
    assert done.notes[0].startswith("The model 'kite-2' answered, because 'kite-1' was unavailable: ")


def test_a_refused_request_fails_without_text(connect: Connect) -> None:
    server, model = connect("never")
    server.script("/chat/completions", Fault(400, "prompt is too long"))
    retrieved, failed = events(model)
    assert isinstance(retrieved, Retrieved)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, RequestRefused)
    assert failed.partial == ""


@pytest.mark.parametrize(("pieces", "said"), [((" \n",), "ask again"), (("(thinks) hm", "(thinks) so"), "max_tokens")])
def test_an_empty_reply_fails_and_says_what_to_do(connect: Connect, pieces: tuple[str, ...], said: str) -> None:
    _, model = connect(*pieces, max_tokens=1)
    failed = events(model)[-1]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, EndpointReply)
    assert said in str(failed.error)
    assert "'kite-1'" in str(failed.error)


def test_closing_the_stream_ends_the_request(connect: Connect) -> None:
    server, model = connect(*["word "] * 400, seconds=0.01)
    stream = respond(QUESTION, QUESTION, Retrieval(HITS), model, AnswerPlan(2000))
    assert isinstance(next(stream), Retrieved)
    assert isinstance(next(stream), Delta)
    stream.close()  # type: ignore[attr-defined]
    assert server.closed_early.wait(3)


class KeptStream:
    """A model whose stream somebody else holds too, so that only closing it can end it."""

    model = "kept"

    def __init__(self) -> None:
        self.closed = False
        self.kept = self._pieces()

    def stream(self, messages: Sequence[Message], *, seconds: float = math.inf) -> Iterator[Piece]:
        return self.kept

    def _pieces(self) -> Iterator[Piece]:
        try:
            while True:
                yield Piece("word ")
        finally:
            self.closed = True


def test_closing_the_stream_closes_the_model_s() -> None:
    model = KeptStream()
    stream = respond(QUESTION, QUESTION, Retrieval(HITS), model, AnswerPlan(2000))
    assert isinstance(next(stream), Retrieved)
    assert isinstance(next(stream), Delta)
    assert not model.closed
    stream.close()  # type: ignore[attr-defined]
    assert model.closed


def test_blank_lines_before_the_answer_are_left_out(connect: Connect) -> None:
    _, model = connect("\n\n", " They", " eat mice [1].")
    assert answer(events(model)).text == "They eat mice [1]."


def test_what_rewriting_cost_is_added_to_the_usage(connect: Connect) -> None:
    _, model = connect("Mice [1].")
    *_, last = respond(QUESTION, QUESTION, Retrieval(HITS), model, AnswerPlan(2000), usage=Usage(100, 20))
    assert isinstance(last, Done)
    assert last.answer.usage.completion_tokens == 21
    assert last.answer.usage.prompt_tokens > 100


def test_passages_that_do_not_fit_the_budget_are_not_shown(connect: Connect) -> None:
    server, model = connect("Mice [1].")
    long = make_hit("kites " * 2000, rank=3, source="/long.md")
    assert answer(list(respond(QUESTION, QUESTION, Retrieval((*HITS, long)), model, AnswerPlan(500)))).hits == HITS
    assert 'number="3"' not in server.received[0].body["messages"][-1]["content"]


# --- without a model ---


def test_without_a_model_the_best_sentences_are_cited_and_it_says_how_to_set_one() -> None:
    done = answer(events(None))
    assert "They eat mice and insects. [1]" in done.text
    assert "They eat mice and insects." in done.citations[0].quote
    assert (done.outcome, done.model, done.usage, done.notes) == ("answered", "", Usage(), (NO_MODEL,))
    assert "FIREWORKS_API_KEY" in NO_MODEL
    assert "\n" not in NO_MODEL


def test_sentences_that_follow_each_other_are_cited_as_one_span() -> None:
    text = "Kites eat mice. Kites eat insects too. Boats float on water."
    (citation,) = answer(events(None, hits=[make_hit(text, start=5, line=2)])).citations
    assert (citation.quote, citation.start, citation.line) == ("Kites eat mice. Kites eat insects too.", 5, 2)


def test_a_document_s_own_footnotes_are_no_citations() -> None:
    done = answer(events(None, hits=[make_hit("Kites eat mice[7] and insects [1].")]))
    assert done.text == "Kites eat mice and insects. [1]"


@pytest.mark.parametrize("question", ["zxqv blorptang frumious", "Who won the 1998 football world cup?"])
def test_without_a_model_nothing_relevant_is_no_evidence(question: str) -> None:
    done = answer(events(None, question=question))
    assert (done.outcome, done.text, done.citations, done.notes) == ("no_evidence", NOT_IN_DOCUMENTS, (), ())


def test_nothing_retrieved_is_no_evidence() -> None:
    assert answer(events(None, hits=())).outcome == "no_evidence"


@given(st.lists(st.text(alphabet="kites mice. :#*`|[]1-\n数é", max_size=60), max_size=4))
def test_any_passages_give_a_whole_stream_whose_citations_stand_in_the_documents(texts: list[str]) -> None:
    done = answer(events(None, hits=make_hits(*texts), question="kites mice"))
    for citation in done.citations:
        assert texts[int(citation.hit.chunk.source[6:-3]) - 1][citation.start : citation.end] == citation.quote


# --- follow-up questions ---

HISTORY = [Turn("Where do red kites live?", "In Europe [1].")]


def test_a_first_question_stands_alone_and_the_model_is_not_asked(connect: Connect) -> None:
    server, model = connect("something else")
    assert standalone_question(QUESTION, [], model) == (QUESTION, Usage())
    assert server.received == []


def test_a_follow_up_is_rewritten_by_the_model_and_counted(connect: Connect) -> None:
    server, model = connect('\n"What do red kites ', 'eat?"\n')
    text, usage = standalone_question("And what do they eat?", HISTORY, model)
    assert text == "What do red kites eat?"
    assert usage.completion_tokens == 2
    prompt = server.received[0].body["messages"][-1]["content"]
    assert "Where do red kites live?" in prompt
    assert "And what do they eat?" in prompt


def test_an_error_while_rewriting_is_raised(connect: Connect) -> None:
    server, model = connect("never")
    server.script("/chat/completions", Fault(400, "no"))
    with pytest.raises(RequestRefused):
        standalone_question("And what do they eat?", HISTORY, model)


@pytest.mark.parametrize(
    ("question", "searched"),
    [
        ("And in winter?", "Where do red kites live? And in winter?"),
        ("How many eggs do black kites lay?", "How many eggs do black kites lay?"),
        ("数据存储在哪里？", "数据存储在哪里？"),
    ],
)
def test_without_a_model_a_short_follow_up_is_searched_with_the_question_before(question: str, searched: str) -> None:
    assert standalone_question(question, HISTORY, None) == (searched, Usage())


def test_the_standalone_question_is_the_one_that_is_answered(connect: Connect) -> None:
    server, model = connect("Mice [1].")
    found = list(respond("And they?", QUESTION, Retrieval(HITS), model, AnswerPlan(2000)))
    done = answer(found)
    assert (done.question, done.standalone) == ("And they?", QUESTION)
    assert QUESTION in server.received[0].body["messages"][-1]["content"]
