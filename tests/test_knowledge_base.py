"""The knowledge base on the embedded database and on a server: the same contract, and errors in words."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from citekite.errors import (
    EmbedderMismatch,
    EndpointDenied,
    FilterError,
    StoreError,
    StoreUnreachable,
    UnknownCollection,
)
from citekite.types import Mode
from commands import citekite
from scripted_endpoint import Fault, ScriptedEndpoint
from stored import BIRDS, free_port, knowledge_base, milvus_server, rows, write

DATA = Path(__file__).parents[2] / "shared" / "data"
MODES: tuple[Mode, ...] = ("hybrid", "dense", "lexical")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with milvus_server(tmp_path_factory.mktemp("server") / "server.db") as uri:
        yield uri


@pytest.fixture(params=["embedded", "server"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Where the collection is: an address with a collection name that no other test has."""
    if request.param == "embedded":
        return {"uri": str(tmp_path / "birds.db")}
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
    return {"uri": request.getfixturevalue("server"), "collection": name}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "docs", BIRDS)


def api(endpoint: ScriptedEndpoint, model: str = "m") -> dict[str, object]:
    return {"embedder": "api", "base_url": endpoint.base_url, "embedding_model": model, "api_key": "k"}


# The same on both


def test_sync_search_remove(address: dict[str, str], folder: Path) -> None:
    with knowledge_base(**address) as kb:
        assert kb.sync(folder).new == 3
        assert kb.sync(folder).unchanged == 3
        for mode in MODES:
            best, *_ = kb.search("Which bird hunts voles at night?", mode=mode)
            assert best.chunk.text == "## Barn owl\n\nThe barn owl hunts voles at night.", mode
            assert set(best.legs) == {"dense", "lexical"} if mode == "hybrid" else {mode}
        assert [Path(document.source).name for document in kb.documents()] == ["eagles.md", "kites.md", "owls.md"]
        removed = kb.remove(folder / "deep")
        assert removed == 2
        assert not any("eagle" in hit.chunk.text for hit in kb.search("golden eagle", k=100))
        assert kb.sync(folder).new == 1


def test_every_mode_ranks_by_falling_score_from_rank_1(address: dict[str, str], folder: Path) -> None:
    with knowledge_base(**address) as kb:
        kb.sync(folder)
        for mode in MODES:
            hits = kb.search("kite tail", k=3, mode=mode)
            assert [hit.rank for hit in hits] == [1, 2, 3][: len(hits)]
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize("mode", MODES)
def test_filter_means_the_same_in_each_leg(address: dict[str, str], folder: Path, mode: Mode) -> None:
    """Milvus evaluates it for both: paths, numbers, arrays and metadata."""
    write(folder, {"heron.md": "---\nlang: en\nyear: 2020\n---\n# Heron\n\nThe heron is no kite, it wades.\n"})
    expressions = {
        'source like "%kites%"': {"kites.md"},
        'source like "%kites%" or source like "%owls%"': {"kites.md", "owls.md"},
        'metadata["lang"] == "en" and metadata["year"] > 2000': {"heron.md"},
        'array_contains(headings, "Golden eagle")': {"eagles.md"},
        "ordinal >= 2": {"kites.md"},
        'title == "Nothing"': set(),
    }
    with knowledge_base(**address) as kb:
        kb.sync(folder)
        for expression, names in expressions.items():
            hits = kb.search("the kite, the owl, the eagle and the heron", k=20, filter=expression, mode=mode)
            assert {Path(hit.chunk.source).name for hit in hits} == names, expression


@pytest.mark.parametrize("mode", MODES)
def test_filter_that_milvus_refuses_is_named(address: dict[str, str], folder: Path, mode: Mode) -> None:
    with knowledge_base(**address) as kb:
        kb.sync(folder)
        for expression in ("colour == 3", "source ===", 'source like "unfinished'):
            with pytest.raises(FilterError, match="cannot evaluate the filter") as caught:
                kb.search("kite", filter=expression, mode=mode)
            assert repr(expression) in str(caught.value)


def test_blank_question_finds_nothing(address: dict[str, str], folder: Path) -> None:
    with knowledge_base(**address) as kb:
        kb.sync(folder)
        assert [kb.search(question, mode=mode) for question in ("", " \n") for mode in MODES] == [[]] * 6


def test_unknown_collection_names_those_there_are(address: dict[str, str], folder: Path) -> None:
    with knowledge_base(**address) as kb:
        kb.sync(folder)
        name = kb.settings.collection
    with knowledge_base(**{**address, "collection": "elsewhere"}) as kb:
        for call in (lambda: kb.search("kite"), kb.documents, kb.status, kb.reindex, lambda: kb.remove(folder)):
            with pytest.raises(UnknownCollection, match=rf"'elsewhere'.*{name}.*citekite sync"):
                call()


def test_removing_what_is_not_stored_says_so(address: dict[str, str], folder: Path) -> None:
    with knowledge_base(**address) as kb:
        kb.sync(folder)
        with pytest.raises(StoreError, match=r"swans\.md.*citekite documents"):
            kb.remove(folder / "swans.md")
        assert len(kb.documents()) == 3


def test_reindex_embeds_with_the_other_embedder_and_swaps(address: dict[str, str], folder: Path) -> None:
    with knowledge_base(**address) as kb:
        kb.sync(folder)
        count, name = kb.count(), kb.status().embedder
    with ScriptedEndpoint(dimension=48) as endpoint, knowledge_base(**address, **api(endpoint)) as kb:
        with pytest.raises(EmbedderMismatch, match=rf"{name}.*api:m.*citekite reindex"):
            kb.sync(folder)
        with pytest.raises(EmbedderMismatch, match=rf"{name}.*api:m.*citekite reindex"):
            kb.search("kite")
        assert endpoint.texts() == []
        assert kb.reindex() == count
        assert (kb.status().embedder, kb.status().dimension, kb.count()) == ("api:m", 48, count)
        assert kb.sync(folder).unchanged == 3
        assert len(set(endpoint.texts())) == len(endpoint.texts()) == count
        for mode in MODES:
            assert "vole" in kb.search("the owl hunts voles", mode=mode)[0].chunk.text
        assert kb.status().collections.count(kb.settings.collection) == 1


def test_failed_reindex_leaves_the_old_one_and_the_next_goes_on(address: dict[str, str], tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", {f"{n}.md": f"# Bird {n}\n\nBird number {n} sings.\n" for n in range(9)})
    with knowledge_base(**address) as kb:
        kb.sync(folder)
    with ScriptedEndpoint() as endpoint:
        values = {**address, **api(endpoint), "concurrency": 1, "batch_size": 3, "retry_seconds": 0}
        endpoint.script("/embeddings", Fault(kind="slow"), Fault(401))
        with knowledge_base(**values) as kb, pytest.raises(EndpointDenied):
            kb.reindex()
        with knowledge_base(**address) as kb:
            assert kb.status().embedder.startswith("static:")
            assert kb.search("bird number 4", k=1)[0].chunk.title == "Bird 4"
        sent = len(endpoint.requests("/embeddings"))
        with knowledge_base(**values) as kb:
            assert kb.reindex() == kb.count() == 9
        texts = [text for request in endpoint.requests("/embeddings")[sent:] for text in request.texts]
        assert len(texts) == 6, "three were stored before it failed"


def test_reindex_clears_what_a_killed_one_left(address: dict[str, str], folder: Path) -> None:
    """Killed after the swap and before the old generation was dropped: it would take up space for ever."""
    from citekite.store.milvus import MilvusStore
    from citekite.store.record import CollectionRecord

    with knowledge_base(**address) as kb:
        kb.sync(folder)
        name = kb.settings.collection
        with MilvusStore(address["uri"]) as store:
            store.create_generation(name, 7, CollectionRecord("static:other", 8, True, "other"))
            assert kb.reindex() == kb.count() == 7
            assert store.find_generation(name, 7) is None
            assert store.generation(name) == 2


def test_server_and_embedded_database_hold_the_same(server: str, folder: Path, tmp_path: Path) -> None:
    with knowledge_base(server, collection="same") as kb:
        kb.sync(folder)
        on_server = kb.search("hunts voles")[0].chunk.id
    with knowledge_base(tmp_path / "same.db") as kb:
        kb.sync(folder)
        assert kb.search("hunts voles")[0].chunk.id == on_server
    assert rows(server, "same") == rows(tmp_path / "same.db")


def test_sync_makes_the_milvus_database_that_is_named(server: str, folder: Path) -> None:
    with knowledge_base(server, database="library") as kb:
        assert kb.collections() == []
        assert kb.sync(folder).new == 3
        assert kb.collections() == ["citekite"]


def test_server_searches_with_its_bm25_function(server: str, folder: Path) -> None:
    from pymilvus import MilvusClient

    with knowledge_base(server, collection="bm25") as kb:
        kb.sync(folder)
        assert "voles" in kb.search("voles", mode="lexical")[0].chunk.text
    client = MilvusClient(server)
    functions = client.describe_collection("bm25")["functions"]
    client.close()
    assert [function["output_field_names"] for function in functions] == [["sparse"]]


# Errors in words


def test_database_of_another_process_names_the_process(tmp_path: Path, folder: Path) -> None:
    uri = tmp_path / "held.db"
    code = "import sys; from citekite import KnowledgeBase\n"
    code += "with KnowledgeBase(sys.argv[1]) as kb: kb.sync(sys.argv[2]); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, uri, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        tried = citekite(tmp_path, "search", "kite", "--uri", str(uri))
        assert tried.returncode == 4
        assert f"open in another process (process {holder.pid})" in tried.stderr
    finally:
        holder.communicate(timeout=10)
    assert citekite(tmp_path, "search", "kite", "--uri", str(uri)).returncode == 0


def test_one_process_may_open_a_database_twice(tmp_path: Path, folder: Path) -> None:
    uri = tmp_path / "twice.db"
    with knowledge_base(uri) as first:
        first.sync(folder)
        with knowledge_base(uri) as second:
            assert second.count() == first.count()
        assert first.search("kite")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_folder_that_cannot_be_written(tmp_path: Path, folder: Path) -> None:
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):
        parent.chmod(0o755)
    code = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    code += "from citekite.store import embedded; from pathlib import Path\nembedded.check(Path(sys.argv[1]))"
    tried = subprocess.run(
        [sys.executable, "-c", "import citekite.store.embedded\n" + code, tmp_path / "no.db"],
        capture_output=True,
        text=True,
        env={},
        check=False,
    )
    assert "DatabaseReadOnly" in tried.stderr, tried.stderr
    assert "cannot be written" in tried.stderr


def test_file_of_milvus_lite_2(tmp_path: Path, folder: Path) -> None:
    import sqlite3

    uri = tmp_path / "old.db"
    connection = sqlite3.connect(uri)
    connection.execute("create table collection_meta (id integer)")
    connection.commit()
    connection.close()
    before = uri.read_bytes()
    tried = citekite(tmp_path, "sync", str(folder), "--uri", str(uri))
    assert tried.returncode == 4
    assert "Milvus Lite 2.x" in tried.stderr
    assert "--uri" in tried.stderr
    assert uri.read_bytes() == before


def test_question_before_the_first_sync_leaves_no_database(tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "none.db") as kb, pytest.raises(UnknownCollection, match="citekite sync"):
        kb.search("kite")
    assert list(tmp_path.iterdir()) == []


def test_server_that_does_not_answer_is_told_at_once(folder: Path) -> None:
    started = time.monotonic()
    with knowledge_base(f"http://127.0.0.1:{free_port()}") as kb, pytest.raises(StoreUnreachable, match="no Milvus"):
        kb.sync(folder)
    assert time.monotonic() - started < 20


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_full_disk_stops_at_once_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """What was stored before is kept, and with space again the same command ends in the state of a clean run."""
    folder = write(tmp_path / "docs", {f"{n}.md": _long_text(n) for n in range(60)})
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", small], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        tried = citekite(tmp_path, "sync", str(folder), "--uri", str(small / "full.db"), "--embedder", "static")
        assert tried.returncode == 4, tried.stderr
        assert "no space left" in tried.stderr
        assert "Traceback" not in tried.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
        again = citekite(tmp_path, "sync", str(folder), "--uri", str(small / "full.db"), "--embedder", "static")
        assert again.returncode == 0, again.stderr
        with knowledge_base(tmp_path / "clean.db") as kb:
            kb.sync(folder)
        assert rows(small / "full.db") == rows(tmp_path / "clean.db")
    finally:
        subprocess.run(["umount", "-l", small], check=True)


# Relevance


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data beside the checkout")
def test_question_of_the_tutorial_finds_its_answer_first(tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "faq.db", splitter="separator", separator="# ") as kb:
        kb.sync(DATA / "milvus_docs" / "en" / "faq")
        assert kb.count() == 72
        best, *_ = kb.search("How is data stored in milvus?")
    assert "Where does Milvus store data?" in best.chunk.text


def _long_text(number: int) -> str:
    return f"# Bird {number}\n\n" + "\n".join(f"## Note {n}\n\n{number} {n} " + "words " * 100 for n in range(20))


def test_several_threads_open_a_database_at_the_same_moment(tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "birds.db") as kb:
        kb.sync(write(tmp_path / "docs", BIRDS))

    def search(_: int) -> int:
        with knowledge_base(tmp_path / "birds.db") as kb:
            return len(kb.search("Which tail does the red kite have?", k=1))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(search, range(8))) == [1] * 8


def test_warming_up_loads_what_a_question_needs_and_asks_no_endpoint(tmp_path: Path) -> None:
    with ScriptedEndpoint() as endpoint:
        program = (
            "import sys; from citekite import KnowledgeBase; from citekite.settings import Settings; "
            f"kb = KnowledgeBase(settings=Settings(uri={str(tmp_path / 'kb.db')!r}, embedder='static', "
            f"base_url={endpoint.base_url!r}, model='m')); kb.warm_up(); "
            "print({'openai', 'tokenizers'} <= set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert (done.stdout, endpoint.received) == ("True\n", [])
