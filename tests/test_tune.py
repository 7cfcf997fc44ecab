"""Tuning on questions: what is chosen, that it is recorded only where it is better, and what searches make of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from citekite import KnowledgeBase
from citekite.cli.app import app
from citekite.errors import SettingsError, SourceError
from citekite.evaluate.dataset import read_dataset, write_questions
from citekite.evaluate.legs import search_legs
from citekite.evaluate.question import Question
from citekite.evaluate.tune import LEAST_PASSAGES, PASSAGE_COST, Tuning, tune
from citekite.reports import Progress
from citekite.retrieve.search import SearchPlan
from citekite.settings import Settings
from commands import write_docs
from forked import OURS
from scripted_endpoint import ScriptedEndpoint
from stored import knowledge_base, write

PAPERS = 40


class Misleading(ScriptedEndpoint):
    """Its embedding of question n lies at the paper after the one that answers it."""

    def embed(self, text: str, dimension: int | None = None) -> np.ndarray:
        number = int(text.rpartition("no")[2][:2])
        vector = np.full(self.dimension, 0.01, dtype=np.float32)
        vector[(number + (1 if text.startswith("bird") else 0)) % PAPERS] = 1.0
        return vector


def words(number: int) -> str:
    """A word of its own for each number, of letters that no other shares grams with."""
    return "".join("bcdfghjklm"[int(digit)] * 3 for digit in f"{number % PAPERS:02}")


def paper(number: int) -> str:
    return f"bird {words(number)} {words(number)} {words(number - 1)} paper no{number:02}"


QUESTIONS = [
    Question(f"q{number}", f"bird {words(number)} no{number:02}", sources=(f"{number}.txt",))
    for number in range(PAPERS)
]
UNANSWERABLE = [
    Question(f"u{number}", f"bird sings quartz volcano turbine no{number:02}", answerable=False) for number in range(20)
]


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeBase]:
    folder = tmp_path_factory.mktemp("tune")
    write(folder / "docs", {f"{number}.txt": paper(number) for number in range(PAPERS)})
    with Misleading(dimension=64) as endpoint:
        values = {"embedder": "api", "base_url": endpoint.base_url, "embedding_model": "m", "model": "c"}
        with knowledge_base(folder / "papers.db", **values, document_prefix="", query_prefix="") as kb:
            kb.sync(folder / "docs")
            yield kb


@pytest.fixture(scope="module")
def tuning(papers: KnowledgeBase) -> Tuning:
    return tune(papers, [*QUESTIONS, *UNANSWERABLE], lambda progress: None)


def test_a_weight_that_is_better_on_held_out_questions_is_chosen(papers: KnowledgeBase, tuning: Tuning) -> None:
    found = tuning.lexical_weight
    plan = SearchPlan.make(papers.settings, papers.collection().record, has_lexical=True, k=None, mode=None)

    assert found.default == plan.weight
    assert found.is_better
    assert found.value > found.default
    assert found.held_out == 1.0
    assert tuning.better["lexical_weight"] == found.value


def test_k_weighs_recall_against_the_passages_it_costs(tuning: Tuning) -> None:
    """With the tuned weight the first passage has the evidence, so each further one is a loss."""
    assert tuning.k.value == LEAST_PASSAGES
    assert tuning.k.is_better
    assert tuning.k.held_out == pytest.approx(1 - LEAST_PASSAGES * PASSAGE_COST)
    assert tuning.k.default_score == pytest.approx(1 - 5 * PASSAGE_COST)


def test_a_threshold_is_chosen_by_balanced_accuracy(tuning: Tuning) -> None:
    found = tuning.abstain_threshold

    assert (tuning.answerable, tuning.unanswerable) == (40, 20)
    assert found is not None
    assert 0 <= found.held_out <= 1
    assert found.held_out >= found.default_score - 1e-9


def test_a_weight_orders_chunks_as_a_search_with_it_does(tmp_path: Path) -> None:
    copies = {f"{number}.txt": f"The {name} is a bird of prey." for number, name in enumerate(("kite", "owl", "kite"))}
    write(tmp_path / "docs", copies | {f"{number}.txt": f"Birds of hill {number} eat kites." for number in range(3, 9)})
    question = Question("1", "Is the kite a bird?", sources=("0.txt", "2.txt"))
    with knowledge_base(tmp_path / "birds.db", k=9) as kb:
        kb.sync(tmp_path / "docs")
        (searched,) = search_legs(kb, [question], lambda progress: None)
        for weight in (0.0, 0.3, 0.8, 1.0):
            kb.set_tuned(lexical_weight=weight)
            hits = kb.search(question.text)
            assert [hit.chunk.id for hit in searched.hits(weight, 9)] == [hit.chunk.id for hit in hits]

    assert len(hits) == 8
    assert set(searched.items(hit.chunk.id for hit in hits)[:2]) == {"0.txt", "2.txt"}


def test_with_few_unanswerable_questions_the_threshold_is_left_alone(papers: KnowledgeBase) -> None:
    seen: list[Progress] = []

    found = tune(papers, [*QUESTIONS[:20], *UNANSWERABLE[:19]], seen.append)

    assert found.abstain_threshold is None
    assert "abstain_threshold" not in found.better
    assert seen[-1] == Progress("searching", 39, 39, "questions")


def test_with_few_questions_nothing_is_tuned(papers: KnowledgeBase) -> None:
    with pytest.raises(SourceError, match=r"19 of the questions .* tuning needs 20"):
        tune(papers, [*QUESTIONS[:19], *UNANSWERABLE], lambda progress: None)


def test_one_leg_cannot_be_weighed(papers: KnowledgeBase) -> None:
    dense = KnowledgeBase(settings=papers.settings.model_copy(update={"mode": "dense"}))
    with dense, pytest.raises(SettingsError, match="mode 'dense'"):
        tune(dense, QUESTIONS, lambda progress: None)


def test_what_is_recorded_serves_every_search_until_it_is_reset(papers: KnowledgeBase) -> None:
    before = papers.search(QUESTIONS[3].text)
    papers.set_tuned(lexical_weight=1.0, k=2)
    collection = papers.collection()

    assert papers.status().tuned == {"lexical_weight": 1.0, "k": 2}
    assert collection._index is not None
    assert collection._index.is_ready
    with KnowledgeBase(settings=papers.settings) as other:
        hits = other.search(QUESTIONS[3].text)
        assert len(hits) == 2
        assert hits[0].chunk.source.endswith("/3.txt")
        assert len(other.search(QUESTIONS[3].text, k=4)) == 4
    assert len(before) == 5

    papers.set_tuned()
    assert papers.status().tuned == {}
    assert papers.search(QUESTIONS[3].text) == before


def test_tuning_starts_from_the_defaults_whatever_was_tuned_before(papers: KnowledgeBase, tuning: Tuning) -> None:
    papers.set_tuned(lexical_weight=1.0, k=1)
    try:
        again = tune(papers, QUESTIONS, lambda progress: None)
    finally:
        papers.set_tuned()

    assert again.lexical_weight == tuning.lexical_weight
    assert again.k == tuning.k


def test_settings_win_over_what_is_recorded() -> None:
    from citekite.store.record import CollectionRecord

    record = replace(CollectionRecord("static:x", 2, True, "s"), lexical_weight=0.2, k=9)
    plan = SearchPlan.make(Settings(k=3, lexical_weight=0.7), record, has_lexical=True, k=None, mode=None)

    assert (plan.k, plan.weight) == (3, 0.7)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a synced collection, and nothing of the tester's own configuration."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with KnowledgeBase() as kb:
        kb.sync(write_docs(tmp_path))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def test_eval_questions_writes_a_file_and_never_over_one(folder: Path) -> None:
    made = run("eval", "questions", "--count", "3", "--unanswerable", "0")
    again = run("eval", "questions")

    assert made.exit_code == 0, made.output
    assert "wrote questions.jsonl: 1 question" in made.output
    assert "citekite tune questions.jsonl" in made.output
    (question,) = read_dataset(folder / "questions.jsonl").questions
    assert question.text == "Where data is kept"
    assert again.exit_code == 2
    assert "is there already" in again.output

    row = json.loads(run("eval", "run", "questions.jsonl", "--json", "-q").stdout)["rows"][0]
    assert (row["question"], row["rank"]) == ("Where data is kept", 1)


def test_eval_questions_lets_the_model_of_the_settings_write_them(folder: Path) -> None:
    def reply(messages: Sequence[Mapping[str, str]]) -> Sequence[str]:
        return [json.dumps({"question": "Who keeps the metadata?", "evidence": "kept in etcd", "answer": "etcd"})]

    with ScriptedEndpoint(pieces=reply) as endpoint:
        model = ("--base-url", endpoint.base_url, "--model", "m", "--embedder", "static")
        made = run("eval", "questions", "-o", "q.jsonl", "--count", "1", "--unanswerable", "0", "-q", *model)
        of_headings = run("eval", "questions", "-o", "h.jsonl", "--headings", *model)

    assert made.exit_code == 0, made.output
    assert "written by m from passages" in made.output
    assert read_dataset(folder / "q.jsonl").questions[0].passages == ("kept in etcd",)
    assert "made of headings" in of_headings.output


def test_tune_records_what_is_better_shows_it_and_goes_back(folder: Path) -> None:
    questions = [Question(f"q{n}", f"What is kept in object storage {n}?", sources=("storage.md",)) for n in range(24)]
    write_questions(folder / "many.jsonl", questions)

    tried = run("tune", "many.jsonl", "--dry-run", "--json", "-q")
    assert tried.exit_code == 0, tried.output
    shown = json.loads(tried.stdout)
    assert (shown["recorded"], shown["k"]["value"], shown["better"]) == (False, 3, {"k": 3})
    assert json.loads(run("status", "--json").stdout)["tuned"] == {}

    done = run("tune", "many.jsonl", "-k", "4")
    assert "k: 5 -> 3" in done.output
    assert "the setting k = 4 wins" in done.output
    assert "lexical_weight: kept the default" in done.output
    assert "abstain_threshold: not tuned" in done.output
    assert "tuned          k 3" in run("status").output

    assert run("tune", "--reset").output.startswith("The collection uses the defaults again.")
    assert json.loads(run("status", "--json").stdout)["tuned"] == {}


def test_tune_says_what_it_needs(folder: Path) -> None:
    write_questions(folder / "few.jsonl", QUESTIONS[:3])

    assert "tuning needs 20" in run("tune", "few.jsonl").output
    assert run("tune").exit_code == 2
    assert run("tune", "few.jsonl", "--reset").exit_code == 2


def test_a_judge_is_shown_with_its_agreement(folder: Path) -> None:
    questions = [Question("1", "Where is metadata kept?", sources=("storage.md",), answers=("etcd",))]
    write_questions(folder / "q.jsonl", questions)

    def reply(messages: Sequence[Mapping[str, str]]) -> Sequence[str]:
        count = len(re.findall(r"^\d+\. ", messages[-1]["content"].rpartition("<answer>")[2], re.MULTILINE))
        if '"verdicts"' in messages[0]["content"]:
            return [json.dumps({"verdicts": ["supported"] * count})]
        return ['{"verdict": "correct"}'] if '"verdict"' in messages[0]["content"] else ["It is kept in etcd [1]."]

    with ScriptedEndpoint(pieces=reply) as endpoint:
        model = ("--base-url", endpoint.base_url, "--model", "m", "--embedder", "static")
        shown = run("eval", "run", "q.jsonl", "--judge", "j", "-q", *model)
        asked = {request.body["model"] for request in endpoint.requests("/chat/completions")}

    assert shown.exit_code == 0, shown.output
    assert "1 answer judged by j, each twice" in shown.output
    assert re.search(r"faithfulness \(sentences\) +1\.000 +- +-", shown.output)
    assert asked == {"m", "j"}
