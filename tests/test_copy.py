"""Copying a collection between databases: the same rows, the same record, nothing embedded, continued after a kill."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from citekite.cli.app import app
from citekite.errors import CollectionExists, SettingsError, StoreError, UnknownCollection
from citekite.ports import Vectors
from citekite.settings import Settings
from citekite.store.milvus import MilvusStore
from citekite.store.rows import Scored
from citekite.transfer import origin
from citekite.transfer.copying import copy_collection
from citekite.transfer.origin import Stored, StoredOrigin
from citekite.transfer.verify import check_copy
from moving import RECORD, Interrupted, change, contents, copied, make, record, silent, stored
from stored import BIRDS, knowledge_base, milvus_server, write

BATCH = 64
ROWS = BATCH + 36


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of two batches of rows, which no test changes."""
    uri = tmp_path_factory.mktemp("source") / "source.db"
    make(uri, ROWS)
    return uri


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "GET_ROWS", BATCH)


def settings(uri: Path | str, **values: Any) -> Settings:
    return Settings(**{"uri": str(uri), **values})


def test_a_copy_is_the_same_and_a_sync_there_embeds_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", BIRDS)
    with knowledge_base(tmp_path / "a.db") as kb:
        kb.sync(folder, access=["hr"])
        kb.set_tuned(k=3, lexical_weight=0.5, abstain_threshold=None)
        expected = [(hit.chunk, hit.score) for hit in kb.search("tail of the kite")]

    done = copy_collection(settings(tmp_path / "b.db"), str(tmp_path / "a.db"), "birds", replacing=False, report=silent)

    assert (done.chunks, done.sent, done.kept, done.compared, done.recall) == (7, 7, 0, 7, 1.0)
    assert contents(tmp_path / "b.db", "birds") == contents(tmp_path / "a.db")
    assert replace(record(tmp_path / "b.db", "birds"), version="") == replace(record(tmp_path / "a.db"), version="")
    with knowledge_base(tmp_path / "b.db", collection="birds") as kb:
        assert [(hit.chunk, hit.score) for hit in kb.search("tail of the kite")] == expected
        report = kb.sync(folder)
    assert (report.unchanged, report.texts, report.added) == (3, 0, 0)


def test_a_copy_goes_to_a_server_and_back(source: Path, tmp_path: Path) -> None:
    """The server indexes the text itself, and the embedded database has its index beside it."""
    with milvus_server(tmp_path / "server.db") as uri:
        there = copy_collection(settings(uri, database="birds"), str(source), "there", replacing=False, report=silent)
        on_server = replace(record_in(uri, "birds", "there"), version="")
        back = copy_collection(
            settings(tmp_path / "back.db", collection="there", source_database="birds"),
            uri,
            "back",
            replacing=False,
            report=silent,
        )
        with MilvusStore(uri, database="birds") as store:
            found = [id for id, _ in store.open("there").search_lexical("bird 77", 3, "")]

    assert (there.sent, back.sent, there.recall, back.recall) == (ROWS, ROWS, 1.0, 1.0)
    assert on_server == replace(record(source), version="", lexical=True)
    assert replace(record(tmp_path / "back.db", "back"), version="") == replace(record(source), version="")
    assert contents(tmp_path / "back.db", "back") == contents(source)
    with MilvusStore(str(tmp_path / "back.db")) as store:
        assert next(id for id, _ in store.open("back").search_lexical("bird 77", 3, "")) == found[0]


def record_in(uri: str, database: str, name: str) -> Any:
    with MilvusStore(uri, database=database) as store:
        return store.open(name).record


class Unchecked(StoredOrigin):
    """An origin that breaks off when the copy is checked."""

    def nearest(self, vectors: Vectors, limit: int) -> list[Scored]:
        raise KeyboardInterrupt


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from citekite.transfer import origin
from moving import *

origin.GET_ROWS = {batch}

class Killed(StoredOrigin):
    def batches(self):
        for number, batch in enumerate(super().batches()):
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

copied(Path({source!r}), Path({uri!r}), Killed)
"""


def test_a_killed_copy_has_no_name_and_is_continued(source: Path, tmp_path: Path) -> None:
    uri = tmp_path / "copy.db"
    own = shutil.copytree(source, tmp_path / "source.db")
    code = KILLED.format(tests=str(Path(__file__).parent), batch=BATCH, source=str(own), uri=str(uri))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with MilvusStore(str(uri)) as store:
        assert store.find("citekite") is None
        left = store.find_generation("citekite", 2)
        assert left is not None
        assert left.count() == BATCH
    with pytest.raises(KeyboardInterrupt):
        copied(own, uri, Unchecked)

    done = copied(own, uri)

    assert (done.sent, done.kept, done.removed) == (0, ROWS, 0)
    assert contents(uri) == contents(source)
    assert replace(record(uri), version="") == replace(record(own), version="")


def test_what_changed_before_a_copy_is_continued_is_sent_again_and_what_is_gone_deleted(tmp_path: Path) -> None:
    own, uri = tmp_path / "own.db", tmp_path / "copy.db"
    make(own, BATCH + 20)
    with pytest.raises(KeyboardInterrupt):
        copied(own, uri, Interrupted)
    with MilvusStore(str(own)) as store:
        first = [entry.chunk.id for entry, _ in next(StoredOrigin(store.open("citekite"), "own").batches())]
        numbers = [int(id.rpartition("-")[2]) for id in first]
        change(
            store.open("citekite"), [stored(numbers[0], "It has moved."), stored(numbers[1], "So has it.")], first[2:5]
        )

    done = copied(own, uri)

    assert (done.kept, done.sent, done.removed) == (BATCH - 5, 22, 3)
    assert contents(uri) == contents(own)


class Busy(StoredOrigin):
    """An origin that somebody writes to while it is copied."""

    def batches(self) -> Iterator[Sequence[Stored]]:
        yield from super().batches()
        change(self._collection, [stored(1, "Somebody was faster.")])


def test_a_source_that_changes_meanwhile_is_noticed_and_the_next_run_sends_what_differs(tmp_path: Path) -> None:
    own, uri = tmp_path / "own.db", tmp_path / "copy.db"
    make(own, 20)
    with pytest.raises(StoreError, match=r"the origin was changed while it was copied: run the same command again"):
        copied(own, uri, Busy)
    with MilvusStore(str(uri)) as store:
        assert store.find("citekite") is None

    assert (copied(own, uri).sent, copied(own, uri, replacing=True).sent) == (1, 20)
    assert contents(uri) == contents(own)


def test_a_collection_that_is_there_stays_until_it_is_to_be_replaced(source: Path, tmp_path: Path) -> None:
    uri = tmp_path / "there.db"
    make(uri, 4)
    before = contents(uri)
    with pytest.raises(CollectionExists, match=r"there is a collection 'citekite' at .*there\.db already: .*--replace"):
        copied(source, uri)
    with pytest.raises(KeyboardInterrupt):
        copied(source, uri, Interrupted, replacing=True)
    assert contents(uri) == before, "the old one serves"

    assert copied(source, uri, replacing=True).kept == BATCH
    assert contents(uri) == contents(source)


def test_a_killed_copy_and_a_reindex_do_not_take_what_the_other_left(source: Path, tmp_path: Path) -> None:
    folder, uri = write(tmp_path / "docs", BIRDS), tmp_path / "own.db"
    with knowledge_base(uri) as kb:
        kb.sync(folder)
        embedder = kb.status().embedder
    with MilvusStore(str(tmp_path / "other.db")) as store:
        change(store.create("citekite", replace(RECORD, embedder=embedder)), [stored(n) for n in range(BATCH + 1)])
    with pytest.raises(KeyboardInterrupt):
        copied(tmp_path / "other.db", uri, Interrupted, replacing=True)
    with knowledge_base(uri) as kb:
        assert (kb.reindex(), kb.count()) == (7, 7)


def test_a_copy_onto_itself_is_refused_and_beside_itself_is_not(source: Path, tmp_path: Path) -> None:
    uri = shutil.copytree(source, tmp_path / "own.db")
    with pytest.raises(SettingsError, match="'citekite' would be copied onto itself: give --to-collection"):
        copy_collection(settings(uri), f"{tmp_path}/./own.db", "citekite", replacing=True, report=silent)

    copy_collection(settings(uri), str(uri), "second", replacing=False, report=silent)
    assert contents(uri, "second") == contents(source)


def test_the_command_says_what_it_did(source: Path, tmp_path: Path) -> None:
    arguments = ["copy", str(source), str(tmp_path / "b.db"), "--to-collection", "birds", "--quiet"]
    first, second, third = (CliRunner().invoke(app, [*arguments, *more]) for more in ([], [], ["--replace", "--json"]))

    assert (first.exit_code, second.exit_code, third.exit_code) == (0, 4, 0)
    assert re.fullmatch(
        r"copied 100 chunks to collection 'birds' at .*b\.db: 100 sent, in \d+\.\d s\n"
        r"checked: 100 chunks on both sides, 100 compared and equal, searches agree to 100\.0%\n",
        first.stdout,
    )
    assert second.stderr.startswith("citekite: there is a collection 'birds' at")
    assert json.loads(third.stdout)["sent"] == ROWS


def test_an_empty_collection_is_copied_and_an_unknown_one_told(tmp_path: Path) -> None:
    make(tmp_path / "empty.db", 0)
    assert copied(tmp_path / "empty.db", tmp_path / "copy.db").chunks == 0
    assert replace(record(tmp_path / "copy.db"), version="") == replace(record(tmp_path / "empty.db"), version="")
    with pytest.raises(UnknownCollection, match="there is no database at"):
        copy_collection(settings(tmp_path / "b.db"), str(tmp_path / "no.db"), "x", replacing=False, report=silent)
    assert not (tmp_path / "b.db").exists(), "no empty database is left behind"


class Elsewhere(StoredOrigin):
    """An origin whose searches find other chunks than the copy's."""

    def nearest(self, vectors: Vectors, limit: int) -> list[Scored]:
        return [[(f"other-{place}", 2.0) for place in range(limit)] for _ in vectors]


def test_what_is_wrong_with_a_copy_is_found(source: Path) -> None:
    (entry, vector), sample = stored(8), [stored(number) for number in range(0, ROWS, 10)]
    other = replace(entry.chunk, text="Something else.")
    with MilvusStore(str(source)) as store:
        copy = store.open("citekite")
        it = StoredOrigin(copy, "it")
        assert check_copy(it, copy, sample) == 1.0
        for wrong, message in (
            ((replace(entry, chunk=other), vector), "another text in the copy than in it"),
            ((replace(entry, digest="x"), vector), "another digest"),
            ((entry, np.nextafter(vector, 2, dtype=np.float32)), "another vector"),
            ((replace(entry, chunk=replace(entry.chunk, id="x")), vector), "the chunk 'x' of it is missing"),
        ):
            with pytest.raises(StoreError, match=message):
                check_copy(it, copy, [*sample, wrong])
        with pytest.raises(StoreError, match=r"find 0% of what they find in it, and should find 95%"):
            check_copy(Elsewhere(copy, "it"), copy, sample)
        it.chunks += 1
        with pytest.raises(StoreError, match=r"it has 101 chunks and the copy 100"):
            check_copy(it, copy, sample)


@contextmanager
def refusing_server() -> Iterator[tuple[str, set[str]]]:
    """A server that lets nobody in, and the tokens that it was sent."""
    tokens: set[str] = set()

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            sent = dict(details.invocation_metadata).get("authorization")
            tokens.add(base64.b64decode(sent).decode() if sent else "")

            def refuse(request: bytes, context: Any) -> None:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", tokens
    finally:
        server.stop(None)


def test_each_server_is_sent_its_own_token_and_no_other(source: Path, tmp_path: Path) -> None:
    given = {"token": "for:destination", "source_token": "for:source"}
    with refusing_server() as (uri, tokens):
        with pytest.raises(StoreError) as refused:
            copy_collection(settings(tmp_path / "x.db", **given), uri, "x", replacing=False, report=silent)
        assert tokens == {"for:source"}
        assert "for:" not in str(refused.value)
        tokens.clear()
        with pytest.raises(StoreError):
            copy_collection(settings(uri, **given), str(source), "x", replacing=False, report=silent)
        assert tokens == {"for:destination"}
