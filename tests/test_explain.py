"""How an answer came about: stages with time, candidates, scores and tokens; in Python, over HTTP, in a terminal."""

from __future__ import annotations

import doctest
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from citekite import KnowledgeBase, explanation, prices
from citekite.cli import explain
from citekite.cli.explain import show_explanation
from citekite.explanation import Explanation, ModelUse, Stage
from citekite.remote import RemoteKnowledgeBase
from citekite.settings import Settings
from citekite.types import Turn, Usage
from commands import as_json, citekite, write_docs
from scripted_endpoint import ScriptedEndpoint
from served import serving
from stored import BIRDS, write

QUESTION = "Where does the golden eagle nest?"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def settings(endpoint: ScriptedEndpoint, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("explain")
    settings = Settings(
        uri=str(folder / "birds.db"),
        base_url=endpoint.base_url,
        model="writer",
        embedder="api",
        embedding_model="embedder",
        reranker="api",
        rerank_model="reranker",
        rerank_price=100.0,
        prompt_price=1.0,
        completion_price=10.0,
        k=3,
    )
    with KnowledgeBase(settings=settings) as kb:
        kb.sync(write(folder / "birds", BIRDS))
    return settings


@pytest.fixture(scope="module")
def kb(settings: Settings) -> Iterator[KnowledgeBase]:
    with KnowledgeBase(settings=settings) as kb:
        yield kb


def explanation_of(kb: KnowledgeBase, **how: object) -> Explanation:
    explained = kb.ask(QUESTION, explain=True, **how).explanation  # type: ignore[arg-type]
    assert explained is not None
    return explained


def test_the_stages_are_told_in_their_order_with_what_each_left(kb: KnowledgeBase) -> None:
    told = explanation_of(kb, history=[Turn("What hunts voles?", "The barn owl.")])

    assert [stage.name for stage in told.stages] == [
        *("rewrite", "embed", "dense", "lexical", "fuse", "fetch", "dedupe", "rerank"),
        *("neighbours", "pack", "confidence", "generate", "verify"),
    ]
    stages = {stage.name: stage for stage in told.stages}
    assert all(stage.seconds > 0 for stage in told.stages)
    assert stages["dense"].candidates == kb.count()
    assert 0 < (stages["lexical"].candidates or 0) < kb.count()
    assert list(stages["dense"].scores) == sorted(stages["dense"].scores, reverse=True)
    assert stages["fuse"].details["dense_weight"] + stages["fuse"].details["lexical_weight"] == pytest.approx(1)
    assert stages["pack"].details["tokens"] <= stages["pack"].details["budget"]
    assert 0 < stages["generate"].details["first_seconds"] <= stages["generate"].seconds
    assert stages["verify"].details["supported"] <= stages["verify"].details["sentences"]
    assert told.seconds == pytest.approx(sum(stage.seconds for stage in told.stages))


def test_each_passage_says_how_it_got_its_place(kb: KnowledgeBase) -> None:
    found = kb.retrieve(QUESTION, explain=True)
    assert found.explanation is not None
    assert [one.id for one in found.explanation.hits] == [hit.chunk.id for hit in found.hits]
    for one, hit in zip(found.explanation.hits, found.hits, strict=True):
        assert {name: one.legs[name] for name in hit.legs} == hit.legs
        assert one.legs["fused"].score == pytest.approx(sum(one.parts.values()))
        assert (one.rank, one.score) == (hit.rank, hit.score)
        assert one.legs["rerank"].score == hit.score


def test_the_passages_of_an_answer_say_whether_they_were_read_and_cited(settings: Settings, kb: KnowledgeBase) -> None:
    answer = kb.ask(QUESTION, explain=True)
    assert answer.explanation
    cited = {citation.number for citation in answer.citations}
    assert cited == {one.passage for one in answer.explanation.hits if one.cited}
    assert all(one.passage for one in answer.explanation.hits)

    narrow = settings.model_copy(update={"context_tokens": 100, "k": 7})
    with KnowledgeBase(settings=narrow) as small:
        told = explanation_of(small)
    left_out = [one for one in told.hits if one.passage is None]
    (packed,) = [stage for stage in told.stages if stage.name == "pack"]
    assert len(left_out) == packed.details["left_out"] > 0


def test_tokens_and_costs_are_told_and_an_unknown_price_is_not_nothing(kb: KnowledgeBase) -> None:
    answer = kb.ask(QUESTION, explain=True)
    assert answer.explanation
    uses = {use.purpose: use for use in answer.explanation.uses}
    assert uses["chat"].usage == answer.usage
    price = (answer.usage.prompt_tokens * 1.0 + answer.usage.completion_tokens * 10.0) / 1e6
    assert uses["chat"].cost == pytest.approx(price)
    assert uses["embedding"].cost is None
    assert uses["rerank"].cost == pytest.approx(uses["rerank"].usage.prompt_tokens * 100.0 / 1e6)
    assert uses["rerank"].cost > 0
    assert (uses["embedding"].estimated, uses["rerank"].estimated) == (False, True)  # the reranker does not say


def test_a_deep_answer_adds_up_the_stages_of_its_searches(kb: KnowledgeBase) -> None:
    answer = kb.ask(QUESTION, deep=True, explain=True)
    assert answer.explanation
    names = [stage.name for stage in answer.explanation.stages]
    assert len(names) == len(set(names))
    assert {"plan", "embed", "generate"} <= set(names)
    chats = [use.usage for use in answer.explanation.uses if use.purpose == "chat"]
    assert sum(chats, Usage()) == answer.usage
    assert [one.rank for one in answer.explanation.hits] == list(range(1, len(answer.explanation.hits) + 1))


def test_an_answer_without_a_model_is_explained_too(settings: Settings) -> None:
    update = {"base_url": None, "model": None, "reranker": "none", "embedding_base_url": settings.base_url}
    with KnowledgeBase(settings=settings.model_copy(update=update)) as kb:
        told = explanation_of(kb, mode="lexical")
    assert [stage.name for stage in told.stages] == [
        *("lexical", "fetch", "dedupe", "neighbours", "pack", "confidence", "extract", "verify")
    ]
    assert all(one.legs.keys() == {"lexical"} and not one.parts for one in told.hits)


def test_nothing_is_explained_unless_asked_for(kb: KnowledgeBase) -> None:
    assert kb.ask(QUESTION).explanation is None
    assert kb.retrieve(QUESTION).explanation is None


def test_through_a_server_it_is_the_same(settings: Settings, kb: KnowledgeBase) -> None:
    with serving(settings) as url, RemoteKnowledgeBase(url) as remote:
        far, found = remote.ask(QUESTION, explain=True), remote.retrieve(QUESTION, explain=True)
        assert remote.ask(QUESTION).explanation is None
    near = kb.ask(QUESTION, explain=True)
    assert near.explanation
    assert far.explanation
    assert far.explanation.hits == near.explanation.hits
    assert [(one.name, one.candidates, one.scores) for one in far.explanation.stages] == [
        (one.name, one.candidates, one.scores) for one in near.explanation.stages
    ]
    assert found.explanation
    assert found.explanation.hits == kb.retrieve(QUESTION, explain=True).explanation.hits  # type: ignore[union-attr]


def test_all_columns_fit_into_a_hundred(kb: KnowledgeBase) -> None:
    shown = show_explanation(explanation_of(kb))
    lines = [line for line in shown.splitlines() if ".md:" not in line]  # a path is as long as it is
    assert max(map(len, lines)) <= 100
    assert shown.count("#1 ") == 4, shown  # dense, lexical, fused, rerank


def test_the_command_shows_it_within_a_hundred_columns(tmp_path: Path) -> None:
    write_docs(tmp_path)
    assert citekite(tmp_path, "sync", "docs", "--embedder", "static").returncode == 0
    shown = citekite(tmp_path, "ask", "Where is metadata kept?", "--explain").stdout
    table = shown[shown.index("How this was found") :]
    assert max(map(len, table.splitlines())) <= 100
    for word in ("dense", "lexical", "fuse", "convex", "verify", "] cited", "docs/storage.md:"):
        assert word in table
    values = as_json(citekite(tmp_path, "search", "Where is metadata kept?", "--explain", "--json"))
    assert values["explanation"]["hits"][0]["id"] == values["hits"][0]["id"]
    refused = citekite(tmp_path, "search", "Where?", "--explain", "--format", "pairs")
    assert (refused.returncode, "leave --explain out" in refused.stderr) == (2, True)


def test_a_call_is_shown_with_its_tokens_and_its_cost() -> None:
    known = ModelUse("chat", "writer", Usage(1200, 88), cost=0.00208)
    guessed = ModelUse("embedding", "embedder", Usage(12), estimated=True)
    shown = show_explanation(Explanation((Stage("generate", 1.5, uses=(known, guessed)),)))
    assert [line.strip() for line in shown.splitlines()[1:]] == [
        "generate      1.50 s",
        "writer: 1,200 + 88 tokens, cost 0.0021",
        "embedder: about 12 tokens, cost unknown",
    ]


def test_what_a_model_is_called_cannot_act_on_the_terminal() -> None:
    shown = show_explanation(Explanation((Stage("generate", 1, uses=(ModelUse("chat", "\x1b[2J", Usage(1)),)),)))
    assert "\x1b" not in shown
    assert json.dumps(shown)


@pytest.mark.parametrize("module", [prices, explanation, explain])
def test_examples_hold(module: ModuleType) -> None:
    failed, attempted = doctest.testmod(module)
    assert (failed, attempted > 0) == (0, True)
