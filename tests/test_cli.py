"""Every command as a real process: what it prints, where, and the status it ends with."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from citekite import __version__
from commands import as_json, citekite, command, write_docs
from forked import Forked, environment
from scripted_endpoint import Fault, ScriptedEndpoint

COMMANDS = {
    *("sync", "ask", "search", "chat", "documents", "status", "remove", "reindex", "config", "doctor", "tune"),
    *("eval run", "eval compare", "eval questions"),
    *("copy", "export", "import", "backup", "restore"),
    *("serve", "keys create", "keys list", "keys revoke", "usage", "mcp"),
}
SERVER = {"fastapi", "starlette", "uvicorn", "mcp", "prometheus_client"}
QUESTION = "Where is metadata kept?"
TUTORIAL_MODEL = "accounts/fireworks/models/llama-v3p1-405b-instruct"
KEY = "fw-not-to-be-shown"


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two documents and their index; tests only read it."""
    folder = tmp_path_factory.mktemp("synced")
    write_docs(folder)
    run = citekite(folder, "sync", "docs", "--quiet")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("2 new, 0 changed, 0 unchanged documents: 4 chunks added, 0 updated, 0 deleted; ")
    return folder


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    """An endpoint that serves the tutorial's model to whoever has the key."""
    with ScriptedEndpoint(key=KEY, models=[TUTORIAL_MODEL, "accounts/fireworks/models/other"]) as running:
        yield running


# To begin with


def test_without_arguments_three_commands_to_begin_with(tmp_path: Path) -> None:
    run = citekite(tmp_path)

    assert run.returncode == 0
    assert re.findall(r"^  citekite (\w+)", run.stdout, re.MULTILINE) == ["sync", "ask", "search"]


def test_version(tmp_path: Path) -> None:
    assert citekite(tmp_path, "--version").stdout == f"citekite {__version__}\n"


def test_help_costs_little_more_than_that_of_an_empty_typer_command(tmp_path: Path) -> None:
    """The best of five each, in turn and in processor time: machines differ, and the tests may share one."""
    bare = "import typer; app = typer.Typer(); app.command()(lambda: None); app(['--help'])"
    took: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(5):
        for name, program in (("ours", ["-m", "citekite", "--help"]), ("bare", ["-c", bare])):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *program], env=environment(), capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            took[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert min(took["ours"]) < 1.8 * min(took["bare"])


def imported(names: set[str], folder: Path, *arguments: str) -> set[str]:
    """Those of the modules that a command has imported when it is done."""
    program = (
        "import sys\n"
        "from citekite.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True, env=environment()
    )
    assert run.returncode == 0, run.stderr
    return names & set(run.stderr.split())


def test_help_and_nothing_at_all_import_no_client(tmp_path: Path) -> None:
    heavy = {"pymilvus", "milvus_lite", "openai", "numpy", "wordllama", "httpx2", "lxml", "tantivy", *SERVER}
    for arguments in ((), ("--help",), ("sync", "--help"), ("serve", "--help")):
        assert imported(heavy, tmp_path, *arguments) == set(), arguments


def test_commands_that_do_not_serve_import_no_server(synced: Path) -> None:
    for arguments in (("config",), ("search", QUESTION), ("ask", QUESTION)):
        assert imported(SERVER, synced, *arguments) == set(), arguments


def test_every_command_and_every_option_has_a_help_text() -> None:
    import typer.main

    from citekite.cli.app import app

    commands = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for group in ("eval", "keys"):
        commands |= {f"{group} {name}": one for name, one in commands.pop(group).commands.items()}
    assert set(commands) == COMMANDS
    for name, one in commands.items():
        assert one.help, name
        for parameter in one.params:
            assert getattr(parameter, "help", ""), f"{name}: {parameter.name}"


def test_a_mistyped_command_is_told_which_was_meant(tmp_path: Path) -> None:
    run = citekite(tmp_path, "serch", "x")

    assert run.returncode == 2
    assert re.search(r"Did you mean .*'search'", run.stderr)


# Sync


def test_a_sync_says_what_it_did_and_the_next_one_does_nothing(tmp_path: Path) -> None:
    docs = write_docs(tmp_path)
    planned = citekite(tmp_path, "sync", "docs", "--dry-run", "--embedding-price", "0.5")
    assert planned.stdout.startswith("documents  2 new, 0 changed, 0 unchanged, 0 to prune\nchunks     4 to add, 0 to")
    assert re.search(r"^embedding  4 texts, about \d+ tokens, cost 0\.0\d+$", planned.stdout, re.MULTILINE)
    assert not (tmp_path / "citekite.db").exists()

    first = citekite(tmp_path, "sync", "docs")
    assert first.stderr.splitlines() == ["reading 2/2 files", "embedding 4/4 chunks"]

    (docs / "consistency.md").unlink()
    report = as_json(citekite(tmp_path, "sync", "docs", "--json", "--quiet", "--prune"))
    assert report.keys() >= {"seconds", "kept"}
    del report["seconds"], report["kept"]
    assert report == {
        **{"new": 0, "changed": 0, "unchanged": 1, "pruned": 1, "added": 0, "updated": 0, "deleted": 1},
        **{"texts": 0, "failures": [], "warnings": []},
        **{"contexts": 0, "context_usage": {"prompt_tokens": 0, "completion_tokens": 0}},
    }

    removed = citekite(tmp_path, "remove", "docs/storage.md")
    assert (removed.returncode, removed.stdout) == (0, "removed docs/storage.md: 3 chunks\n"), removed.stderr


def test_a_file_that_fails_is_named_and_the_rest_is_taken_in(tmp_path: Path) -> None:
    docs = write_docs(tmp_path)
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 nothing more")

    run = citekite(tmp_path, "sync", "docs", "--quiet")

    assert run.returncode == 3
    assert run.stdout.startswith("2 new")
    assert re.fullmatch(r"failed: \S*docs/broken\.pdf: .+\n", run.stderr)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    run = citekite(tmp_path, "sync", "dosc")

    assert (run.returncode, run.stdout) == (3, "")
    assert run.stderr.startswith("citekite: no file or folder ")
    assert "/dosc'" in run.stderr


def test_a_folder_without_documents_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = citekite(tmp_path, "sync", "empty", "--quiet")

    assert (run.returncode, run.stderr) == (0, "no documents found in empty\n")


def test_progress_is_a_bar_on_a_terminal(tmp_path: Path) -> None:
    write_docs(tmp_path)
    leader, follower = pty.openpty()
    with Forked(
        command("sync", "docs"), cwd=tmp_path, env=environment(TERM="xterm"), stdout=subprocess.PIPE, stderr=follower
    ) as process:
        os.close(follower)
        shown = b"".join(_read_terminal(leader))
        assert process.wait(60) == 0
    os.close(leader)
    text = shown.decode()

    assert "━" in text
    assert "embedding" in text
    assert re.search("4/4", text)


def test_an_interrupt_finishes_the_batch_and_says_how_to_go_on(tmp_path: Path) -> None:
    docs = write_docs(tmp_path)
    for number in range(20):
        (docs / f"{number}.md").write_text(f"# Note {number}\n\nText number {number}.\n", encoding="utf-8")
    with ScriptedEndpoint(latency=0.5) as endpoint:
        flags = ("--base-url", endpoint.base_url, "--embedding-model", "m", "--batch-size", "2")
        with Forked(
            command("sync", "docs", *flags, "--concurrency", "1"),
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            _until(lambda: len(endpoint.requests("/embeddings")) >= 2)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        sent = len(endpoint.texts())

        assert process.returncode == 130
        assert "Stopping after the batch in flight; Ctrl-C again stops at once." in errors
        assert "What was embedded is stored; the same command goes on from here." in errors
        assert "Traceback" not in errors
        assert sent < 24
        assert citekite(tmp_path, "sync", "docs", "--quiet", *flags).returncode == 0
        # the second run may send its first text once more to learn the dimension, and no stored text
        assert len(endpoint.texts()) <= 24 + 1


# Search and look


def test_search_shows_place_scores_and_text(synced: Path) -> None:
    run = citekite(synced, "search", QUESTION, "-k", "1")

    assert run.returncode == 0
    assert run.stdout.splitlines()[0] == "1. Storage > Where data is kept, docs/storage.md:3"
    assert re.match(r"score 1\.000: dense #1 \(.+\), lexical #1 \(.+\)", run.stdout.splitlines()[1])
    assert "Metadata is kept in etcd." in run.stdout
    assert "\x1b" not in run.stdout


def test_search_as_json_has_text_source_headings_offsets_legs_and_scores(synced: Path) -> None:
    """Of four passages the filter leaves the one that is asked for."""
    (hit,) = as_json(citekite(synced, "search", QUESTION, "--filter", 'text like "%etcd%"', "--json"))
    text = (synced / "docs/storage.md").read_text(encoding="utf-8")

    assert hit["source"] == str(synced / "docs/storage.md")
    assert hit["headings"] == ["Storage", "Where data is kept"]
    assert text[hit["start"] : hit["end"]] == hit["text"]
    assert hit["legs"]["dense"]["rank"] == hit["legs"]["lexical"]["rank"] == 1
    assert {"score", "rank", "page", "line", "metadata"} <= set(hit)


def test_conditions_narrow_a_search_down_together(synced: Path) -> None:
    """The paths are those of the working directory; nothing of these documents has metadata."""
    inside = ("--source", "docs/storage.md", "--source", "nowhere", "--path", "docs/*.md", "--filter", "line < 5")
    found = as_json(citekite(synced, "search", QUESTION, *inside, "--json"))

    assert [hit["headings"] for hit in found] == [["Storage", "Where data is kept"], ["Storage"]]
    assert as_json(citekite(synced, "search", QUESTION, "--where", "lang=en", "--after", "2024-01-01", "--json")) == []


def test_search_as_pairs_is_text_and_distance(synced: Path) -> None:
    pairs = as_json(citekite(synced, "search", QUESTION, "--format", "pairs", "--mode", "dense"))

    assert len(pairs) == 4
    assert all(isinstance(text, str) and isinstance(distance, float) for text, distance in pairs)
    assert [distance for _, distance in pairs] == sorted((distance for _, distance in pairs), reverse=True)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--filter", "nofield == 3"), 2, "cannot evaluate the filter 'nofield == 3'"),
        (("--where", "lang"), 2, "'lang' is no condition: write KEY=VALUE"),
        (("--before", "soon"), 2, "'soon' is no date"),
        (("--format", "xml"), 2, "--format cannot be 'xml': it is text, json or pairs"),
        (("--mode", "hibrid"), 2, "setting 'mode' (argument) cannot be 'hibrid'"),
        (("--collection", "other"), 4, "there is no collection 'other' at ./citekite.db (there are: citekite)"),
        (("--uri", "none/x.db"), 4, "`citekite sync FOLDER` makes it"),
        (("--uri", "http://127.0.0.1:9"), 4, "no Milvus server answers at http://127.0.0.1:9"),
    ],
)
def test_a_search_that_cannot_be_done_says_why(
    synced: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    run = citekite(synced, "search", "x", *arguments)

    assert (run.returncode, run.stdout) == (status, "")
    assert run.stderr.startswith("citekite: ")
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_documents_and_status(synced: Path) -> None:
    listed = citekite(synced, "documents")
    assert re.sub(" +", " ", listed.stdout) == (
        " 1 docs/consistency.md Consistency\n 3 docs/storage.md Storage\n2 documents\n"
    )
    assert [(row["title"], row["chunks"]) for row in as_json(citekite(synced, "documents", "--json"))] == [
        ("Consistency", 1),
        ("Storage", 3),
    ]

    shown = dict(line.split(maxsplit=1) for line in citekite(synced, "status").stdout.splitlines())
    status = as_json(citekite(synced, "status", "--json"))
    assert (shown["chunks"], status["chunks"], status["documents"]) == ("4", 4, 2)
    assert (shown["contextual"], status["contextual"]) == ("no", "")
    assert shown["embedder"] == status["embedder"] == "static:wordllama-l2-supercat-256"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [(), ("config",)])
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, arguments: tuple[str, ...], unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    clean = environment(PYTHONUNBUFFERED=unbuffered)
    run = subprocess.run(command(*arguments), cwd=tmp_path, env=clean, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)

    assert (run.returncode, run.stderr) == (0, b"")


def test_reindex_embeds_with_another_embedder_which_then_answers(tmp_path: Path) -> None:
    write_docs(tmp_path)
    citekite(tmp_path, "sync", "docs", "--quiet")

    refused = citekite(tmp_path, "search", QUESTION, "--dimensions", "64")
    run = citekite(tmp_path, "reindex", "--dimensions", "64")

    assert refused.returncode == 4
    assert "supercat-256" in refused.stderr
    assert "supercat-64" in refused.stderr
    assert "`citekite reindex`" in refused.stderr
    assert (run.returncode, run.stdout) == (0, "reindexed 4 chunks\n")
    assert as_json(citekite(tmp_path, "status", "--json"))["dimension"] == 64


# Settings


def test_config_shows_each_value_and_its_origin_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "citekite.toml").write_text("k = 7\n", encoding="utf-8")
    arguments = (
        "config",
        "--mode",
        "dense",
        "--token",
        "tok-hidden",
        "--base-url",
        "https://me:hunter2@example.org/v1",
    )
    variables = {"FIREWORKS_API_KEY": KEY, "CITEKITE_MAX_TOKENS": "99"}

    text = citekite(tmp_path, *arguments, **variables)
    rows = as_json(citekite(tmp_path, *arguments, "--json", **variables))

    assert rows["k"] == {"value": 7, "origin": str(tmp_path / "citekite.toml")}
    assert rows["mode"] == {"value": "dense", "origin": "argument"}
    assert rows["max_tokens"] == {"value": 99, "origin": "environment CITEKITE_MAX_TOKENS"}
    assert rows["provider"] == {"value": "fireworks", "origin": "environment FIREWORKS_API_KEY"}
    assert rows["api_key"] == {"value": "**********", "origin": "environment FIREWORKS_API_KEY"}
    assert rows["timeout"]["origin"] == "default"
    assert re.search(r"^k +7 +/.*citekite\.toml$", text.stdout, re.MULTILINE)
    assert not re.search(f"{KEY}|tok-hidden|hunter2", text.stdout + json.dumps(rows))


@pytest.mark.parametrize(
    ("variables", "toml", "arguments", "message"),
    [
        ({"CITEKITE_MODLE": "x"}, "", (), "'modle' (environment CITEKITE_MODLE); did you mean 'model'?"),
        ({}, "k = ", (), "citekite.toml cannot be read"),
        ({}, "", ("--provider", "fireworks", "--model", "m"), "set FIREWORKS_API_KEY"),
        ({}, "", ("--model", "m"), "model 'm' is set but no endpoint that serves it"),
    ],
)
def test_settings_that_cannot_be_used_end_with_status_2(
    synced: Path, tmp_path: Path, variables: dict[str, str], toml: str, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "citekite.toml").write_text(toml, encoding="utf-8")

    run = citekite(tmp_path, "ask", "x", "--uri", str(synced / "citekite.db"), *arguments, **variables)

    assert (run.returncode, run.stdout) == (2, "")
    assert message in run.stderr


def test_a_missing_extra_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    """A module of that name that cannot be imported stands for one that is not installed."""
    write_docs(tmp_path)
    (tmp_path / "sentence_transformers.py").write_text("raise ModuleNotFoundError(name='sentence_transformers')")
    flags = ("--embedder", "sentence-transformers", "--embedding-model", "docs")

    run = citekite(tmp_path, "sync", "docs", *flags, "--quiet", PYTHONPATH=str(tmp_path))

    assert run.returncode == 6
    assert "pip install 'citekite[sentence-transformers]'" in run.stderr


# Ask


def test_ask_without_a_model_cites_sentences_and_says_how_to_set_one(synced: Path) -> None:
    run = citekite(synced, "ask", QUESTION)

    assert run.returncode == 0
    number = re.search(r"Metadata is kept in etcd\. \[(\d)\]", run.stdout)
    assert number, run.stdout
    assert f"\n[{number[1]}] Storage > Where data is kept, docs/storage.md:5\n    “" in run.stdout
    assert "FIREWORKS_API_KEY" in run.stdout.splitlines()[-1]


def test_ask_with_the_tutorials_model_streams_citations_and_lists_their_sources(
    synced: Path, endpoint: ScriptedEndpoint
) -> None:
    """The collection was made by the embedded embedder, which goes on to serve it when a key is there."""
    endpoint.pieces = ["Metadata is in ", "etcd [1", "]. Four levels [2]", ". None [9]."]
    flags = ("--provider", "fireworks", "--base-url", endpoint.base_url, "--model", TUTORIAL_MODEL)

    text = citekite(synced, "ask", QUESTION, *flags, FIREWORKS_API_KEY=KEY)
    answer = as_json(citekite(synced, "ask", QUESTION, "--json", *flags, FIREWORKS_API_KEY=KEY))

    assert text.returncode == 0, text.stderr
    assert text.stdout.startswith("Metadata is in etcd [1]. Four levels [2]. None")
    assert re.search(r"^\[1\] .+, docs/\w+\.md:\d+\n    “.+”$", text.stdout, re.MULTILINE)
    assert re.search(r"^\[2\] .+, docs/\w+\.md:\d+\n    “.+”$", text.stdout, re.MULTILINE)
    assert "[9]" not in text.stdout
    assert (answer["model"], answer["outcome"], answer["dropped_markers"]) == (TUTORIAL_MODEL, "answered", 1)
    assert [citation["number"] for citation in answer["citations"]] == [1, 2]
    assert answer["usage"]["completion_tokens"] == 4
    assert endpoint.texts() == []
    assert len(endpoint.requests("/chat/completions")) == 2  # which the endpoint answers for the key alone


def test_a_model_that_is_not_served_is_named_with_those_that_are(synced: Path, endpoint: ScriptedEndpoint) -> None:
    run = citekite(synced, "ask", QUESTION, "--base-url", endpoint.base_url, FIREWORKS_API_KEY=KEY)

    assert (run.returncode, run.stdout.strip()) == (5, "")
    assert TUTORIAL_MODEL in run.stderr
    assert "Set `model` (--model, CITEKITE_MODEL)" in run.stderr


def test_a_key_that_is_refused_is_not_shown(synced: Path, endpoint: ScriptedEndpoint) -> None:
    flags = ("--base-url", endpoint.base_url, "--model", TUTORIAL_MODEL)
    run = citekite(synced, "ask", QUESTION, *flags, FIREWORKS_API_KEY="wrong-and-secret")

    assert (run.returncode, run.stdout.strip()) == (5, "")
    assert "answered 401" in run.stderr
    assert "Check the key in FIREWORKS_API_KEY" in run.stderr
    assert "wrong-and-secret" not in run.stderr


def test_an_answer_that_breaks_off_keeps_what_had_come(synced: Path, endpoint: ScriptedEndpoint) -> None:
    endpoint.pieces = ["Metadata ", "is kept ", "in etcd."]
    flags = ("--base-url", endpoint.base_url, "--model", TUTORIAL_MODEL, "--api-key", KEY)

    endpoint.script("/chat/completions", Fault(kind="cut", after=2))
    text = citekite(synced, "ask", QUESTION, *flags)
    endpoint.script("/chat/completions", Fault(kind="cut", after=2))
    answer = citekite(synced, "ask", QUESTION, "--json", *flags)

    assert text.returncode == answer.returncode == 5
    assert text.stdout == "Metadata is kept \n(the answer stops here)\n"
    assert "broke off" in text.stderr
    broken = json.loads(answer.stdout)
    assert (broken["question"], broken["text"]) == (QUESTION, "Metadata is kept ")
    assert "broke off" in broken["error"]


def test_a_chat_says_at_once_that_there_is_nothing_to_ask(tmp_path: Path) -> None:
    run = citekite(tmp_path, "chat", stdin="")

    assert (run.returncode, run.stdout) == (4, "")
    assert "`citekite sync FOLDER` makes it" in run.stderr


def test_a_chat_rewrites_the_follow_up_and_outlives_a_failed_answer(synced: Path, endpoint: ScriptedEndpoint) -> None:
    endpoint.pieces = ["Where does Milvus keep metadata?"]
    endpoint.script("/chat/completions", Fault(400, "not today"))
    flags = ("--base-url", endpoint.base_url, "--model", TUTORIAL_MODEL, "--api-key", KEY)

    run = citekite(synced, "chat", *flags, stdin=f"{QUESTION}\n{QUESTION}\nAnd who keeps it?\n")

    assert run.returncode == 0, run.stderr
    assert "not today" in run.stderr
    assert run.stdout.count("Where does Milvus keep metadata?") == 3  # two answers, and what was searched for
    assert "Searched for: Where does Milvus keep metadata?" in run.stdout
    assert len(endpoint.requests("/chat/completions")) == 4


def _read_terminal(leader: int) -> Iterator[bytes]:
    """What is written to a terminal until the other side closes, which Linux tells by an input/output error."""
    with contextlib.suppress(OSError):
        while piece := os.read(leader, 65536):
            yield piece


def _until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
