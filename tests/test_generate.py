"""The chat model: a stream of pieces, what breaks it, and how one is chosen."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from citekite import retry
from citekite.answer.generate import ChatModel, make_generator, without_thoughts
from citekite.endpoint.client import Endpoint
from citekite.errors import EndpointDenied, EndpointUnavailable, ModelNotFound, RequestRefused, SettingsError
from citekite.ports import Generator, Message, Piece
from citekite.settings import Settings
from citekite.types import Usage
from scripted_endpoint import Fault, ScriptedEndpoint

QUESTION = [Message("system", "Answer."), Message("user", "Do kites fly?")]


def model_of(endpoint: ScriptedEndpoint, **options: float) -> ChatModel:
    return ChatModel(Endpoint(endpoint.base_url, retry_seconds=10), "m", **options)  # type: ignore[arg-type]


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pause in milliseconds: these tests are about the fault, not about the pause."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.02)


def test_a_reply_comes_in_pieces_and_ends_with_its_usage() -> None:
    with ScriptedEndpoint(pieces=["Kites ", "fly ", "high."]) as endpoint:
        pieces = list(model_of(endpoint).stream(QUESTION))
        assert [piece.text for piece in pieces] == ["Kites ", "fly ", "high.", ""]
        assert pieces[-1] == Piece("", "stop", Usage(4, 3))
        body = endpoint.received[0].body
        assert body["messages"] == [{"role": m.role, "content": m.content} for m in QUESTION]
        assert (body["max_tokens"], body["temperature"], body["stream"]) == (1024, 0, True)


def test_pieces_are_passed_on_as_they_come() -> None:
    with ScriptedEndpoint(pieces=["a "] * 5, piece_seconds=0.1) as endpoint:
        started = time.monotonic()
        next(iter(model_of(endpoint).stream(QUESTION)))
        assert time.monotonic() - started < 0.45


def test_a_reply_of_greatest_length_says_that_it_was_cut() -> None:
    with ScriptedEndpoint(pieces=["a ", "b ", "c "]) as endpoint:
        pieces = list(model_of(endpoint, max_tokens=2).stream(QUESTION))
        assert text_of(pieces) == "a b "
        assert pieces[-1].finish_reason == "length"


def test_closing_the_stream_ends_the_request() -> None:
    with ScriptedEndpoint(pieces=["on and "] * 200, piece_seconds=0.02) as endpoint:
        pieces = model_of(endpoint).stream(QUESTION)
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert endpoint.closed_early.wait(2)


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, headers={"Retry-After": "0"}),
        Fault(500, headers={"Retry-After": "0"}),
        Fault(kind="reset"),
        Fault(kind="cut", after=0),
        Fault(kind="malformed", after=0),
        Fault(kind="unfinished", after=0),
        Fault(kind="error_event", after=0),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}" if fault.kind == "status" else fault.kind,
)
def test_a_fault_before_the_first_piece_is_survived(fault: Fault) -> None:
    with ScriptedEndpoint(pieces=["Yes, ", "they do."]) as endpoint:
        endpoint.script("/chat/completions", fault)
        assert text_of(list(model_of(endpoint).stream(QUESTION))) == "Yes, they do."
        assert len(endpoint.received) == 2


@pytest.mark.parametrize("kind", ["cut", "malformed", "unfinished", "error_event"])
def test_a_stream_that_breaks_off_is_an_error_and_not_asked_again(kind: str) -> None:
    """What had come stays with the caller; asking again would begin another text."""
    with ScriptedEndpoint(pieces=["Yes, ", "they ", "do."]) as endpoint:
        endpoint.script("/chat/completions", Fault(kind=kind, after=2))  # type: ignore[arg-type]
        pieces = model_of(endpoint).stream(QUESTION)
        assert text_of(list(itertools.islice(pieces, 2))) == "Yes, they "
        with pytest.raises(EndpointUnavailable, match="broke off"):
            next(pieces)
        assert len(endpoint.received) == 1


def test_a_stream_that_breaks_after_its_end_is_whole() -> None:
    """Only the count of tokens is lost when the connection breaks after the finish reason."""
    with ScriptedEndpoint(pieces=["Yes."]) as endpoint:
        endpoint.script("/chat/completions", Fault(kind="cut", after=2))
        pieces = list(model_of(endpoint).stream(QUESTION))
        assert pieces == [Piece("Yes."), Piece("", "stop", None)]


def test_thoughts_are_not_part_of_the_answer() -> None:
    """In a field of their own, or between tags in the text."""
    with ScriptedEndpoint(pieces=["(thinks) hm", "<th", "ink>hm, ", "kites</think>", "\n\nYes", "."]) as endpoint:
        pieces = list(model_of(endpoint).stream(QUESTION))
        assert text_of(pieces) == "Yes."
        assert pieces[-1].usage is not None


THOUGHTS = st.sampled_from(["", "<think>hm</think>", "\n<think>\na < b\n</think>\n\n", "<think></think>"])
ANSWERS = st.sampled_from(["Yes.", "<thinly> spread", "<think", "a <think>b</think>", "", "x  y\n"])


@given(thoughts=THOUGHTS, answer=ANSWERS, cuts=st.sets(st.integers(0, 60)))
def test_thoughts_are_dropped_however_the_stream_is_cut(thoughts: str, answer: str, cuts: set[int]) -> None:
    text = thoughts + answer
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    end = Piece("", "stop", Usage(1, 2))
    pieces = [Piece(text[start:stop]) for start, stop in itertools.pairwise(edges)]
    back = list(without_thoughts(piece for piece in [*pieces, end]))
    assert text_of(back) == answer
    assert back[-1] == Piece(back[-1].text, "stop", Usage(1, 2))
    assert all(piece.text for piece in back[:-1])


def test_thoughts_that_never_end_leave_no_text() -> None:
    pieces = (piece for piece in [Piece("<think>on and on"), Piece("", "length", Usage(1, 9))])
    assert list(without_thoughts(pieces)) == [Piece("", "length", Usage(1, 9))]


@pytest.mark.parametrize(
    ("message", "missing", "instead"),
    [
        ("Extra inputs are not permitted, field: 'stream_options'", "stream_options", None),
        (
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            "max_tokens",
            "max_completion_tokens",
        ),
        (
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported.",
            "temperature",
            None,
        ),
    ],
)
def test_a_field_that_the_model_does_not_take_is_left_out_from_then_on(
    message: str, missing: str, instead: str | None
) -> None:
    with ScriptedEndpoint(pieces=["Yes."]) as endpoint:
        model = model_of(endpoint)
        endpoint.script("/chat/completions", Fault(400, message))
        for _ in range(2):
            assert text_of(list(model.stream(QUESTION))) == "Yes."
        bodies = [request.body for request in endpoint.received]
        assert [missing in body for body in bodies] == [True, False, False]
        if instead:
            assert bodies[-1][instead] == bodies[0][missing]


def test_a_temperature_out_of_range_is_for_the_user_to_mend() -> None:
    with ScriptedEndpoint(pieces=["Yes."]) as endpoint:
        endpoint.script("/chat/completions", Fault(400, "temperature must be at most 1"))
        with pytest.raises(RequestRefused, match="temperature must be at most 1"):
            list(model_of(endpoint, temperature=2.0).stream(QUESTION))


def test_a_retired_model_is_answered_with_what_the_endpoint_serves() -> None:
    with (
        ScriptedEndpoint(models=["llama-v4"]) as endpoint,
        pytest.raises(ModelNotFound, match=r"'m'.*It lists: llama-v4\. Set `model`"),
    ):
        list(model_of(endpoint).stream(QUESTION))


# Fallbacks.


def falling_back(endpoint: ScriptedEndpoint, *fallbacks: str, retry_seconds: float = 0) -> ChatModel:
    return ChatModel(Endpoint(endpoint.base_url, retry_seconds=retry_seconds), "first", fallbacks=fallbacks)


def asked(endpoint: ScriptedEndpoint) -> list[str]:
    return [request.body["model"] for request in endpoint.requests("/chat/completions")]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(404, "retired"), "does not serve the model 'first'"),
        (Fault(503, "overloaded"), "503: overloaded"),
        (Fault(429, "slow down"), "429: slow down"),
    ],
    ids=["404", "503", "429"],
)
def test_the_next_model_answers_where_one_cannot_and_says_so(fault: Fault, said: str) -> None:
    with ScriptedEndpoint(pieces=["Yes, ", "they do."]) as endpoint:
        endpoint.failing = {"first": fault, "second": fault}
        pieces = list(falling_back(endpoint, "second", "third", "fourth").stream(QUESTION))
        assert pieces[0].model == "third"
        assert pieces[0].note.startswith(
            "The model 'third' answered, because 'first' was unavailable: the endpoint http"
        )
        assert said in pieces[0].note
        assert "; 'second' was unavailable: " in pieces[0].note
        assert text_of(pieces) == "Yes, they do."
        assert asked(endpoint) == ["first", "second", "third"]


def test_the_first_model_answers_without_a_word_about_fallbacks() -> None:
    with ScriptedEndpoint(pieces=["Yes."]) as endpoint:
        pieces = list(falling_back(endpoint, "second").stream(QUESTION))
        assert [(piece.model, piece.note) for piece in pieces] == [("", "")] * 2


def test_a_fault_after_text_is_not_answered_by_another_model() -> None:
    with ScriptedEndpoint(pieces=["Yes, ", "they do."]) as endpoint:
        endpoint.script("/chat/completions", Fault(kind="cut", after=1))
        pieces = falling_back(endpoint, "second").stream(QUESTION)
        assert next(pieces).text == "Yes, "
        with pytest.raises(EndpointUnavailable, match="broke off"):
            next(pieces)
        assert asked(endpoint) == ["first"]


def test_a_fault_within_thoughts_that_nobody_saw_is() -> None:
    with ScriptedEndpoint(pieces=["<think>hm, ", "kites</think>", "Yes."]) as endpoint:
        endpoint.script("/chat/completions", Fault(kind="cut", after=1))
        assert text_of(list(falling_back(endpoint, "second").stream(QUESTION))) == "Yes."
        assert asked(endpoint) == ["first", "second"]


@pytest.mark.parametrize(("status", "error"), [(400, RequestRefused), (401, EndpointDenied)])
def test_what_all_models_would_refuse_is_asked_of_one(status: int, error: type[Exception]) -> None:
    with ScriptedEndpoint() as endpoint:
        endpoint.failing = {"first": Fault(status)}
        with pytest.raises(error):
            list(falling_back(endpoint, "second").stream(QUESTION))
        assert asked(endpoint) == ["first"]


def test_when_all_models_fail_the_first_one_s_error_tells_of_the_others() -> None:
    with ScriptedEndpoint(models=["third"]) as endpoint:
        endpoint.failing = {"third": Fault(500, "on fire")}
        with pytest.raises(ModelNotFound, match=r"'first'.*fallback models failed too. 'second': .*'third': .*on fire"):
            list(falling_back(endpoint, "second", "third").stream(QUESTION))


@pytest.mark.usefixtures("quick_retries")
def test_the_first_model_leaves_its_fallbacks_most_of_the_retry_budget() -> None:
    with ScriptedEndpoint(pieces=["Yes."]) as endpoint:
        endpoint.failing = {"first": Fault(503)}
        model = falling_back(endpoint, "second", retry_seconds=1.2)
        list(falling_back(endpoint, "second").stream(QUESTION))  # the SDK is imported
        began = time.monotonic()
        assert text_of(list(model.stream(QUESTION))) == "Yes."
        assert time.monotonic() - began < 1.1
        assert asked(endpoint).count("first") > 2


def test_a_model_that_is_known_to_be_down_is_passed_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citekite.endpoint.circuit.FAILING_SECONDS", 0.0)
    with ScriptedEndpoint(pieces=["Yes."]) as endpoint:
        endpoint.failing = {"first": Fault(503)}
        model = falling_back(endpoint, "second")
        for _ in range(8):
            assert text_of(list(model.stream(QUESTION))) == "Yes."
        assert asked(endpoint).count("first") == 5


def test_work_that_one_model_has_to_do_alone_has_no_fallbacks() -> None:
    with ScriptedEndpoint(models=["second"]) as endpoint:
        settings = Settings(base_url=endpoint.base_url, model="first", fallback_models=("second",), retry_seconds=0)
        assert text_of(list(_made(make_generator(settings)).stream(QUESTION)))
        with pytest.raises(ModelNotFound):
            list(_made(make_generator(settings, alone=True)).stream(QUESTION))


def _made(generator: Generator | None) -> Generator:
    assert generator is not None
    return generator


def test_a_refused_key_ends_the_stream_before_it_begins() -> None:
    with ScriptedEndpoint(key="another") as endpoint, pytest.raises(EndpointDenied, match="CITEKITE_API_KEY"):
        list(model_of(endpoint).stream(QUESTION))


def test_without_any_endpoint_there_is_no_generator() -> None:
    assert make_generator(Settings()) is None
    assert make_generator(Settings(embedding_base_url="http://here/v1")) is None


@pytest.mark.parametrize(
    ("chosen", "model"),
    [
        (Settings(provider="fireworks", api_key=SecretStr("k")), "accounts/fireworks/models/glm-5p3-flash"),
        (Settings(provider="ollama", model="phi5"), "phi5"),
        (Settings(base_url="http://here/v1", model="local"), "local"),
    ],
)
def test_the_settings_choose_the_model(chosen: Settings, model: str) -> None:
    generator = make_generator(chosen)
    assert generator is not None
    assert generator.model == model


def test_a_model_without_an_endpoint_says_what_is_missing() -> None:
    with pytest.raises(SettingsError, match=r"`provider`.*`base_url`"):
        make_generator(Settings(model="gpt"))


def test_an_endpoint_without_a_model_lists_the_models_there() -> None:
    with (
        ScriptedEndpoint(models=["alpha"]) as endpoint,
        pytest.raises(SettingsError, match=r"It lists: alpha\. Set `model`"),
    ):
        make_generator(Settings(base_url=endpoint.base_url))
