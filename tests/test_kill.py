"""A sync that is killed or interrupted: the next one ends where an undisturbed one does, and pays for nothing twice."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.kills import IN_FLIGHT, JOBS, Trials, embedding, kills

from commands import command
from forked import Forked, environment
from scripted_endpoint import ScriptedEndpoint
from stored import knowledge_base, rows, write

FILES = 24
BATCH, CONCURRENCY = 4, 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(
        tmp_path / "docs",
        {
            f"{number}.md": f"# Bird {number}\n\n## Song\n\nSong number {number}.\n\n## Nest\n\nNest number {number}.\n"
            for number in range(FILES)
        },
    )


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(latency=0.05) as endpoint:
        yield endpoint


def options(endpoint: ScriptedEndpoint) -> dict[str, object]:
    return {
        "embedder": "api",
        "base_url": endpoint.base_url,
        "embedding_model": "m",
        "api_key": "k",
        "batch_size": BATCH,
        "concurrency": CONCURRENCY,
    }


def start(uri: Path, folder: Path, *flags: str, **values: object) -> Forked:
    """`citekite sync` as a process of its own, with nothing of ours in its environment."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    return Forked(
        command("sync", str(folder), "--uri", str(uri), "--quiet", *flags, *arguments),
        env=environment(),
        cwd=uri.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], bool], process: Forked) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_kill_while_embedding(tmp_path: Path, folder: Path, endpoint: ScriptedEndpoint) -> None:
    """The collection ends equal to a clean run's, and only texts in flight at the kill are sent twice."""
    uri = tmp_path / "killed.db"
    process = start(uri, folder, **options(endpoint))
    wait_until(lambda: len(endpoint.requests("/embeddings")) >= 9, process)
    process.kill()
    process.communicate()
    sent = len(endpoint.texts())
    with knowledge_base(uri, **options(endpoint)) as kb:
        kb.sync(folder)
        assert kb.sync(folder).texts == 0
    assert rows(uri) == clean_rows(tmp_path, folder, endpoint)
    assert sent < len(set(endpoint.texts())), "the kill came too late to tell anything"
    # In flight, or returned and not yet stored.
    assert len(endpoint.texts()) - len(set(endpoint.texts())) <= 2 * BATCH * CONCURRENCY


def clean_rows(tmp_path: Path, folder: Path, endpoint: ScriptedEndpoint) -> object:
    """What a run that nothing disturbs stores, without latency and in another database."""
    with ScriptedEndpoint() as other, knowledge_base(tmp_path / "clean.db", **options(other)) as kb:
        kb.sync(folder)
    return rows(tmp_path / "clean.db")


def test_kill_in_the_middle_of_a_writing_sync(tmp_path: Path) -> None:
    """Without an endpoint the time goes into writing; the next run repairs what the kill left, also the index."""
    folder = write(tmp_path / "docs", {f"{n}.md": _book(n) for n in range(25)})
    uri, clean = tmp_path / "killed.db", tmp_path / "clean.db"
    with knowledge_base(clean) as kb:
        seconds = kb.sync(folder).seconds
    process = start(uri, folder, embedder="static")
    wait_until(uri.exists, process)
    time.sleep(0.6 * seconds)
    process.kill()
    process.communicate()
    with knowledge_base(uri) as killed, knowledge_base(clean) as undisturbed:
        killed.sync(folder)
        for mode in ("hybrid", "dense", "lexical"):
            found, expected = (kb.search("habits of bird 7", mode=mode) for kb in (killed, undisturbed))
            assert [hit.chunk.id for hit in found] == [hit.chunk.id for hit in expected], mode
            # A chunk that was stored twice counts twice in BM25's statistics, until the index merges its segments.
            scores = [hit.score for hit in expected]
            assert [hit.score for hit in found] == pytest.approx(scores, rel=1e-4 if mode == "dense" else 0.02), mode
    assert rows(uri) == rows(clean)


@pytest.mark.parametrize("name", JOBS)
def test_kill_of_every_job(tmp_path: Path, name: str) -> None:
    """What `python -m bench kills` does 75 times for each job."""
    with embedding() as endpoint:
        trials = Trials(name, tmp_path, endpoint, runs=1)
        for kill in kills(trials, seed=1, by_time=1, by_operation=2):
            trial = trials.kill(kill)
            assert trial.difference == "", (kill, trial)
            assert trial.again <= IN_FLIGHT, (kill, trial)


def test_kill_between_making_the_collection_and_naming_it(tmp_path: Path, folder: Path) -> None:
    """What such a kill leaves has no name: it is no collection, and the next sync makes it anew."""
    from citekite.store.milvus import MilvusStore
    from citekite.store.record import CollectionRecord

    uri = tmp_path / "killed.db"
    with MilvusStore(str(uri)) as store:
        store.create_generation("citekite", 1, CollectionRecord("static:other", 8, True, "other"))
    with knowledge_base(uri) as kb:
        assert kb.sync(folder).new == FILES
        assert kb.sync(folder).unchanged == FILES


def test_kill_while_milvus_lite_writes_an_index(tmp_path: Path, folder: Path) -> None:
    """It writes them in place, in the background; half an index would keep the collection closed for ever."""
    uri = tmp_path / "killed.db"
    with knowledge_base(uri) as kb:
        kb.sync(folder)
        expected = [hit.chunk.id for hit in kb.search("song 7")]
    indexes = [path for path in uri.rglob("indexes/*") if path.is_file()]
    assert indexes
    for index in indexes:
        index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    with knowledge_base(uri) as kb:
        assert [hit.chunk.id for hit in kb.search("song 7")] == expected
        assert kb.sync(folder).unchanged == FILES


def test_kill_while_milvus_lite_makes_a_collection(tmp_path: Path, folder: Path) -> None:
    """What such a kill leaves is a folder that it neither lists nor makes again, where a collection is to be."""
    uri = tmp_path / "killed.db"
    with knowledge_base(uri) as kb:
        kb.sync(folder)
        (uri / "collections" / "citekite__2").mkdir()
        assert kb.reindex() == kb.count()
        assert [path.name for path in (uri / "collections").iterdir()] == ["citekite__2"]


def test_kill_after_the_name_has_moved_to_the_reindexed_collection(
    tmp_path: Path, folder: Path, endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is embedded by then: the next reindex drops what is left of the old collection, and embeds nothing."""
    from citekite.store.milvus import MilvusStore

    def killed(store: MilvusStore, name: str, chosen: str) -> None:
        raise SystemExit

    endpoint.latency = 0
    uri = tmp_path / "killed.db"
    with knowledge_base(uri) as kb:
        kb.sync(folder)
    with knowledge_base(uri, **options(endpoint)) as kb:
        with monkeypatch.context() as patch:
            patch.setattr(MilvusStore, "_drop_others", killed)
            with pytest.raises(SystemExit):
                kb.reindex()
        sent = len(endpoint.texts())
        assert kb.reindex() == kb.count()
        assert len(endpoint.texts()) == sent
        assert [path.name for path in (uri / "collections").iterdir()] == ["citekite__2"]
        kb.reindex()
        assert len(endpoint.texts()) == 2 * sent, "asked for again, it is done again"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_keeps_what_is_in_flight_and_says_how_to_go_on(
    tmp_path: Path, folder: Path, endpoint: ScriptedEndpoint, number: signal.Signals
) -> None:
    endpoint.latency = 0.15
    uri = tmp_path / "stopped.db"
    process = start(uri, folder, **options(endpoint))
    wait_until(lambda: len(endpoint.requests("/embeddings")) >= 3, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    sent = endpoint.texts()
    assert len(sent) < 2 * FILES, "the interrupt came too late to tell anything"
    endpoint.latency = 0
    with knowledge_base(uri, **options(endpoint)) as kb:
        assert kb.count() == len(sent)
        assert kb.sync(folder).texts == len(set(endpoint.texts())) - len(sent)
    assert Counter(endpoint.texts()).most_common(1)[0][1] == 1, "nothing is paid for twice"


def _book(number: int) -> str:
    sections = (f"## Habit {habit}\n\nBird {number} has habit {habit} of {number * habit}.\n" for habit in range(20))
    return f"# Bird {number}\n\n" + "\n".join(sections)
