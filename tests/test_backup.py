"""Backups of an embedded database: of one moment, also under load; whole or refused; put in place all or nothing."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from citekite import RemoteKnowledgeBase
from citekite.cli import moving
from citekite.cli.app import app
from citekite.errors import ArchiveError, DatabaseLocked, SettingsError, StoreError, UnknownCollection
from citekite.explanation import ModelUse
from citekite.home import claim, make_home
from citekite.render import answer_json
from citekite.serve.app import create_app
from citekite.serve.keys import KeyStore
from citekite.serve.ledger import Ledger
from citekite.serve.principal import OWNER
from citekite.serve.routes import backup as route
from citekite.settings import Settings
from citekite.store.gate import Gate, gate_of
from citekite.transfer import snapshot as snapshots
from citekite.transfer.archive import CHECKSUMS, FACTS, pack, read
from citekite.transfer.backup import blocks, restore, write_backup
from citekite.types import Usage
from moving import contents, make, silent
from served import serving, wait_for
from stored import BIRDS, knowledge_base, write

QUESTIONS = ("Which kite has a forked tail?", "What does the barn owl hunt?", "Where does the eagle nest?")


def settings(uri: Path, **values: Any) -> Settings:
    return Settings(**{"uri": str(uri), "embedder": "static", **values})


def answers(kb: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    """What is answered to each question: the text, and where each citation of it leads."""
    found = [answer_json(kb.ask(question)) for question in QUESTIONS]
    return [(one["text"], one["citations"]) for one in found]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database `birds.db`, and the folder of its server with a key, an upload and a report."""
    folder = tmp_path_factory.mktemp("source")
    with knowledge_base(folder / "birds.db") as kb:
        kb.sync(write(folder / "docs", BIRDS))
    home = make_home(folder / "birds.db.serve")
    KeyStore(home).create("ci", "admin")
    ledger = Ledger(home)
    ledger.add(OWNER, ModelUse("chat", "writer", Usage(7, 3)))
    ledger.close()
    write(home, {"uploads/citekite/shared/own.md": "# Own\n", "reports/first.json": "{}", "audit.jsonl": "{}\n"})
    return folder


@pytest.fixture(scope="module")
def archive(source: Path) -> Path:
    """A backup of it."""
    target = source / "birds.tar.gz"
    write_backup(blocks(settings(source / "birds.db")), target, replacing=False, report=silent)
    return target


def test_a_backup_under_load_answers_as_the_database_did_at_its_moment(tmp_path: Path) -> None:
    """One collection rests, another is synced to and fro: the backup has it as it was between two syncs."""
    versions = [
        BIRDS,
        {name: text.replace("forked", "square").replace("voles", "moths") for name, text in BIRDS.items()},
    ]
    folders = [write(tmp_path / str(number) / "docs", files) for number, files in enumerate(versions)]
    working = shutil.copytree(folders[0], tmp_path / "docs")
    server = create_app(settings(tmp_path / "birds.db"))
    kb = server.state.service._knowledge_base
    resting, busy = kb.in_collection("resting"), kb.in_collection("busy")
    resting.sync(working)
    expected = answers(resting)
    states = []
    for folder in reversed(folders):
        shutil.copytree(folder, working, dirs_exist_ok=True)
        busy.sync(working)
        states.append(answers(busy))
    assert states[0] != states[1]
    with (
        serving(server.state.service.settings, server) as address,
        working_on(busy, folders, working) as done,
        RemoteKnowledgeBase(address) as remote,
    ):
        wait_for(lambda: done["syncs"] > 2, 60)
        report = write_backup(remote.backup(), tmp_path / "b.tar.gz", replacing=False, report=silent)
        before = done["syncs"]
        wait_for(lambda: done["syncs"] > before, 60)
    assert report.content > 8
    assert not (tmp_path / "birds.db.backup").exists()

    restore(tmp_path / "b.tar.gz", settings(tmp_path / "restored.db"), replacing=False, report=silent)

    with knowledge_base(tmp_path / "restored.db", collection="resting") as kb:
        assert answers(kb) == expected
        assert answers(kb.in_collection("busy")) in states, "neither half of a sync"
        assert kb.in_collection("busy").sync(working).failures == ()


@contextmanager
def working_on(busy: Any, folders: list[Path], working: Path) -> Iterator[dict[str, int]]:
    """Two threads that sync and search until the end; how often."""
    done = {"syncs": 0, "searches": 0}
    errors: list[BaseException] = []
    ended = threading.Event()

    def repeat(name: str, act: Callable[[int], object]) -> None:
        try:
            while not ended.is_set():
                act(done[name])
                done[name] += 1
        except BaseException as error:
            errors.append(error)
            raise

    def sync(number: int) -> None:
        shutil.copytree(folders[number % 2], working, dirs_exist_ok=True)
        busy.sync(working)

    def search(number: int) -> None:
        assert busy.search(QUESTIONS[number % 3])
        time.sleep(0.02)

    threads = [threading.Thread(target=repeat, args=one) for one in (("syncs", sync), ("searches", search))]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert done["searches"] > 0


def test_what_is_in_a_backup_and_what_is_not(archive: Path, source: Path) -> None:
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        sums = json.load(tar.extractfile(CHECKSUMS))  # type: ignore[arg-type]
    assert (names[0], names[-1]) == (FACTS, CHECKSUMS)
    assert set(sums) == set(names[1:-1])
    assert {name for name in names if name.startswith("server/")} == {
        "server/keys.sqlite",
        "server/reports/first.json",
        "server/uploads/citekite/shared/own.md",
        "server/usage.sqlite",
    }
    assert [name for name in names if name.endswith((".idx", "LOCK", ".tmp"))] == []
    assert archive.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in source.iterdir()) == [
        "birds.db",
        "birds.db.index",
        "birds.db.serve",
        "birds.tar.gz",
        "docs",
    ]


def test_a_restored_system_has_keys_uploads_and_reports_for_the_owner_alone(archive: Path, tmp_path: Path) -> None:
    facts = restore(
        archive, settings(tmp_path / "new.db", data_dir=str(tmp_path / "home")), replacing=False, report=silent
    )

    assert (facts["format"], facts["files"]) == (1, 9)
    home = tmp_path / "home"
    assert [key.name for key in KeyStore(home).list()] == ["ci"]
    assert [(row.model, row.usage) for row in Ledger(home).rows()] == [("writer", Usage(7, 3))]
    assert (home / "uploads/citekite/shared/own.md").read_text() == "# Own\n"
    assert (home / "reports/first.json").exists()
    assert not (home / "audit.jsonl").exists()
    assert (home / "keys.sqlite").stat().st_mode & 0o777 == 0o600


LEFT = """
import os, sys
sys.path.insert(0, {tests!r})
from moving import *
with MilvusStore({uri!r}) as store:
    collection = store.create("citekite", RECORD)
    with collection.writing() as writer:
        rows = [stored(number) for number in range(30)]
        writer.upsert([entry for entry, _ in rows], np.stack([vector for _, vector in rows]))
        os._exit(9)
"""


def test_rows_that_a_killed_sync_left_in_the_log_are_in_the_backup(tmp_path: Path) -> None:
    uri = tmp_path / "killed.db"
    subprocess.run([sys.executable, "-c", LEFT.format(tests=str(Path(__file__).parent), uri=str(uri))], timeout=60)
    write_backup(blocks(settings(uri)), tmp_path / "b.tar.gz", replacing=False, report=silent)
    make(tmp_path / "clean.db", 30)

    restore(tmp_path / "b.tar.gz", settings(tmp_path / "back.db"), replacing=False, report=silent)

    assert contents(tmp_path / "back.db") == contents(tmp_path / "clean.db")


KILLED = """
import os, signal, sys
from pathlib import Path
from citekite.settings import Settings
from citekite.transfer.backup import blocks, write_backup

def pieces():
    for piece in blocks(Settings(uri={uri!r})):
        yield piece
        os.kill(os.getpid(), signal.SIGKILL)

write_backup(pieces(), Path({target!r}), replacing=False, report=lambda progress: None)
"""


def test_a_killed_backup_leaves_no_file_of_that_name_and_the_next_one_clears_up(source: Path, tmp_path: Path) -> None:
    uri, target = shutil.copytree(source / "birds.db", tmp_path / "birds.db"), tmp_path / "b.tar.gz"
    run = subprocess.run([sys.executable, "-c", KILLED.format(uri=str(uri), target=str(target))], timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz.part", "birds.db", "birds.db.backup"]

    write_backup(blocks(settings(uri)), target, replacing=False, report=silent)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz", "birds.db"]
    assert read(target, None, lambda size: None)["files"] == 5


def test_every_flipped_byte_and_every_cut_is_found(archive: Path, tmp_path: Path) -> None:
    """From the tenth byte on: those before, of gzip's header, change nothing of the content."""
    whole, damaged = archive.read_bytes(), tmp_path / "damaged.tar.gz"
    chosen = random.Random(7)
    for _ in range(60):
        content = bytearray(whole)
        content[chosen.randrange(10, len(whole))] ^= 1 << chosen.randrange(8)
        damaged.write_bytes(content)
        with pytest.raises(ArchiveError, match="damaged"):
            read(damaged, None, lambda size: None)
    for _ in range(20):
        damaged.write_bytes(whole[: chosen.randrange(len(whole))])
        with pytest.raises(ArchiveError, match="damaged"):
            read(damaged, None, lambda size: None)


def test_a_damaged_backup_changes_nothing(archive: Path, source: Path, tmp_path: Path) -> None:
    uri = shutil.copytree(source / "birds.db", tmp_path / "birds.db")
    (tmp_path / "damaged.tar.gz").write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(ArchiveError, match=r"damaged\.tar\.gz is damaged, or no backup: .*; take another copy of it"):
        restore(tmp_path / "damaged.tar.gz", settings(uri), replacing=True, report=silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds.db", "damaged.tar.gz"]
    with knowledge_base(uri) as kb:
        assert kb.count() == 7


def packed(folder: Path, *members: tuple[tarfile.TarInfo, bytes], last: bool = True) -> Path:
    """An archive as a backup begins and ends, with these members between."""
    file = folder / "hostile.tar.gz"
    said = [(FACTS, json.dumps({"format": 1}).encode()), *members, *([(CHECKSUMS, b"{}")] if last else [])]
    with tarfile.open(file, "w:gz") as tar:
        for info, content in said:
            info = tarfile.TarInfo(info) if isinstance(info, str) else info
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b"evil" if kind == tarfile.REGTYPE else b""


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil")],
        [member("database/../../evil")],
        [member("/tmp/evil")],
        [member("evil")],
        [member("database")],
        [member("other/evil")],
        [member("database/./evil")],
        [member("database//evil")],
        [member("database/evil", tarfile.SYMTYPE, "/etc/passwd")],
        [member("database/evil", tarfile.LNKTYPE, "/etc/passwd")],
        [member("database/evil", tarfile.CHRTYPE)],
        [member("database/evil", tarfile.DIRTYPE)],
        [member("database/evil"), member("database/evil")],
        [member("database/evil"), member("database/evil/inside")],
    ],
    ids=lambda members: f"{members[-1][0].type.decode()} {members[-1][0].name}",
)
def test_an_archive_with_what_no_backup_has_is_refused(
    members: list[tuple[tarfile.TarInfo, bytes]], tmp_path: Path
) -> None:
    (tmp_path / "inner").mkdir()
    file = packed(tmp_path, *members)
    with pytest.raises(ArchiveError, match=r"which no backup has: nothing of it was used|is damaged, or no backup"):
        restore(file, settings(tmp_path / "inner" / "new.db"), replacing=False, report=silent)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["hostile.tar.gz", "inner"]


def test_a_file_without_a_checksum_a_later_version_and_what_is_no_backup_are_refused(tmp_path: Path) -> None:
    def refused(file: Path, message: str) -> None:
        with pytest.raises(ArchiveError, match=message):
            read(file, None, lambda size: None)

    refused(packed(tmp_path, member("database/x")), r"is damaged: 'database/x' is not what was written")
    refused(packed(tmp_path, last=False), r"was cut short")
    later = tmp_path / "later.tar.gz"
    with tarfile.open(later, "w:gz") as tar:
        info = tarfile.TarInfo(FACTS)
        info.size = len(content := b'{"format": 2}')
        tar.addfile(info, io.BytesIO(content))
    refused(later, r"is a backup of version 2, and this citekite reads up to 1: upgrade citekite")
    with tarfile.open(later, "w:gz") as tar:
        tar.add(Path(__file__), "test.py")
    refused(later, r"is no backup: `citekite backup` writes one")
    later.write_bytes(gzip.compress(b"x" * 10_000))
    refused(later, r"is damaged, or no backup")
    refused(tmp_path / "none", r"there is no file")


def test_what_is_there_is_replaced_only_when_told_and_kept_until_the_new_one_is_in_place(
    archive: Path, source: Path, tmp_path: Path
) -> None:
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    uri, home = tmp_path / "birds.db", tmp_path / "birds.db.serve"
    with knowledge_base(uri) as kb:
        expected = answers(kb)
        kb.remove(tmp_path.parent / source.name / "docs")
        with pytest.raises(DatabaseLocked, match="is open in this process"):
            restore(archive, settings(uri), replacing=True, report=silent)
    (home / "uploads/citekite/shared/own.md").write_text("changed")
    with pytest.raises(SettingsError, match=r"birds\.db exists already: restore to another place .* or --force"):
        restore(archive, settings(uri), replacing=False, report=silent)
    with pytest.raises(SettingsError, match=r"keys\.sqlite exists already"):
        restore(archive, settings(tmp_path / "new.db", data_dir=str(home)), replacing=False, report=silent)
    assert not (tmp_path / "new.db").exists()
    (home / "reports.replaced").mkdir()
    with pytest.raises(SettingsError, match=r"reports\.replaced is there, put aside by a restore that was killed"):
        restore(archive, settings(uri), replacing=True, report=silent)
    assert (home / "uploads/citekite/shared/own.md").read_text() == "changed", "all or nothing"
    (home / "reports.replaced").rmdir()

    restore(archive, settings(uri), replacing=True, report=silent)

    assert (home / "uploads/citekite/shared/own.md").read_text() == "# Own\n"
    assert (home / "audit.jsonl").exists()
    assert [path.name for path in tmp_path.rglob("*.replaced")] == []
    with knowledge_base(uri) as kb:
        assert answers(kb) == expected


def test_a_database_that_another_command_has_open_is_refused(source: Path, tmp_path: Path) -> None:
    uri = shutil.copytree(source / "birds.db", tmp_path / "birds.db")
    with (uri / "LOCK").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DatabaseLocked, match=r"birds\.db is open in another process"):
            next(blocks(settings(uri)))
    assert [path.name for path in tmp_path.iterdir()] == ["birds.db"]


def test_a_folder_that_a_server_uses_and_a_server_of_milvus_are_refused(archive: Path, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    descriptor = claim(home)
    with pytest.raises(Exception, match="is in use by another server"):
        restore(archive, settings(tmp_path / "new.db", data_dir=str(home)), replacing=False, report=silent)
    os.close(descriptor)
    assert not (tmp_path / "new.db").exists()
    milvus = Settings(uri="http://me:secret@localhost:19530")
    with pytest.raises(SettingsError, match=r"http://\*\*\*@localhost:19530 is a server: `citekite export`"):
        next(blocks(milvus))
    with pytest.raises(SettingsError, match=r"is a server: restore it to a local one .*`citekite copy`"):
        restore(archive, milvus, replacing=False, report=silent)
    with pytest.raises(UnknownCollection, match="there is no database at"):
        next(blocks(settings(tmp_path / "none.db")))


def test_the_commands_go_through_a_server_and_a_key_that_may(source: Path, tmp_path: Path) -> None:
    home = tmp_path / "birds.db.serve"
    shutil.copytree(source / "birds.db", tmp_path / "birds.db")
    _, admin = KeyStore(home).create("a", "admin")
    _, writer = KeyStore(home).create("w", "write")
    _, partial = KeyStore(home).create("p", "admin", collections=["citekite"])
    target = str(tmp_path / "b.tar.gz")
    with serving(settings(tmp_path / "birds.db")) as address:

        def backup(key: str) -> Any:
            return CliRunner().invoke(app, ["backup", target, "--server", address, "--key", key, "--quiet"])

        for key, message in (
            (writer, "this needs 'admin'"),
            (partial, "is for some collections, and a backup is of all"),
        ):
            run = backup(key)
            assert (run.exit_code, message in run.stderr, Path(target).exists()) == (7, True, False)
        run = backup(admin)
        assert run.exit_code == 0, run.stderr
        assert re.fullmatch(r"backed up 6 files to .*b\.tar\.gz, \d+\.\d kB in \d+\.\d s\n", run.stdout)
        assert [json.loads(line)["outcome"] for line in (home / "audit.jsonl").open()] == [403, 403, 200]
    done = CliRunner().invoke(app, ["restore", target, "--uri", str(tmp_path / "new.db"), "--quiet"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(r"restored .*new\.db as of 2\d{3}-\d\d-\d\dT[\d:]+\+00:00: citekite\n", done.stdout)


def test_a_server_that_is_writing_says_so_and_the_command_waits(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = shutil.copytree(source / "birds.db", tmp_path / "birds.db")
    monkeypatch.setattr(route, "PATIENCE_SECONDS", 0.05)
    ended = threading.Event()

    def write_for_a_while() -> None:
        with gate_of(uri).changing():
            ended.wait(60)

    writing = threading.Thread(target=write_for_a_while)
    with serving(settings(uri)) as address:
        writing.start()
        wait_for(lambda: bool(gate_of(uri)._changing))
        response = httpx2.post(f"{address}/api/v1/backup")
        assert (response.status_code, response.json()["title"]) == (503, "ServerBusy")
        monkeypatch.setattr(moving, "time", SimpleNamespace(sleep=lambda seconds: ended.set()))
        run = CliRunner().invoke(app, ["backup", str(tmp_path / "b.tar.gz"), "--server", address, "--quiet"])
        writing.join()
    said = "The server is busy, with a sync or too many requests: waiting; Ctrl-C ends it.\n"
    assert (run.exit_code, run.stderr) == (0, said)


def test_a_look_waits_for_changes_and_changes_wait_for_a_look() -> None:
    gate, order = Gate(), []

    def change(name: str) -> None:
        with gate.changing():
            order.append(name)

    with gate.changing():
        with pytest.raises(TimeoutError), gate.looking(0.01):
            pass
        looking = threading.Thread(target=look, args=(gate, order))
        looking.start()
        wait_for(lambda: bool(gate._looks))
        late = threading.Thread(target=change, args=("late",))
        late.start()
        change("of the thread that began before")
        time.sleep(0.02)
        order.append("end")
    looking.join(5)
    late.join(5)
    assert order == ["of the thread that began before", "end", "look", "late"]


def look(gate: Gate, order: list[str]) -> None:
    with gate.looking():
        time.sleep(0.02)
        order.append("look")


@pytest.mark.parametrize("after", range(3))
def test_files_that_are_merged_meanwhile_are_kept_as_of_one_moment(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Milvus Lite merges: a new file, then the list that names it, then the old file goes."""
    folder = write(tmp_path / "folder", {"0.parquet": "0", "list.json": "0"})
    keep, kept = snapshots._keep_file, []

    def keep_and_merge(file: Path, target: Path, is_final: bool) -> None:
        if len(kept) == after:
            write(folder, {"1.parquet": "1", "list.json": "1"})
            (folder / "0.parquet").unlink()
        kept.append(file.name)
        keep(file, target, is_final)

    monkeypatch.setattr(snapshots, "_keep_file", keep_and_merge)
    snapshots._keep(folder, tmp_path / "kept", lambda file: file.suffix == ".parquet")

    named = (tmp_path / "kept" / "list.json").read_text()
    assert (tmp_path / "kept" / f"{named}.parquet").read_text() == named
    assert len(kept) > 2 or after == 2


def test_a_folder_that_never_rests_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_SETTLE_SECONDS", 0.0)
    looks = iter(range(100))
    monkeypatch.setattr(snapshots, "_look", lambda folder: {Path("x"): (next(looks), 0, 0)})
    with pytest.raises(StoreError, match="kept changing for 0 s: run the same command again"):
        snapshots._keep(tmp_path, tmp_path / "kept", lambda file: False)


def test_files_are_copied_where_they_cannot_be_linked(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr("os.link", refuse)
    with snapshots.snapshot(settings(source / "birds.db")) as folder:
        assert sum(map(len, pack(folder))) > 1000
