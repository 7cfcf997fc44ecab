"""The client of a model endpoint, against a scripted endpoint on a real socket."""

from __future__ import annotations

import email.utils
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import openai
import pytest
from pydantic import SecretStr

from citekite import retry
from citekite.endpoint import faults
from citekite.endpoint.choose import endpoint_for, model_for
from citekite.endpoint.client import Endpoint
from citekite.errors import (
    EndpointDenied,
    EndpointError,
    EndpointReply,
    EndpointUnavailable,
    ModelNotFound,
    RequestRefused,
    SettingsError,
)
from citekite.ports import Message
from citekite.retry import Transient, call_with_retries, retry_after
from citekite.settings import Settings
from scripted_endpoint import Fault, ScriptedEndpoint

KEY = "sk-test-0123456789"
TEXTS = ["Milvus stores vectors.", "Kites fly.", "A third text"]
NO_WAIT = {"Retry-After": "0"}


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def embed(base_url: str, **options: object) -> np.ndarray:
    return Endpoint(base_url, **options).embeddings("m", TEXTS)  # type: ignore[arg-type]


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pause in milliseconds: these tests are about the fault, not about the pause."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.02)


def test_the_official_sdk_understands_the_scripted_endpoint() -> None:
    """The double cannot lie: the client that it stands for reads its replies, streams and errors."""
    with ScriptedEndpoint(dimension=8, key=KEY, models=["m"]) as endpoint:
        client = openai.OpenAI(base_url=endpoint.base_url, api_key=KEY, max_retries=1)
        for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}, {"dimensions": 4}):
            reply = client.embeddings.create(model="m", input=TEXTS, **options)
            assert sorted(row.index for row in reply.data) == [0, 1, 2]
            assert reply.usage.prompt_tokens > 0
        by_default = client.embeddings.create(model="m", input=TEXTS[0]).data[0].embedding
        assert by_default == pytest.approx(endpoint.embed(TEXTS[0]))
        assert [model.id for model in client.models.list()] == ["m"]

        chunks = list(
            client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": '<passage number="7" title="t">One fact. Two.</passage>'}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "One fact [7]."
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].usage is not None

        endpoint.script("/embeddings", Fault(429, headers={"Retry-After": "0.01"}))
        assert client.embeddings.create(model="m", input=TEXTS).data  # retried by the SDK's own policy
        for status, error in [(401, openai.AuthenticationError), (429, openai.RateLimitError)]:
            endpoint.script("/embeddings", Fault(status), Fault(status))
            with pytest.raises(error):
                client.with_options(max_retries=0).embeddings.create(model="m", input=TEXTS)
            endpoint._faults.clear()
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="other", input=TEXTS)
        endpoint.script("/embeddings", Fault(kind="reset"), Fault(kind="reset"))
        with pytest.raises(openai.APIConnectionError):
            client.embeddings.create(model="m", input=TEXTS)


@pytest.mark.parametrize("options", [{}, {"ignores_base64": True}, {"refused_fields": ["encoding_format"]}])
def test_vectors_come_in_the_order_of_the_texts(options: dict[str, object]) -> None:
    """By base64, by numbers, and from an endpoint that refuses to be asked for a format."""
    with ScriptedEndpoint(**options) as endpoint:  # type: ignore[arg-type]
        vectors = embed(endpoint.base_url)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, [endpoint.embed(text) for text in TEXTS], rtol=1e-6)


def test_a_refused_format_is_not_asked_for_again() -> None:
    with ScriptedEndpoint(refused_fields=["encoding_format"]) as endpoint:
        client = Endpoint(endpoint.base_url)
        for _ in range(3):
            client.embeddings("m", TEXTS)
        asked = ["encoding_format" in request.body for request in endpoint.received]
        assert asked == [True, False, False, False]


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(408, headers=NO_WAIT),
        Fault(429, headers=NO_WAIT),
        Fault(429, headers={"retry-after-ms": "10"}),
        Fault(500),
        Fault(502, headers=NO_WAIT),
        Fault(503, headers=NO_WAIT),
        Fault(kind="reset"),
        Fault(kind="slow", seconds=0.5),
        Fault(kind="malformed"),
        Fault(kind="cut"),
        Fault(kind="missing"),
        Fault(kind="wrong_dimension"),
        Fault(kind="uneven"),
        Fault(kind="repeated_index"),
        Fault(kind="not_finite"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}" if fault.kind == "status" else fault.kind,
)
def test_a_passing_fault_is_survived(fault: Fault) -> None:
    with ScriptedEndpoint() as endpoint:
        endpoint.script("/embeddings", fault)
        vectors = Endpoint(endpoint.base_url, timeout=0.3, retry_seconds=10).embeddings(
            "m", TEXTS, expected=lambda length: 64
        )
        np.testing.assert_allclose(vectors, [endpoint.embed(text) for text in TEXTS], rtol=1e-6)
        assert len(endpoint.received) == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RequestRefused),
        (401, EndpointDenied),
        (402, EndpointDenied),
        (403, EndpointDenied),
        (404, ModelNotFound),
        (412, EndpointDenied),
        (413, RequestRefused),
        (422, RequestRefused),
    ],
)
def test_a_lasting_fault_is_not_repeated(status: int, error: type[EndpointError]) -> None:
    with ScriptedEndpoint() as endpoint:
        endpoint.script("/embeddings", Fault(status, "the reason"))
        with pytest.raises(error, match="the reason"):
            embed(endpoint.base_url)
        assert len(endpoint.requests("/embeddings")) == 1


def test_a_used_up_quota_is_not_waited_for() -> None:
    """429 also stands for an account without money (OpenAI's `insufficient_quota`)."""
    with ScriptedEndpoint() as endpoint:
        body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
        endpoint.script("/embeddings", Fault(429, body=body))
        with pytest.raises(EndpointDenied, match="quota"):
            embed(endpoint.base_url)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(503, "overloaded"), EndpointUnavailable),
        (Fault(kind="reset"), EndpointUnavailable),
        (Fault(kind="malformed"), EndpointReply),
        (Fault(kind="uneven"), EndpointReply),
    ],
    ids=["503", "reset", "malformed", "uneven"],
)
def test_a_fault_that_stays_is_given_up_within_the_budget(fault: Fault, error: type[EndpointError]) -> None:
    with ScriptedEndpoint() as endpoint:
        endpoint.script("/embeddings", *[fault] * 50)
        started = time.monotonic()
        with pytest.raises(error, match=r"\(asked \d times in \d s\)"):
            embed(endpoint.base_url, retry_seconds=1)
        assert time.monotonic() - started < 1.5
        assert 2 <= len(endpoint.received) <= 5


def test_wrong_dimensions_are_named() -> None:
    with ScriptedEndpoint(dimension=16) as endpoint:
        with pytest.raises(EndpointReply, match="16 dimensions instead of 8"):
            Endpoint(endpoint.base_url, retry_seconds=0).embeddings("m", TEXTS, expected=lambda length: 8)
        assert Endpoint(endpoint.base_url).embeddings("m", TEXTS, dimensions=8).shape == (3, 8)


def test_retry_after_is_waited_for() -> None:
    with ScriptedEndpoint() as endpoint:
        endpoint.script("/embeddings", Fault(429, headers={"Retry-After": "1"}))
        started = time.monotonic()
        embed(endpoint.base_url)
        assert 1 <= time.monotonic() - started < 2


def test_a_retry_after_beyond_the_budget_is_not_begun() -> None:
    with ScriptedEndpoint() as endpoint:
        endpoint.script("/embeddings", Fault(429, headers={"Retry-After": "3600"}))
        started = time.monotonic()
        with pytest.raises(EndpointUnavailable, match="it wants 3600 s of pause"):
            embed(endpoint.base_url)
        assert time.monotonic() - started < 1


def test_retry_after_may_be_a_date() -> None:
    date = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=90))
    assert 88 <= (retry_after({"retry-after": date}) or 0) <= 90
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert retry_after({"retry-after": past}) == 0


@pytest.mark.parametrize("headers", [{}, {"retry-after": ""}, {"retry-after": "soon"}, {"retry-after": "nan"}])
def test_an_unusable_retry_after_counts_as_none(headers: dict[str, str]) -> None:
    assert retry_after(headers) is None


def test_a_pause_that_was_asked_for_does_not_lengthen_the_next_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("citekite.retry.cancel.sleep", slept.append)
    faults = [
        *[Transient(EndpointUnavailable("busy"), "", retry_after=0.1)] * 6,
        Transient(EndpointUnavailable("no"), ""),
    ]

    def fail() -> str:
        if faults:
            raise faults.pop(0)
        return "done"

    assert call_with_retries(fail, 60) == "done"
    assert len(slept) == 7
    assert slept[-1] <= 0.5


def test_ctrl_c_ends_a_pause_between_attempts_at_once() -> None:
    def fail() -> None:
        raise Transient(EndpointUnavailable("busy"), "", retry_after=30)

    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        call_with_retries(fail, 60)
    assert time.monotonic() - started < 2


def test_an_address_where_nothing_listens_is_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The full budget is for an endpoint that has answered before; a wrong port should not cost two minutes."""
    monkeypatch.setattr(faults, "FIRST_CONTACT_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(EndpointUnavailable, match=r"no connection to the endpoint http://127.*Check `base_url`"):
        embed(f"http://127.0.0.1:{closed_port()}/v1")
    assert time.monotonic() - started < 3


def test_an_endpoint_that_stays_silent_is_named_with_its_timeout() -> None:
    with ScriptedEndpoint() as endpoint:
        endpoint.script("/embeddings", Fault(kind="slow", seconds=0.5))
        with pytest.raises(EndpointUnavailable, match=r"sent nothing for 0\.1 s.*Raise `timeout`"):
            embed(endpoint.base_url, timeout=0.1, retry_seconds=0)


def test_an_unknown_model_is_answered_with_the_nearest_names_and_the_setting() -> None:
    models = ["accounts/x/models/llama-v4-scout", "accounts/x/models/qwen3-embedding-8b", "whisper"]
    with ScriptedEndpoint(models=models) as endpoint:
        with pytest.raises(ModelNotFound) as caught:
            list(chat(Endpoint(endpoint.base_url), "accounts/x/models/llama-v3p1-405b-instruct"))
        message = str(caught.value)
        assert "does not serve the model 'accounts/x/models/llama-v3p1-405b-instruct'" in message
        assert f"It lists: {', '.join(models)}. Set `model` (--model, CITEKITE_MODEL)." in message
        with pytest.raises(ModelNotFound, match=r"Set `embedding_model` \(--embedding-model, CITEKITE_EMBEDDING_MODEL"):
            embed(endpoint.base_url)


def test_a_long_list_of_models_is_cut() -> None:
    with ScriptedEndpoint(models=[f"model-{number}" for number in range(40)]) as endpoint:
        with pytest.raises(ModelNotFound) as caught:
            Endpoint(endpoint.base_url).embeddings("model-77", TEXTS)
        assert str(caught.value).count("model-") == 11
        assert "and others" in str(caught.value)


def test_an_unknown_model_without_a_list_says_so() -> None:
    with ScriptedEndpoint(models=["m"]) as endpoint:
        endpoint.script("/models", Fault(404, "no such page"))
        with pytest.raises(
            ModelNotFound, match=r"list of models cannot be read either.*no such page.*Check `base_url`"
        ):
            Endpoint(endpoint.base_url).embeddings("other", TEXTS)


@pytest.mark.parametrize("key", ["", KEY])
def test_a_refused_key_is_named_by_its_setting_and_never_shown(key: str) -> None:
    with ScriptedEndpoint(key="another") as endpoint:
        client = Endpoint(endpoint.base_url, SecretStr(key), key_names="FIREWORKS_API_KEY")
        with pytest.raises(EndpointDenied) as caught:
            client.embeddings("m", TEXTS)
        said = f"{caught.value} {caught.value.__cause__} {client!r} {client._context!r}"
        assert KEY not in said
        assert ("Check the key in" if key else "No key is set: set") + " FIREWORKS_API_KEY" in said


def test_long_errors_are_clipped() -> None:
    with ScriptedEndpoint() as endpoint:
        endpoint.script("/embeddings", Fault(400, "x" * 5000))
        with pytest.raises(RequestRefused) as caught:
            embed(endpoint.base_url)
        assert len(str(caught.value)) < 400


def test_nothing_of_the_sdk_s_own_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_* variables are meant for OpenAI, not for any address that a user sets."""
    for variable in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(variable, "private")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer private")
    with ScriptedEndpoint() as endpoint:
        embed(endpoint.base_url)
        list(chat(Endpoint(endpoint.base_url, KEY), "m"))
        assert "private" not in str([request.headers for request in endpoint.received])
        sent = [request.headers["authorization"] for request in endpoint.received]
        assert sent == ["Bearer none", f"Bearer {KEY}"]


@pytest.mark.parametrize("field", ["data", "results"])
def test_rerank_gives_the_best_documents_first(field: str) -> None:
    with ScriptedEndpoint(rerank_field=field) as endpoint:
        documents = ["nothing here", "where is data stored", "data is here"]
        ranking = Endpoint(endpoint.base_url).rerank("m", "where is data stored", documents, 2)
        assert [index for index, _ in ranking] == [1, 2]
        assert ranking[0][1] == 1


def test_models_are_listed() -> None:
    with ScriptedEndpoint(models=["b", "a"]) as endpoint:
        assert Endpoint(endpoint.base_url).models() == ["b", "a"]


def test_text_that_is_no_unicode_is_sent_readable() -> None:
    """A question typed in a terminal of another encoding has lone surrogates, which JSON cannot carry."""
    with ScriptedEndpoint() as endpoint:
        Endpoint(endpoint.base_url).embeddings("m", ["caf\udce9"])
        assert endpoint.texts() == ["caf?"]


@pytest.mark.parametrize("address", ["ftp://host/v1", "http://", "http://host:99999/v1", "host/v1", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="is no address"):
        Endpoint(address)


def test_a_password_in_the_address_is_not_shown() -> None:
    port = closed_port()
    client = Endpoint(f"http://me:secret@127.0.0.1:{port}/v1", retry_seconds=0)
    with pytest.raises(EndpointUnavailable) as caught:
        client.models()
    assert "secret" not in f"{caught.value} {client!r}"


def test_a_key_with_a_line_break_is_trimmed_and_one_with_odd_letters_refused() -> None:
    with ScriptedEndpoint(key=KEY) as endpoint:
        embed(endpoint.base_url, api_key=f"{KEY}\n")
    with pytest.raises(SettingsError, match="copy it again") as caught:
        Endpoint("http://host/v1", "sk-…абв")
    assert "абв" not in str(caught.value)


SETTINGS_CASES: list[tuple[Settings, str, str]] = [
    (Settings(provider="fireworks", api_key=SecretStr(KEY)), "chat", "https://api.fireworks.ai/inference/v1"),
    (Settings(provider="ollama"), "embedding", "http://127.0.0.1:11434/v1"),
    (Settings(base_url="http://here/v1"), "embedding", "http://here/v1"),
    (Settings(base_url="http://here/v1", embedding_base_url="http://there/v1"), "embedding", "http://there/v1"),
    (Settings(base_url="http://here/v1", embedding_base_url="http://there/v1"), "chat", "http://here/v1"),
    (Settings(provider="fireworks", base_url="http://proxy/v1"), "chat", "http://proxy/v1"),
]


@pytest.mark.parametrize(("settings", "purpose", "address"), SETTINGS_CASES)
def test_the_address_comes_from_the_settings(settings: Settings, purpose: str, address: str) -> None:
    assert endpoint_for(settings, purpose).address == address  # type: ignore[arg-type]


def test_a_preset_without_its_key_names_the_variable() -> None:
    with pytest.raises(SettingsError, match="set FIREWORKS_API_KEY"):
        endpoint_for(Settings(provider="fireworks"), "chat")


def test_no_endpoint_at_all_says_how_to_set_one() -> None:
    with pytest.raises(SettingsError, match=r"FIREWORKS_API_KEY.*--base-url"):
        endpoint_for(Settings(), "embedding")


@pytest.mark.parametrize(("purpose", "setting"), [("chat", "model"), ("embedding", "embedding_model")])
def test_an_address_without_a_model_lists_the_models_there(purpose: str, setting: str) -> None:
    with ScriptedEndpoint(models=["alpha", "beta"]) as endpoint:
        settings = Settings(base_url=endpoint.base_url)
        with pytest.raises(SettingsError, match=rf"It lists: .*alpha.*Set `{setting}`"):
            model_for(settings, purpose, endpoint_for(settings, purpose))  # type: ignore[arg-type]


def test_many_threads_share_one_client() -> None:
    with ScriptedEndpoint(latency=0.05) as endpoint:
        client = Endpoint(endpoint.base_url, connections=8)
        failures: list[BaseException] = []

        def guarded(call: Callable[[], object]) -> None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - asserted below
                failures.append(error)

        threads = [threading.Thread(target=guarded, args=(lambda: client.embeddings("m", TEXTS),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert endpoint.most_at_once == 8


def chat(client: Endpoint, model: str) -> object:
    return client.chat(model, [Message("user", "hello")], max_tokens=10, temperature=0)
