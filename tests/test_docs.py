"""The documentation says what is true: its Python runs, its commands exist, its tables agree with the code."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from citekite.cli.app import app
from citekite.cli.options import OPTIONS
from citekite.errors import STATUS
from citekite.knowledge_base import KnowledgeBase
from citekite.providers import PROVIDERS
from citekite.settings import Settings, load_settings
from commands import citekite
from scripted_endpoint import ScriptedEndpoint

ROOT = Path(__file__).resolve().parent.parent
KNOWLEDGE = ROOT / "examples" / "knowledge"
FAQ = ROOT.parent / "shared" / "data" / "milvus_docs" / "en" / "faq"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOREIGN = ("CITEKITE_", "FIREWORKS_", "OPENAI_", "MILVUS_")
GROUPS = ("eval", "keys")
SAMPLES = ("milvus-lite.md", "where-data-is-stored.md")

needs_faq = pytest.mark.skipif(not FAQ.is_dir(), reason="the Milvus FAQ pages are not there")


def blocks(language: str) -> list[Any]:
    """The fenced blocks of a language in all pages, as parameters named by page and line."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = [(page, page.read_text(encoding="utf-8")) for page in PAGES]
    return [
        pytest.param(block[1], id=f"{page.name}:{text.count(chr(10), 0, block.start()) + 1}")
        for page, text in found
        for block in fence.finditer(text)
    ]


def command_lines() -> list[Any]:
    """Every `citekite COMMAND ...` in a block or in backticks, once, without prompt and variables in front."""
    lines: dict[str, str] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        indented = re.findall(r"^ {4,}(?:\S+=\S* )?(citekite [a-z].*)$", text, re.MULTILINE)
        prompts = re.findall(r"^\$ (citekite [a-z].*)$", text, re.MULTILINE)
        for line in [*indented, *prompts, *re.findall(r"`(citekite [a-z][^`]*)`", text)]:
            lines.setdefault(line, page.name)
    return [pytest.param(line, id=f"{page}: {line}") for line, page in lines.items()]


def all_commands() -> dict[str, Any]:
    """Every command by its name, those of a group with the group's name in front."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_group(app).commands.items():
        if name in GROUPS:
            found |= {f"{name} {sub}": subcommand for sub, subcommand in command.commands.items()}
        else:
            found[name] = command
    return found


def tables(page: str) -> list[list[str]]:
    """The cells of all table rows of a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def run(*command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A process in a folder, with nothing of the tester's own configuration."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return subprocess.run(
        command, cwd=folder, env={**clean, **variables}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: an empty folder with two documents in `docs/`, and no key in the environment."""
    (tmp_path / "docs").mkdir()
    for name in SAMPLES:
        shutil.copy(KNOWLEDGE / name, tmp_path / "docs")
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", blocks("python"))
def test_python_of_the_pages_runs(code: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "<page>", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_of_the_pages_is_taken_as_settings(text: str, folder: Path) -> None:
    (folder / "citekite.toml").write_text(text, encoding="utf-8")
    loaded = load_settings()
    assert {name for name, origin in loaded.origins.items() if "citekite.toml" in origin} == set(tomllib.loads(text))


@pytest.mark.parametrize("session", blocks("console"))
def test_console_sessions_of_the_pages_print_what_they_show(session: str, folder: Path) -> None:
    seconds = re.compile(r"\d+\.\d s$", re.MULTILINE)
    for step in session.split("$ ")[1:]:
        command, _, shown = step.partition("\n")
        done = citekite(folder, *shlex.split(command)[1:], COLUMNS="80")
        assert done.returncode == 0, done.stderr
        assert seconds.sub("N s", done.stdout).strip() == seconds.sub("N s", shown).strip()


@pytest.mark.parametrize("line", command_lines())
def test_command_lines_of_the_pages_parse(line: str) -> None:
    commands = all_commands()
    words = shlex.split(line)[1:]
    name = " ".join(words[:2]) if words[0] in GROUPS else words[0]
    if name not in commands:
        pytest.fail(f"there is no command {name!r}")
    if arguments := words[len(name.split()) :]:
        commands[name].make_context(name, arguments)


def test_command_lines_are_found() -> None:
    assert len(command_lines()) > 30


def test_every_command_is_described() -> None:
    pattern = rf"`citekite ((?:(?:{'|'.join(GROUPS)}) )?\w+)"
    described = {match[1] for row in tables("cli.md") if (match := re.match(pattern, row[0]))}
    assert described == set(all_commands())


def test_exit_statuses_are_those_of_the_errors() -> None:
    described = {int(row[0]) for row in tables("cli.md") if row[0].isdigit()}
    assert described == {0, *(status.exit_code for status in STATUS.values())}


def test_settings_table_is_that_of_the_settings() -> None:
    rows = {row[0].strip("`"): row[1:] for row in tables("settings.md") if len(row) == 3 and row[0][:1] == "`"}
    assert list(rows) == list(Settings.model_fields)
    assert set(rows) == set(OPTIONS)
    for name, (default, meaning) in rows.items():
        value = Settings.model_fields[name].default
        written = value if isinstance(value, str) else json.dumps(value)
        assert default == ("–" if value in (None, ()) else f"`{written}`")
        assert meaning == OPTIONS[name][1]


def test_providers_table_is_that_of_the_providers() -> None:
    rows = [row for row in tables("models.md") if row[0].strip("`") in PROVIDERS]
    assert [[cell.strip("`") for cell in row] for row in rows] == [
        [p.name, p.key_variable or "none", p.embedding_model, p.model, p.rerank_model or "none"]
        for p in PROVIDERS.values()
    ]


def test_library_page_names_every_method() -> None:
    public = {name for name in vars(KnowledgeBase) if not name.startswith("_")}
    described = {match[1] for row in tables("library.md") if (match := re.match(r"`(\w+)\(", row[0]))}
    assert described == public - {"probe_embedder"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@needs_faq
def test_tutorial_runs_without_a_key(tmp_path: Path) -> None:
    done = run(sys.executable, str(ROOT / "examples" / "tutorial.py"), str(FAQ), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    steps = done.stdout.split("\n## ")
    dimension, values = steps[0].splitlines()[1:3]
    assert (int(dimension), len(json.loads(values))) == (256, 10)
    assert "72 pieces stored, 72 texts embedded" in steps[1]
    nearest = json.loads(steps[2].partition("\n")[2])
    assert [len(pair) for pair in nearest] == [2, 2, 2]
    assert nearest[0][0].strip().startswith("Where does Milvus store data?")
    assert "[1]" in steps[3]
    assert "product_faq.md" in steps[3]


@needs_faq
def test_tutorial_runs_against_an_endpoint_with_a_key(tmp_path: Path) -> None:
    model = "accounts/fireworks/models/llama-v3p1-405b-instruct"
    reply = ["Inserted data and metadata ", "are stored apart [1]."]
    with ScriptedEndpoint(dimension=768, key="secret", pieces=reply) as endpoint:
        variables = {"FIREWORKS_API_KEY": "secret", "CITEKITE_BASE_URL": endpoint.base_url}
        command = (sys.executable, str(ROOT / "examples" / "tutorial.py"), str(FAQ), "--model", model)
        done = run(*command, folder=tmp_path, **variables)
        asked = endpoint.requests("/chat/completions")
        texts = endpoint.texts()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "768"
    assert "are stored apart [1]." in done.stdout
    assert [request.body["model"] for request in asked] == [model]
    assert "How is data stored in milvus?" in str(asked[0].body["messages"])
    assert len([text for text in texts if text.startswith("search_document: ")]) == 72


def test_tutorial_says_in_a_line_what_is_wrong(tmp_path: Path) -> None:
    done = run(sys.executable, str(ROOT / "examples" / "tutorial.py"), "missing", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("no file or folder")
    assert "Traceback" not in done.stderr
