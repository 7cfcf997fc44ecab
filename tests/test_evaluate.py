"""Evaluation on a real index: what `eval run` and `eval compare` measure, print and write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer.main
from typer.testing import CliRunner

from citekite.cli.app import app
from citekite.errors import EndpointDenied, SettingsError, SourceError
from citekite.evaluate.compare import Comparison, Configuration, compare_configurations, configurations
from citekite.evaluate.dataset import Dataset, read_dataset
from citekite.evaluate.indexes import Indexes, files_of, recorded_settings
from citekite.evaluate.metrics import ANSWER
from citekite.evaluate.page import render_page
from citekite.evaluate.question import Question
from citekite.evaluate.run import METRICS, evaluate
from citekite.reports import Progress
from citekite.settings import Settings
from commands import citekite
from scripted_endpoint import Fault, ScriptedEndpoint
from stored import BIRDS, knowledge_base, write

DOCUMENTS = {
    "d1": "The red kite has a forked tail and a wingspan of 1.8 metres.",
    "d2": "The barn owl hunts voles at night.",
    "d3": "The golden eagle nests on cliffs.",
    "d4": "Swifts sleep in the air.",
}
QUERIES = [
    {"_id": "q1", "text": "What tail has the red kite?", "answers": ["forked"]},
    {"_id": "q2", "text": "When does the barn owl hunt?", "answers": ["at night"]},
    {"_id": "q3", "text": "Where does the golden eagle nest?", "answers": ["on cliffs"]},
    {"_id": "q4", "text": "<script>alert(1)</script> zyxw", "answers": ["in the air"]},
    {"_id": "q5", "text": "Who chaired the treasury committee?", "answerable": False},
    {"_id": "q6", "text": "Never judged?"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\nq3\td3\t1\nq4\td4\t1\n"


class Backwards(ScriptedEndpoint):
    """Its reranker likes best what came last, so it matters how many passages it reads."""

    def rerank(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"data": [{"index": index, "relevance_score": index} for index in range(len(body["documents"]))][::-1]}


@pytest.fixture(scope="module")
def beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder of four documents and six queries, of which one has no answer and one no judgment."""
    folder = tmp_path_factory.mktemp("sets") / "birds"
    corpus = [json.dumps({"_id": id, "title": "", "text": text}) for id, text in DOCUMENTS.items()]
    return write(
        folder,
        {
            "corpus.jsonl": "\n".join(corpus),
            "queries.jsonl": "\n".join(map(json.dumps, QUERIES)),
            "qrels/test.tsv": QRELS,
        },
    )


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three documents in `docs/`, synced, and a question file about them."""
    folder = tmp_path_factory.mktemp("birds")
    write(folder / "docs", BIRDS)
    with knowledge_base(folder / "citekite.db") as kb:
        kb.sync(folder / "docs")
    rows = [
        {"question": "What tail does the red kite have?", "sources": ["kites.md"], "answers": ["forked tail"]},
        {"question": "When does the barn owl hunt?", "chunk": "The barn owl hunts voles at night."},
        {"question": "Where is the moon?", "sources": ["moon.md"]},
    ]
    write(folder, {"set.jsonl": "\n".join(map(json.dumps, rows))})
    return folder


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More documents than a leg of a search looks at."""
    folder = tmp_path_factory.mktemp("crowd")
    birds = {f"{n}.md": f"Kite {n % 40} met owl {n % 23} at {n} o'clock on hill {n // 3}." for n in range(120)}
    write(folder / "docs", birds)
    with knowledge_base(folder / "citekite.db") as kb:
        kb.sync(folder / "docs")
    return folder / "citekite.db"


@pytest.fixture(scope="module")
def comparison(beir: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    base = Settings(embedder="static")
    compared = [
        Configuration("base", base),
        Configuration("mode=dense", base.model_copy(update={"mode": "dense"})),
        Configuration("separator=<b>$x$", base.model_copy(update={"splitter": "separator", "separator": "<b>"})),
    ]
    indexes = Indexes(read_dataset(beir), base, tmp_path_factory.mktemp("indexes"), lambda progress: None)
    return compare_configurations(compared, read_dataset(beir), indexes)


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> str:
    return render_page(comparison)


def test_a_run_scores_search_answers_and_refusals(comparison: Comparison) -> None:
    report = comparison.reports["base"]

    assert (report.questions, report.unanswerable, report.left_out) == (5, 1, 1)
    assert report.collection["documents"] == 4
    assert report.metrics["recall@10"].count == 4
    assert report.metrics["contains gold"].count == 4
    assert report.metrics["abstention recall"].count == 1
    first = report.rows[0]
    assert (first.found[0], first.rank, first.scores["nDCG@10"]) == ("corpus.jsonl#d1", 1, 1.0)
    assert first.scores["contains gold"] == 1.0
    assert first.outcome == "answered"
    assert list(report.seconds) == [
        "embed",
        "dense",
        "lexical",
        "fuse",
        "fetch",
        "dedupe",
        "search",
        "context",
        "write",
        "answer",
    ]
    assert first.seconds["answer"] == sum(first.seconds[stage] for stage in ("search", "context", "write"))
    assert all(0 < latency.p50 <= latency.p95 for latency in report.seconds.values())
    assert (report.cost, report.usage.prompt_tokens, report.notes) == (None, 0, ())


def test_configurations_that_only_search_otherwise_share_an_index(comparison: Comparison) -> None:
    uris = {name: report.settings["uri"] for name, report in comparison.reports.items()}

    assert uris["base"] == uris["mode=dense"] != uris["separator=<b>$x$"]
    assert comparison.reports["mode=dense"].settings["mode"] == "dense"
    assert "lexical" not in comparison.reports["mode=dense"].seconds


def test_each_configuration_is_held_against_the_base(comparison: Comparison) -> None:
    assert list(comparison.differences) == ["mode=dense", "separator=<b>$x$"]
    for found in comparison.differences.values():
        assert set(found) == {name for name in METRICS if name in found}
        assert found["nDCG@10"].p <= found["nDCG@10"].adjusted <= 1
    alike = comparison.differences["separator=<b>$x$"]["nDCG@10"]
    assert (alike.mean, alike.p, alike.wins, alike.losses) == (0.0, 1.0, 0, 0)


def test_the_page_stands_alone_and_escapes_what_it_shows(page: str) -> None:
    tags = _Tags()
    tags.feed(page)

    assert "script" not in tags.names
    assert not {"link", "img", "iframe", "b"} & tags.names
    assert not [value for name, value in tags.attributes if name in ("src", "href") and not value.startswith("#")]
    assert "separator=&lt;b&gt;$x$" in page
    ids = [value for name, value in tags.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value.removeprefix("#") for name, value in tags.attributes if name.endswith("href")} <= set(ids)


def test_the_plots_are_described_in_words_and_take_the_page_s_colour(page: str) -> None:
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)

    assert len(plots) == 4  # retrieval, the recall curve, six answer metrics in two
    for plot in plots:
        svg = ElementTree.fromstring(plot)
        title, description = (svg.find(f"{{http://www.w3.org/2000/svg}}{name}") for name in ("title", "desc"))
        assert title is not None
        assert title.text
        assert description is not None
        assert "base: " in str(description.text)
        assert svg.get("role") == "img"
        assert "currentColor" in plot
        assert "#010203" not in plot


def test_what_was_found_first_is_named_by_document_and_heading(comparison: Comparison) -> None:
    base = comparison.reports["base"]
    right = replace(base.rows[0], scores={"nDCG@10": 1.0}, first=("/docs/deep/a.md", "A", "B <i>"))
    wrong = replace(right, scores={"nDCG@10": 0.0}, rank=None, first=())
    reports = {name: replace(base, rows=rows) for name, rows in (("base", (wrong,)), ("k=8", (right,)))}
    text = render_page(Comparison("found", reports, {"k=8": {}}))

    assert re.search(
        r"<td>not in 10</td><td>1</td><td[^>]*>nothing</td><td[^>]*>deep/a.md &gt; A &gt; B &lt;i&gt;<", text
    )


def test_where_only_answers_are_known_they_are_won_and_lost(comparison: Comparison) -> None:
    base = comparison.reports["base"]
    metrics = {name: found for name, found in base.metrics.items() if name in ANSWER}
    right = replace(base.rows[0], scores={"contains gold": 1.0}, answer="A forked tail & more.")
    wrong = replace(right, scores={"contains gold": 0.0}, answer="None.")
    reports = {
        name: replace(base, metrics=metrics, rows=rows) for name, rows in (("base", (wrong,)), ("k=8", (right,)))
    }
    text = render_page(Comparison("answers", reports, {"k=8": {}}))

    assert "k=8: 1 better" in text
    assert re.search(r"<td>\+1.000</td><td[^>]*>None\.</td><td[^>]*>A forked tail &amp; more\.</td>", text)


def test_a_question_file_is_asked_of_the_collection_that_is_there(birds: Path) -> None:
    seen: list[Progress] = []
    with knowledge_base(birds / "citekite.db") as kb:
        report = evaluate(kb, read_dataset(birds / "set.jsonl"), report=seen.append)

    assert [row.rank for row in report.rows] == [1, 1, None]
    assert [bool(row.answer) for row in report.rows] == [True, False, False]  # asked where a gold answer is known
    assert report.rows[1].found[0] == "passage 1"
    assert report.rows[1].first == (str(birds / "docs" / "owls.md"), "Owls", "Barn owl")
    assert report.notes == ("1 of 2 gold sources are not in the collection, such as 'moon.md'",)
    assert [(progress.done, progress.total) for progress in seen] == [(1, 3), (2, 3), (3, 3)]


def test_an_index_with_other_settings_is_made_from_the_collection_s_files(birds: Path, tmp_path: Path) -> None:
    base = Settings(uri=str(birds / "citekite.db"))
    indexes = Indexes(read_dataset(birds / "set.jsonl"), base, tmp_path, lambda progress: None)

    with indexes.open(base) as kb:
        assert (kb.settings.uri, len(kb.documents())) == (base.uri, 3)
    changed = base.model_copy(update={"splitter": "separator", "separator": "## "})
    with indexes.open(changed) as kb:
        assert kb.settings.uri.startswith(str(tmp_path))
        assert kb.status().splitter.startswith("separator")
        assert {document.source for document in kb.documents()} == {str(birds / "docs" / name) for name in BIRDS}
    with knowledge_base(birds / "citekite.db") as kb:
        assert kb.status().collections == ("citekite",)


def test_tokens_and_their_cost_are_counted(birds: Path) -> None:
    with (
        ScriptedEndpoint(pieces=["A forked ", "tail [1]."]) as endpoint,
        knowledge_base(
            birds / "citekite.db",
            base_url=endpoint.base_url,
            model="m",
            prompt_price=1.0,
            completion_price=2.0,
        ) as kb,
    ):
        report = evaluate(kb, read_dataset(birds / "set.jsonl"), parallel=2)
        asked = len(endpoint.requests("/chat/completions"))

    assert asked == 1
    assert report.usage.prompt_tokens > 0
    spent = report.usage.prompt_tokens + 2 * report.usage.completion_tokens
    assert report.cost == pytest.approx(spent / 1e6)
    assert report.metrics["citation precision"].count == 1


@pytest.mark.parametrize(
    "values",
    [{}, {"k": 30}, {"fusion": "rrf"}, {"reranker": "api", "rerank_model": "r", "rerank_depth": 7}],
    ids=["defaults", "many passages", "rank fusion", "reranked"],
)
def test_what_is_answered_from_is_what_an_answer_of_its_own_would_search_for(
    crowd: Path, values: dict[str, Any]
) -> None:
    questions = tuple(Question(str(number), f"kite {number} owl {number + 7}", answers=("x",)) for number in range(9))
    with (
        Backwards() as endpoint,
        knowledge_base(crowd, rerank_base_url=endpoint.base_url, **values) as kb,
    ):
        report = evaluate(kb, Dataset("crowd", questions))
        asked = [kb.ask(question.text).text for question in questions]

    assert [row.answer for row in report.rows] == asked


def test_a_question_that_is_asked_is_searched_for_once(birds: Path) -> None:
    with (
        ScriptedEndpoint() as endpoint,
        knowledge_base(
            birds / "citekite.db",
            base_url=endpoint.base_url,
            model="m",
            query_expansion="multi-query",
            embedding_price=1.0,
        ) as kb,
    ):
        evaluate(kb, Dataset("one", (Question("1", "red kite", answers=("x",)),)))
        asked = len(endpoint.requests("/chat/completions"))

    assert asked == 2  # the expansion and the answer


def test_answers_can_be_left_out(birds: Path) -> None:
    questions = (Question("1", "red kite", sources=("kites.md",), answers=("x",)), Question("2", "?", answerable=False))
    with knowledge_base(birds / "citekite.db") as kb:
        report = evaluate(kb, Dataset("two", questions), answers=False)

    assert (report.questions, report.unanswerable) == (1, 0)
    assert "contains gold" not in report.metrics
    assert report.rows[0].outcome is None


def test_an_error_ends_the_run_and_nothing_further_is_asked(birds: Path) -> None:
    questions = tuple(Question(str(number), "Which bird?", answers=("kite",)) for number in range(20))
    with (
        ScriptedEndpoint() as endpoint,
        knowledge_base(birds / "citekite.db", base_url=endpoint.base_url, model="m") as kb,
    ):
        endpoint.script("/chat/completions", Fault(401))
        with pytest.raises(EndpointDenied):
            evaluate(kb, Dataset("twenty", questions))
        asked = len(endpoint.requests("/chat/completions"))

    assert asked <= 3


def test_a_set_that_leaves_nothing_to_measure_is_an_error(birds: Path) -> None:
    with knowledge_base(birds / "citekite.db") as kb, pytest.raises(SettingsError, match="nothing of 'one' can be"):
        evaluate(kb, Dataset("one", (Question("1", "Q", answers=("x",)),)), answers=False)


def test_every_option_has_a_help_text() -> None:
    commands = typer.main.get_command(app).commands["eval"].commands  # type: ignore[attr-defined]
    assert set(commands) >= {"run", "compare"}
    assert [
        parameter.name
        for command in commands.values()
        for parameter in command.params
        if not getattr(parameter, "help", "")
    ] == []


def test_changes_are_checked_as_settings_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    base, changed = configurations(["chunk-characters=800,lexical_weight=0.3"], {"embedder": "static", "k": 7})
    assert (base.settings.k, changed.settings.k) == (7, 7)
    assert (changed.settings.chunk_characters, changed.settings.lexical_weight) == (800, 0.3)
    with pytest.raises(SettingsError, match="did you mean 'mode'"):
        configurations(["mod=dense"], {})
    with pytest.raises(SettingsError, match=r"'mode' .* cannot be 'sparse'"):
        configurations(["mode=sparse"], {})
    with pytest.raises(SettingsError, match="changes nothing: write name=value"):
        configurations(["dense"], {})
    with pytest.raises(SettingsError, match="given twice"):
        configurations(["k=8", "k=8"], {})


def test_stored_sources_lead_back_to_files(tmp_path: Path) -> None:
    write(tmp_path, {"c#/a.md": "x", "rows.csv": "x", "b.zip": "x"})
    stored = [f"{tmp_path}/{name}" for name in ("c#/a.md", "rows.csv#1", "rows.csv#a#2", "b.zip!/x/y.md")]

    assert files_of(stored) == [f"{tmp_path}/{name}" for name in ("c#/a.md", "rows.csv", "b.zip")]
    with pytest.raises(SourceError, match=r"gone\.md is no longer there"):
        files_of([f"{tmp_path}/gone.md"])
    with pytest.raises(SourceError, match="an embedder 'other'"):
        recorded_settings("other")


def test_eval_run_prints_a_table_and_leaves_no_index(beir: Path, tmp_path: Path) -> None:
    run = citekite(tmp_path, "eval", "run", str(beir), "--output", "report.json")

    assert run.returncode == 0, run.stderr
    assert "birds: 5 questions, 1 of them without an answer; 1 query without a judgment left out" in run.stdout
    assert re.search(r"^nDCG@10 +0\.\d{3} +0\.\d{3} to [01]\.\d{3} +4$", run.stdout, re.MULTILINE)
    assert re.search(r"^search +[\d,.]+ ms +[\d,.]+ ms$", run.stdout, re.MULTILINE)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in report["rows"]] == ["q1", "q2", "q3", "q4", "q5"]


def test_eval_compare_keeps_the_indexes_where_it_is_told_to(beir: Path, tmp_path: Path) -> None:
    files = ("--index-folder", "kept", "--html", "page.html", "--output", "all.json")
    run = citekite(tmp_path, "eval", "compare", str(beir), "--with", "mode=dense", "--no-answers", *files)

    assert run.returncode == 0, run.stderr
    assert re.search(r"^mode=dense( +[01]\.\d{3}){7}$", run.stdout, re.MULTILINE)
    assert re.search(r"^nDCG@10 against base +difference", run.stdout, re.MULTILINE)
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len(list((tmp_path / "kept").glob("*.db"))) == 1
    found: dict[str, Any] = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert list(found["reports"]) == ["base", "mode=dense"]


def test_a_fault_is_one_line_and_a_status(tmp_path: Path) -> None:
    missing = citekite(tmp_path, "eval", "run", "nothing.jsonl")
    assert (missing.returncode, missing.stderr.count("\n")) == (3, 1)
    assert "there is no question set 'nothing.jsonl'" in missing.stderr


def test_a_judge_without_answers_is_refused() -> None:
    run = CliRunner().invoke(app, ["eval", "run", "nothing.jsonl", "--judge", "m", "--no-answers"])

    assert (run.exit_code, run.stderr.count("--judge judges answers")) == (2, 1)


def test_a_report_that_could_not_be_written_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["eval", "run", "nothing.jsonl", "--output", str(tmp_path / "no" / "report.json")])

    assert run.exit_code == 2
    assert "cannot be written: name a file in a folder that is there" in run.stderr


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
