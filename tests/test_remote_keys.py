"""The command line against a server that wants a key: real processes, `--server` and `--key`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import citekite, write_docs
from test_beside_a_server import address, served

QUESTION = "Where is metadata kept?"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the server, which has a key for writers and one for readers."""
    return tmp_path_factory.mktemp("keyed")


@pytest.fixture(scope="module")
def keys(home: Path) -> dict[str, str]:
    made = {scope: citekite(home, "keys", "create", "--name", scope, "--scope", scope) for scope in ("read", "write")}
    assert {run.returncode for run in made.values()} == {0}
    return {scope: run.stdout.strip() for scope, run in made.items()}


@pytest.fixture(scope="module")
def url(home: Path, keys: dict[str, str]) -> Iterator[str]:
    with served(home) as (_, line):
        assert "every request needs a key" in line
        yield address(line)


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """A folder on another machine, as it were: with documents and no database."""
    write_docs(tmp_path)
    return tmp_path


def test_a_folder_is_uploaded_and_answers_from_it(client: Path, url: str, keys: dict[str, str]) -> None:
    run = citekite(client, "sync", "docs", "--server", url, CITEKITE_KEY=keys["write"])
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("2 new, 0 changed, 0 unchanged documents: 4 chunks added")
    assert "uploading 2/2 files" in run.stderr

    variables = {"CITEKITE_SERVER": url, "CITEKITE_KEY": keys["read"]}
    answer = citekite(client, "ask", QUESTION, **variables)
    assert re.search(r"^\[\d\] Storage > Where data is kept, upload://shared/docs--storage\.md:5$", answer.stdout, re.M)
    listed = citekite(client, "documents", **variables)
    assert listed.stdout.splitlines()[-1] == "2 documents"
    assert re.search(r"^uri +\./citekite\.db$", citekite(client, "status", **variables).stdout, re.M)
    assert not list(client.glob("*.db*"))


@pytest.mark.parametrize("key", ["", "ck_wrong-and-secret"], ids=["none", "wrong"])
def test_without_the_right_key_nothing_is_told_but_what_is_missing(client: Path, url: str, key: str) -> None:
    run = citekite(client, "search", QUESTION, "--server", url, CITEKITE_KEY=key)
    assert (run.returncode, run.stdout) == (7, "")
    assert "key" in run.stderr
    assert "wrong-and-secret" not in run.stderr


def test_a_key_that_reads_does_not_write(client: Path, url: str, keys: dict[str, str]) -> None:
    run = citekite(client, "sync", "docs", "--server", url, CITEKITE_KEY=keys["read"])
    assert (run.returncode, run.stdout) == (7, "")
    assert "'read'" in run.stderr


def test_on_its_own_machine_the_database_is_reached_without_a_key(home: Path, url: str) -> None:
    run = citekite(home, "documents")
    assert run.returncode == 0, run.stderr
    assert f"going through {url}" in run.stderr


def test_commands_that_no_server_does_say_so_where_one_is_set(client: Path, url: str) -> None:
    run = citekite(client, "reindex", CITEKITE_SERVER=url)
    assert run.returncode == 2
    assert f"`citekite reindex` does not go through a server, and `server` is {url}" in run.stderr
    pruned = citekite(client, "sync", "docs", "--prune", "--server", url)
    assert (pruned.returncode, pruned.stdout) == (2, "")
    both = citekite(client, "documents", "--server", url, "--uri", "other.db")
    assert (both.returncode, "--uri cannot go through" in both.stderr) == (2, True)
