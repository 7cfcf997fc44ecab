"""The command line beside `citekite serve` on the same database: real processes, and the same output as without."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import stat
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from typer.testing import CliRunner

from citekite.cli.app import app
from citekite.settings import Settings
from citekite.transfer.backup import restore
from commands import citekite, command, write_docs
from forked import OURS, Forked, environment
from scripted_endpoint import ScriptedEndpoint
from stored import knowledge_base, write

QUESTION = "Where is metadata kept?"
# Each is run directly, and again while a server has the database open.
COMMANDS = {
    "search": ["search", QUESTION, "-k", "2", "--source", "docs/storage.md"],
    "ask": ["ask", QUESTION, "--mode", "lexical", "--path", "*.md", "--json"],
    "chat": ["chat"],
    "documents": ["documents"],
    "status": ["status"],
}


@contextmanager
def served(folder: Path, *arguments: str, **variables: str) -> Iterator[tuple[Forked, str]]:
    """A server in a process of its own, on a free port: the process and the line that it starts with."""
    with Forked(
        command("serve", "--port", "0", *arguments),
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


def address(line: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line
    return found[0]


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two documents and their database, for one server."""
    folder = tmp_path_factory.mktemp("beside")
    with knowledge_base(folder / "citekite.db") as kb:
        kb.sync(write_docs(folder))
    return folder


@pytest.fixture(scope="module")
def pristine(synced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same before any server has opened it."""
    return shutil.copytree(synced, tmp_path_factory.mktemp("pristine") / "copy")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A folder of a test's own with the same database."""
    return shutil.copytree(pristine, tmp_path / "own")


@pytest.fixture(scope="module")
def direct(synced: Path) -> dict[str, str]:
    """What each command prints on the database itself; in this process, which has imported everything already."""
    ours = {name: None for name in os.environ if name.startswith(OURS)}
    with chdir(synced):
        runs = {
            name: CliRunner().invoke(app, arguments, input=f"{QUESTION}\n\n", env={**ours, "COLUMNS": "120"})
            for name, arguments in COMMANDS.items()
        }
    assert {name: run.exit_code for name, run in runs.items()} == dict.fromkeys(COMMANDS, 0)
    return {name: run.stdout for name, run in runs.items()}


@pytest.fixture(scope="module")
def server(synced: Path, pristine: Path, direct: dict[str, str]) -> Iterator[tuple[Forked, str]]:
    with served(synced) as started:
        yield started


def test_a_server_says_in_a_line_where_it_is_and_what_it_serves(server: tuple[Forked, str]) -> None:
    assert re.fullmatch(
        r"citekite serves the collection 'citekite' with 2 documents at http://127\.0\.0\.1:\d+/ "
        r"\(no key is needed; no chat model\); Ctrl-C stops it\n",
        server[1],
    )


def test_a_client_that_keeps_its_connection_waits_for_no_packet(server: tuple[Forked, str]) -> None:
    """With Nagle's algorithm each reply after the first would take 40 ms."""
    times = []
    with httpx2.Client(base_url=address(server[1])) as client:
        for _ in range(9):
            started = time.perf_counter()
            client.post("/api/v1/search", json={"question": ""}).raise_for_status()
            times.append(time.perf_counter() - started)
    assert statistics.median(times) < 0.035


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_the_same_through_the_server_and_says_that_it_goes_through_it(
    name: str, synced: Path, direct: dict[str, str], server: tuple[Forked, str]
) -> None:
    process, line = server
    run = citekite(synced, *COMMANDS[name], stdin=f"{QUESTION}\n\n")

    assert (run.returncode, run.stdout) == (0, direct[name])
    said = f"citekite serve (process {process.pid}) has ./citekite.db open: going through {address(line)}"
    assert run.stderr.splitlines() == [said]


def test_the_address_is_for_the_owner_alone_and_its_token_is_never_shown(
    synced: Path, server: tuple[Forked, str]
) -> None:
    file = synced / "citekite.db.server.json"
    left = json.loads(file.read_text())

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (left["url"], left["pid"]) == (address(server[1]), server[0].pid)
    assert left["token"] not in server[1]
    assert left["token"] not in "".join(citekite(synced, "doctor", "--json").stdout)


@pytest.mark.parametrize(
    "arguments",
    [["reindex"], ["sync", "docs", "--dry-run"], ["export", "x.parquet"]],
    ids=" ".join,
)
def test_a_command_that_no_server_does_names_the_holder_and_what_to_do(
    arguments: list[str], synced: Path, server: tuple[Forked, str]
) -> None:
    process, line = server
    run = citekite(synced, *arguments)

    assert (run.returncode, run.stdout) == (4, "")
    assert f"citekite.db is open in citekite serve (process {process.pid}, {address(line)})" in run.stderr
    assert f"stop it (kill {process.pid}), run the command, and start `citekite serve` again" in run.stderr


def test_a_backup_goes_through_the_server(synced: Path, server: tuple[Forked, str], tmp_path: Path) -> None:
    run = citekite(synced, "backup", str(tmp_path / "b.tar.gz"), "--quiet")

    assert run.returncode == 0, run.stderr
    assert run.stderr.endswith(f"has ./citekite.db open: going through {address(server[1])}\n")
    restored = Settings(uri=str(tmp_path / "back.db"), embedder="static")
    restore(tmp_path / "b.tar.gz", restored, replacing=False, report=lambda progress: None)
    with knowledge_base(tmp_path / "back.db") as kb:
        assert kb.count() == 4


def test_mcp_over_stdio_goes_through_the_server(synced: Path, server: tuple[Forked, str]) -> None:
    program, *rest = command("mcp")
    by_file = StdioServerParameters(command=program, args=rest, env=environment(), cwd=synced)
    by_address = StdioServerParameters(
        command=program, args=[*rest, "--server", address(server[1]), "--key", "any"], env=environment(), cwd="/"
    )

    async def use(parameters: StdioServerParameters) -> None:
        async with Client(parameters, read_timeout_seconds=30) as client:
            found = await client.call_tool("search", {"question": QUESTION, "k": 1})
            assert not found.is_error, found
            assert "Metadata is kept in etcd" in found.content[0].text  # type: ignore[union-attr]
            answer = await client.call_tool("ask", {"question": QUESTION})
            assert (answer.structured_content or {})["outcome"] == "answered"
            listed = (await client.list_resources()).resources
            assert len(listed) == 2
            source = listed[0].description.partition(", ")[0]  # type: ignore[union-attr]
            read = await client.call_tool("get_document", {"document": source, "last_line": 1})
            assert (read.structured_content or {})["text"].startswith("# ")
            missing = await client.call_tool("search", {"question": QUESTION, "collection": "tigers"})
            assert missing.is_error

    asyncio.run(use(by_file))
    asyncio.run(use(by_address))


def test_an_option_that_a_server_cannot_be_given_is_named_with_the_way_out(
    synced: Path, server: tuple[Forked, str]
) -> None:
    run = citekite(synced, "ask", QUESTION, "--context-tokens", "500")

    assert (run.returncode, run.stdout) == (2, "")
    assert "--context-tokens cannot go through citekite serve" in run.stderr
    assert f"leave it out, or stop it first (kill {server[0].pid})" in run.stderr


def test_doctor_says_that_a_server_has_the_database(synced: Path, server: tuple[Forked, str]) -> None:
    checks = {check["name"]: check for check in json.loads(citekite(synced, "doctor", "--json").stdout)}

    assert f"citekite serve (process {server[0].pid}, {address(server[1])})" in checks["server"]["message"]
    assert (checks["database"]["state"], checks["collection"]["state"]) == ("ok", "ok")


def test_a_second_server_on_the_database_is_told_of_the_first(synced: Path, server: tuple[Forked, str]) -> None:
    """Also where its port is taken: another port would not help."""
    run = citekite(synced, "serve", "--port", address(server[1]).rpartition(":")[2])

    assert run.returncode == 4
    assert f"is open in citekite serve (process {server[0].pid}, {address(server[1])})" in run.stderr


def test_a_server_whose_port_is_taken_says_so(tmp_path: Path, server: tuple[Forked, str]) -> None:
    port = address(server[1]).rpartition(":")[2]
    run = citekite(tmp_path, "serve", "--port", port)

    assert run.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened on (Address already in use): choose another --port" in run.stderr


def test_after_the_server_was_killed_or_stopped_commands_use_the_database_again(folder: Path) -> None:
    left = folder / "citekite.db.server.json"
    with served(folder) as (process, _):
        assert left.exists()
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert left.exists()
    after = citekite(folder, "documents")
    assert (after.returncode, after.stderr) == (0, "")

    with served(folder) as (process, line):
        assert json.loads(left.read_text())["url"] == address(line)
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    assert not left.exists()
    assert sorted(path.name for path in folder.glob("*.json*")) == []


def test_an_address_that_now_belongs_to_another_process_is_passed_over(folder: Path) -> None:
    """Both the number of the process and the port may have gone to others since the server was killed."""
    with ScriptedEndpoint() as other:
        values = {"url": other.base_url, "token": "t", "pid": os.getpid(), "version": "0"}
        (folder / "citekite.db.server.json").write_text(json.dumps(values))
        run = citekite(folder, "documents")
    assert (run.returncode, run.stderr) == (0, "")


def test_an_answer_whose_server_dies_keeps_what_had_come(folder: Path) -> None:
    pieces = ["Metadata ", "is kept ", *["in etcd. "] * 200]
    with ScriptedEndpoint(pieces=pieces, piece_seconds=0.05, models=["m"]) as endpoint:
        model = ("--base-url", endpoint.base_url, "--model", "m", "--api-key", "k")
        with (
            served(folder, *model) as (server, _),
            Forked(
                command("ask", QUESTION),
                cwd=folder,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as asking,
        ):
            assert asking.stdout is not None
            begun = asking.stdout.read(len("Metadata is"))
            server.kill()
            out, error = asking.communicate(timeout=20)
    assert begun == "Metadata is"
    assert out.endswith("(the answer stops here)\n")
    assert asking.returncode == 8
    assert "the connection to http://127.0.0.1:" in error
    assert "broke" in error


def test_a_reader_who_leaves_ends_the_request_to_the_model(folder: Path) -> None:
    with ScriptedEndpoint(pieces=["Metadata ", *["in etcd. "] * 400], piece_seconds=0.05, models=["m"]) as endpoint:
        model = ("--base-url", endpoint.base_url, "--model", "m", "--api-key", "k")
        with (
            served(folder, *model),
            Forked(
                command("ask", QUESTION),
                cwd=folder,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as asking,
        ):
            assert asking.stdout is not None
            assert asking.stdout.read(8) == "Metadata"
            asking.send_signal(signal.SIGINT)
            left = time.monotonic()
            assert endpoint.closed_early.wait(5)
            assert time.monotonic() - left < 2
            asking.communicate(timeout=10)
            endpoint.closed_early.clear()
            asyncio.run(ask_and_cancel(folder, endpoint))
    assert asking.returncode == 130


async def ask_and_cancel(folder: Path, endpoint: ScriptedEndpoint) -> None:
    """Ask by MCP over stdio, and take the question back when the model is at work."""
    program, *rest = command("mcp")
    parameters = StdioServerParameters(command=program, args=rest, env=environment(), cwd=folder)
    begin = len(endpoint.requests("/chat/completions"))
    async with Client(parameters, mode="legacy", read_timeout_seconds=30) as client:
        call = asyncio.ensure_future(client.call_tool("ask", {"question": QUESTION}))
        while len(endpoint.requests("/chat/completions")) == begin:
            assert not call.done(), call.result()
            await asyncio.sleep(0.02)
        call.cancel()
        assert await asyncio.to_thread(endpoint.closed_early.wait, 3)


def test_a_sync_goes_through_the_server_and_reads_the_same_files(folder: Path) -> None:
    (folder / "docs" / "new.md").write_text("# New\n\nNothing was here before.\n")
    with served(folder) as (process, _):
        run = citekite(folder, "sync", "docs", "--prune", "--exclude", "consistency.md", "--json")
        removed = citekite(folder, "remove", "docs/new.md")
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    # The copy of the database knows its documents by the folder in which they were made: all are new here.
    assert (report["new"], report["pruned"], report["failures"]) == (2, 0, [])
    assert f"citekite serve (process {process.pid}) has ./citekite.db open" in run.stderr
    assert "embedding" in run.stderr
    assert removed.stdout == "removed docs/new.md: 1 chunk\n"


def test_ctrl_c_stops_the_job_of_the_server(folder: Path) -> None:
    docs = write(folder / "many", {f"{number}.md": f"# Bird {number}\n\nIt flies.\n" for number in range(40)})
    with ScriptedEndpoint(latency=0.3, models=["e"]) as endpoint:
        embedding = ("--embedder", "api", "--embedding-model", "e", "--embedding-base-url", endpoint.base_url)
        slow = ("--embedding-api-key", "k", "--batch-size", "1", "--concurrency", "1", "--collection", "slow")
        with (
            served(folder, *embedding, *slow),
            Forked(
                command("sync", str(docs), "--collection", "slow"),
                cwd=folder,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as syncing,
        ):
            until = time.monotonic() + 20
            while not endpoint.texts():
                assert time.monotonic() < until
                time.sleep(0.02)
            syncing.send_signal(signal.SIGINT)
            _, error = syncing.communicate(timeout=20)
            asked = len(endpoint.texts())
            time.sleep(0.7)
            assert len(endpoint.texts()) <= asked + 1
    assert syncing.returncode == 130
    assert "Stopped. What was embedded is stored" in error
    assert asked < 40
