"""Reranking: the order it makes, the endpoint's faults that it outlives, and mistakes that are told at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from citekite import KnowledgeBase
from citekite.errors import CitekiteError, MissingExtra, SettingsError
from citekite.retrieve import rerank
from citekite.retrieve.rerank import CrossEncoderReranker, make_reranker, reranked
from citekite.settings import Settings
from commands import as_json, citekite
from passages import make_hits
from scripted_endpoint import Fault, ScriptedEndpoint
from stored import knowledge_base, write

QUESTION = "Which tail does the red kite have?"
FILES = {
    "tail.md": "# Tail\n\nThe red kite does have a forked tail, which steers.\n",
    "red.md": "# Red red kite kite\n\nRed kite, red kite, kite!\n",
    "owl.md": "# Owl\n\nThe barn owl hunts voles.\n",
}
KEY = "rerank-key"
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("rerank")
    with knowledge_base(folder / "citekite.db") as kb:
        kb.sync(write(folder / "docs", FILES))
    return str(folder / "citekite.db")


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(key=KEY) as running:
        yield running


def api(endpoint: ScriptedEndpoint, **values: Any) -> dict[str, Any]:
    return {
        "reranker": "api",
        "rerank_base_url": endpoint.base_url,
        "rerank_model": "m",
        "rerank_api_key": KEY,
        "mode": "lexical",
        **values,
    }


def names(kb: KnowledgeBase, **arguments: Any) -> list[str]:
    return [Path(hit.chunk.source).name for hit in kb.search(QUESTION, **arguments)]


@pytest.mark.parametrize("field", ["data", "results"])
def test_the_reranker_orders_what_the_search_found(uri: str, field: str) -> None:
    with knowledge_base(uri, mode="lexical") as plain:
        before = plain.search(QUESTION)
    with ScriptedEndpoint(rerank_field=field) as endpoint, knowledge_base(uri, **api(endpoint)) as kb:
        found = kb.retrieve(QUESTION)
        sent = endpoint.requests("/rerank")

    assert [Path(hit.chunk.source).name for hit in found.hits] == ["tail.md", "red.md"]
    assert [hit.rank for hit in found.hits] == [1, 2]
    assert [hit.score for hit in found.hits] == [hit.legs["rerank"].score for hit in found.hits]
    assert [hit.legs["rerank"].rank for hit in found.hits] == [1, 2]
    assert [hit.legs["lexical"] for hit in found.hits] == [
        next(old.legs["lexical"] for old in before if old.chunk == hit.chunk) for hit in found.hits
    ]
    assert found.notes == ()
    assert found.seconds["rerank"] > 0
    assert len(sent) == 1
    assert sent[0].body["query"] == QUESTION
    assert sorted(sent[0].body["documents"]) == sorted(hit.chunk.indexed_text for hit in before)


def test_as_many_as_rerank_depth_are_read_and_k_are_kept(uri: str, endpoint: ScriptedEndpoint) -> None:
    with knowledge_base(uri, **api(endpoint, rerank_depth=2, mode="dense")) as kb:
        assert len(kb.search(QUESTION, k=1)) == 1
        assert len(kb.search(QUESTION, k=3)) == 3

    assert [len(request.body["documents"]) for request in endpoint.requests("/rerank")] == [2, 3]


def test_a_text_that_stands_in_ten_documents_is_read_once(tmp_path: Path, endpoint: ScriptedEndpoint) -> None:
    copies = {f"copy{number}.md": FILES["tail.md"] for number in range(10)}
    with knowledge_base(tmp_path / "copies.db", **api(endpoint, rerank_depth=2)) as kb:
        kb.sync(write(tmp_path / "docs", FILES | copies))
        hits = kb.search(QUESTION)

    (request,) = endpoint.requests("/rerank")
    assert len(request.body["documents"]) == 2
    assert [hit.rank for hit in hits] == [1, 2, 3][: len(hits)]
    assert [len(hit.others) for hit in hits] == [10, 0]


@pytest.mark.parametrize(
    ("fault", "times", "said"),
    [
        (Fault(429, headers={"Retry-After": "60"}), 1, "answered 429"),
        (Fault(500), 20, "answered 500"),
        (Fault(401), 1, "Check the key in CITEKITE_API_KEY or CITEKITE_RERANK_API_KEY"),
        (Fault(404), 1, "Set `rerank_model`"),
        (Fault(kind="reset"), 20, "no connection"),
        (Fault(kind="malformed"), 20, "cannot be used"),
        (Fault(kind="cut"), 20, "no connection"),
        (Fault(kind="slow", seconds=2), 20, "sent nothing for 0.5 s"),
    ],
    ids=["429", "500", "401", "404", "reset", "malformed", "cut", "hang"],
)
def test_a_reranker_that_fails_leaves_the_order_of_the_search(
    uri: str, endpoint: ScriptedEndpoint, fault: Fault, times: int, said: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(rerank, "SECONDS", 0.5)
    endpoint.script("/rerank", *[fault] * times)
    with knowledge_base(uri, mode="lexical") as plain:
        expected = plain.search(QUESTION)
    with knowledge_base(uri, **api(endpoint)) as kb, caplog.at_level(logging.WARNING, "citekite"):
        started = time.monotonic()
        found = kb.retrieve(QUESTION)
        took = time.monotonic() - started

    assert list(found.hits) == expected
    assert len(found.notes) == 1
    assert found.notes[0].startswith("The reranker failed, so the passages are in the order of the search: ")
    assert said in found.notes[0]
    assert said in caplog.text
    assert KEY not in found.notes[0] + caplog.text
    assert took < 5


def test_a_fault_that_passes_is_outlived(uri: str, endpoint: ScriptedEndpoint) -> None:
    endpoint.script("/rerank", Fault(429, headers={"Retry-After": "0.05"}), Fault(kind="malformed"))
    with knowledge_base(uri, **api(endpoint)) as kb:
        found = kb.retrieve(QUESTION)

    assert found.notes == ()
    assert names_of(found.hits) == ["tail.md", "red.md"]
    assert len(endpoint.requests("/rerank")) == 3


class Partial(ScriptedEndpoint):
    """An endpoint whose ranking is what a test says."""

    ranking: tuple[dict[str, Any], ...] = ()

    def rerank(self, body: Any) -> dict[str, Any]:
        return {"results": list(self.ranking)}


def test_passages_that_a_ranking_leaves_out_come_last_as_they_were(uri: str) -> None:
    with knowledge_base(uri, mode="dense") as plain:
        before = names(plain)
    with Partial() as endpoint, knowledge_base(uri, **api(endpoint, mode="dense")) as kb:
        endpoint.ranking = ({"index": 2, "score": 0.25},)
        found = kb.retrieve(QUESTION)

    assert names_of(found.hits) == [before[2], before[0], before[1]]
    assert ["rerank" in hit.legs for hit in found.hits] == [True, False, False]
    assert found.notes == ()


@pytest.mark.parametrize(
    "row",
    [{"index": 9, "relevance_score": 1}, {"index": -1, "relevance_score": 1}, {"index": 0}, {"relevance_score": 1}],
)
def test_a_ranking_that_makes_no_sense_is_a_failure(uri: str, row: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(rerank, "SECONDS", 0.2)
    with Partial() as endpoint, knowledge_base(uri, **api(endpoint)) as kb:
        endpoint.ranking = (row,)
        found = kb.retrieve(QUESTION)

    assert "sent a reply that cannot be used" in found.notes[0]
    assert len(found.hits) == 2


def names_of(hits: Any) -> list[str]:
    return [Path(hit.chunk.source).name for hit in hits]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"reranker": "api"}, "no model endpoint is set"),
        ({"reranker": "api", "provider": "fireworks"}, "needs a key: set FIREWORKS_API_KEY"),
        ({"reranker": "api", "provider": "openai", "api_key": "k", "base_url": NOWHERE}, "no rerank model"),
        ({"reranker": "sentence-transformers"}, "set `rerank_model`"),
        ({"reranker": "sentence-transformers", "rerank_model": "m"}, "pip install 'citekite[sentence-transformers]'"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_settings_is_told_at_once(uri: str, values: dict[str, Any], said: str) -> None:
    with (
        knowledge_base(uri, **{"retry_seconds": 0, **values}) as kb,
        pytest.raises((SettingsError, MissingExtra)) as caught,
    ):
        kb.search(QUESTION)

    assert said in str(caught.value)


def test_fireworks_has_a_model_of_its_own_and_another_address_has_not() -> None:
    fireworks = {"reranker": "api", "provider": "fireworks", "api_key": "k"}
    made = make_reranker(Settings(**fireworks))

    assert made is not None
    assert made.name == "api:accounts/fireworks/models/qwen3-reranker-8b"
    with pytest.raises(SettingsError, match="no rerank model"):
        make_reranker(Settings(**fireworks, rerank_base_url=NOWHERE, retry_seconds=0))
    assert make_reranker(Settings()) is None


CROSS_ENCODER = """
class CrossEncoder:
    def __init__(self, name):
        if name == "missing":
            raise OSError("no such model")
    def predict(self, pairs, show_progress_bar):
        return [len(set(query.split()) & set(text.split())) for query, text in pairs]
"""


def test_a_cross_encoder_scores_each_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a module in the library's place: the weights of a real one are not there."""
    (tmp_path / "sentence_transformers.py").write_text(CROSS_ENCODER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    assert CrossEncoderReranker("m").rerank("red kite", ["owl", "a red kite", "kite", "kite"]) == [
        (1, 2.0),
        (2, 1.0),
        (3, 1.0),
        (0, 0.0),
    ]
    with pytest.raises(SettingsError, match="cannot load the cross-encoder 'missing': no such model"):
        CrossEncoderReranker("missing").rerank("red kite", ["owl"])
    monkeypatch.delitem(__import__("sys").modules, "sentence_transformers")


def test_an_error_that_is_not_the_endpoint_s_is_not_hidden() -> None:
    class Broken:
        name = "broken"

        def rerank(self, query: str, documents: Any) -> list[tuple[int, float]]:
            raise CitekiteError("broken")

    with pytest.raises(CitekiteError, match="broken"):
        reranked("q", make_hits("a", "b"), Broken())


def test_the_commands_show_the_failure_once(uri: str, endpoint: ScriptedEndpoint) -> None:
    options = ["--uri", uri, "--embedder", "static", "--reranker", "api", "--rerank-model", "m"]
    options += ["--rerank-base-url", endpoint.base_url]
    folder = Path(uri).parent
    search = citekite(folder, "search", QUESTION, "--json", *options, CITEKITE_RERANK_API_KEY="wrong")
    ask = citekite(folder, "ask", QUESTION, "--mode", "lexical", *options, CITEKITE_RERANK_API_KEY="wrong")

    assert len(as_json(search)) == 3
    assert search.stderr.count("The reranker failed") == 1
    assert len(search.stderr.splitlines()) == 1
    assert ask.stdout.count("The reranker failed") == 1
    assert ask.stderr == ""
