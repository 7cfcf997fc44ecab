"""Sync: what each kind of change costs, and that the collection ends equal to the sources."""

from __future__ import annotations

import threading
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from citekite.errors import EndpointUnavailable, SourceError
from citekite.ingest.pipeline import THREAD
from citekite.reports import Progress, SyncPlan, SyncReport
from scripted_endpoint import Fault, ScriptedEndpoint
from stored import BIRDS, knowledge_base, rows, version, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "docs", BIRDS)


@pytest.fixture
def uri(tmp_path: Path) -> Path:
    return tmp_path / "birds.db"


def sync(uri: Path, *sources: Path, prune: bool = False) -> SyncReport:
    with knowledge_base(uri) as kb:
        return kb.sync(*sources, prune=prune)


def plan(uri: Path, *sources: Path, prune: bool = False) -> SyncPlan:
    with knowledge_base(uri) as kb:
        return kb.plan(*sources, prune=prune)


def test_second_sync_embeds_and_writes_nothing(folder: Path, uri: Path) -> None:
    first = sync(uri, folder)
    before, stored = version(uri), rows(uri)
    second = sync(uri, folder)
    assert (first.new, first.texts, first.added) == (3, len(stored), len(stored))
    assert (second.new, second.changed, second.unchanged, second.texts) == (0, 0, 3, 0)
    assert (second.added, second.updated, second.deleted) == (0, 0, 0)
    assert version(uri) == before


def test_edit_of_one_section_embeds_only_that_section(folder: Path, uri: Path) -> None:
    sync(uri, folder)
    before = rows(uri)
    write(folder, {"kites.md": BIRDS["kites.md"].replace("migrates", "winters in Africa")})
    report = sync(uri, folder)
    after = rows(uri)
    assert (report.changed, report.unchanged, report.texts, report.added, report.deleted) == (1, 2, 1, 1, 1)
    (new,) = after.keys() - before.keys()
    assert after[new]["chunk"].text == "## Black kite\n\nThe black kite winters in Africa."


def test_moved_section_keeps_its_vector_and_gets_its_new_place(folder: Path, uri: Path) -> None:
    sync(uri, folder)
    before = rows(uri)
    moved = "# Kites\n\n## Black kite\n\nThe black kite migrates.\n\n## Red kite\n\nThe red kite has a forked tail.\n"
    write(folder, {"kites.md": moved})
    report = sync(uri, folder)
    after = rows(uri)
    assert (report.texts, report.added, report.deleted) == (0, 0, 0)
    assert after.keys() == before.keys()
    for id, row in after.items():
        chunk = row["chunk"]
        assert row["vector"] == before[id]["vector"]
        if chunk.source.endswith("kites.md"):
            assert moved[chunk.start : chunk.end] == chunk.text
            assert moved.count("\n", 0, chunk.start) + 1 == chunk.line


def test_renamed_file_embeds_nothing(folder: Path, uri: Path) -> None:
    sync(uri, folder)
    (folder / "owls.md").rename(folder / "strigiformes.md")
    report = sync(uri, folder, prune=True)
    assert (report.new, report.pruned, report.texts) == (1, 1, 0)
    assert {Path(row["chunk"].source).name for row in rows(uri).values()} == {
        "kites.md",
        "strigiformes.md",
        "eagles.md",
    }


def test_same_content_twice_is_embedded_once_and_stored_twice(folder: Path, uri: Path) -> None:
    write(folder, {"copy/kites.md": BIRDS["kites.md"], "copy/again.md": BIRDS["kites.md"]})
    report = sync(uri, folder)
    stored = rows(uri)
    texts = {row["chunk"].indexed_text for row in stored.values()}
    assert report.texts == len(texts) < len(stored)
    assert sync(uri, folder).unchanged == 5
    (folder / "copy" / "again.md").unlink()
    sync(uri, folder, prune=True)
    assert {Path(row["chunk"].source).parent.name for row in rows(uri).values()} == {"docs", "copy", "deep"}


def test_same_section_twice_in_one_file_is_kept_twice(tmp_path: Path, uri: Path) -> None:
    text = "# Log\n\n## Entry\n\nNothing seen.\n\n## Entry\n\nNothing seen.\n"
    folder = write(tmp_path / "docs", {"log.md": text})
    report = sync(uri, folder)
    entries = [row["chunk"] for row in rows(uri).values() if "Nothing" in row["chunk"].text]
    assert len({entry.start for entry in entries}) == 2
    assert report.added == len(rows(uri))
    assert sync(uri, folder).unchanged == 1


def test_what_left_the_source_goes_only_with_prune(folder: Path, uri: Path) -> None:
    sync(uri, folder)
    everything = rows(uri)
    (folder / "owls.md").unlink()
    kept = sync(uri, folder)
    assert (kept.pruned, kept.deleted) == (0, 0)
    assert rows(uri) == everything
    pruned = sync(uri, folder, prune=True)
    assert pruned.pruned == 1
    assert rows(uri) == {id: row for id, row in everything.items() if "owls" not in row["chunk"].source}


def test_prune_leaves_other_sources_alone(folder: Path, uri: Path, tmp_path: Path) -> None:
    """Also one whose path only begins alike."""
    beside = write(tmp_path / "docs-old", {"swifts.md": "# Swifts\n\nSwifts sleep on the wing.\n"})
    sync(uri, folder, beside)
    report = sync(uri, folder / "deep", prune=True)
    assert (report.pruned, report.deleted) == (0, 0)
    (folder / "owls.md").unlink()
    assert sync(uri, folder, prune=True).pruned == 1
    assert any("swifts" in row["chunk"].source for row in rows(uri).values())


def test_failing_file_is_named_and_what_was_stored_of_it_is_kept(folder: Path, uri: Path) -> None:
    sync(uri, folder)
    before = rows(uri)
    (folder / "owls.md").write_bytes(b"\x00\x01\x02\xff" * 100)
    write(folder, {"terns.md": "# Terns\n\nThe arctic tern flies farthest.\n"})
    report = sync(uri, folder, prune=True)
    assert [Path(failure.source).name for failure in report.failures] == ["owls.md"]
    assert report.failures[0].reason
    assert (report.new, report.deleted) == (1, 0)
    assert before.items() <= rows(uri).items()


def test_row_that_left_its_table_goes(tmp_path: Path, uri: Path) -> None:
    """The table is there, so the row is known to be gone; a table that is gone waits for prune."""
    table = tmp_path / "birds.csv"
    table.write_text("id,text\nkite,The kite soars.\nowl,The owl hunts.\nwren,The wren sings.\n", encoding="utf-8")
    assert sync(uri, table).new == 3
    table.write_text("id,text\nkite,The kite soars.\nwren,The wren sings.\n", encoding="utf-8")
    report = sync(uri, table)
    assert (report.deleted, report.unchanged, report.texts) == (1, 2, 0)
    assert sorted(row["chunk"].text for row in rows(uri).values()) == ["The kite soars.", "The wren sings."]


def test_archive_members_follow_the_archive(tmp_path: Path, uri: Path) -> None:
    archive = tmp_path / "birds.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name, text in BIRDS.items():
            zipped.writestr(name, text)
    assert sync(uri, archive).new == 3
    assert sync(uri, archive).texts == 0
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("owls.md", BIRDS["owls.md"])
    report = sync(uri, archive, prune=True)
    assert (report.pruned, report.texts) == (2, 0)
    assert {row["chunk"].title for row in rows(uri).values()} == {"Owls"}


def test_changed_splitter_counts_every_document_as_changed(folder: Path, uri: Path) -> None:
    sync(uri, folder)
    with knowledge_base(uri, splitter="separator") as kb:
        report = kb.sync(folder)
        assert report.changed == 3
        assert "separator" in kb.status().splitter
        assert kb.sync(folder).unchanged == 3
    assert all(not row["chunk"].headings for row in rows(uri).values())


def test_plan_creates_no_database(folder: Path, uri: Path) -> None:
    planned = plan(uri, folder)
    assert (planned.new, planned.failures) == (3, ())
    assert planned.tokens > 0
    assert sorted(path.name for path in uri.parent.iterdir()) == ["docs"]


def test_plan_has_a_cost_where_the_price_is_set(folder: Path, uri: Path) -> None:
    with knowledge_base(uri, embedding_price=2.0) as kb:
        planned = kb.plan(folder)
    assert planned.cost == pytest.approx(planned.tokens * 2.0 / 1e6)
    assert plan(uri, folder).cost is None


SECTION = st.sampled_from([f"## {name}\n\nAbout {name}.\n" for name in ("one", "two", "three", "four")])
TREE = st.dictionaries(
    st.sampled_from(["a.md", "b.md", "c.md", "sub/a.md"]),
    st.lists(SECTION, min_size=1, max_size=4).map("\n".join),
    min_size=1,
)


@settings(
    max_examples=3,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(TREE, TREE)
def test_any_two_states_in_turn_end_as_the_second_alone_and_as_planned(
    tmp_path_factory: pytest.TempPathFactory, first: dict[str, str], second: dict[str, str]
) -> None:
    """The collection is a function of the sources; a plan is what the sync then does."""
    base = tmp_path_factory.mktemp("states")
    folder, uri = base / "docs", base / "turn.db"
    for tree in (first, second):
        for path in folder.rglob("*.md"):
            path.unlink()
        write(folder, tree)
        with knowledge_base(uri) as kb:
            assert _common(kb.plan(folder, prune=True)) == _common(kb.sync(folder, prune=True))
    sync(base / "clean.db", folder)
    assert rows(uri) == rows(base / "clean.db")


def test_final_failure_of_the_endpoint_keeps_what_was_embedded(tmp_path: Path, uri: Path) -> None:
    """The next run embeds only the rest."""
    folder = write(tmp_path / "docs", {f"{n}.md": f"# Bird {n}\n\nBird number {n} sings.\n" for n in range(12)})
    with ScriptedEndpoint() as endpoint:
        values = {"embedder": "api", "base_url": endpoint.base_url, "embedding_model": "m", "api_key": "k"}
        values |= {"concurrency": 1, "batch_size": 3, "retry_seconds": 0}
        endpoint.script("/embeddings", Fault(kind="slow"), Fault(kind="slow"), Fault(503))
        with knowledge_base(uri, **values) as kb:
            with pytest.raises(EndpointUnavailable):
                kb.sync(folder)
            assert kb.count() == 6
            report = kb.sync(folder)
            assert (report.texts, kb.count()) == (6, 12)
            assert kb.sync(folder).unchanged == 12


def test_text_that_the_endpoint_refuses_fails_its_document_alone(folder: Path, uri: Path) -> None:
    with ScriptedEndpoint(refused_text="forked tail") as endpoint:
        values = {"embedder": "api", "base_url": endpoint.base_url, "embedding_model": "m", "api_key": "k"}
        with knowledge_base(uri, **values) as kb:
            report = kb.sync(folder)
            assert {Path(failure.source).name for failure in report.failures} == {"kites.md"}
            assert {Path(document.source).name for document in kb.documents()} >= {"owls.md", "eagles.md"}
            endpoint.refused_text = ""
            again = kb.sync(folder)
    assert (again.texts, again.failures, again.unchanged) == (1, (), 2)


def test_equal_texts_are_embedded_once_however_far_apart(tmp_path: Path, uri: Path) -> None:
    """Also when the first of them is still on the way; all of them fail where it is refused."""
    song, nest = "# Song\n\nThe same song.\n", "# Nest\n\nThe same nest.\n"
    files = {f"{n:02}.md": (song, nest, f"# Bird {n}\n\nBird {n}.\n")[n % 3] for n in range(30)}
    folder = write(tmp_path / "docs", files)
    with ScriptedEndpoint(latency=0.02, refused_text="same nest") as endpoint:
        values = {"embedder": "api", "base_url": endpoint.base_url, "embedding_model": "m", "api_key": "k"}
        values |= {"concurrency": 2, "batch_size": 1}
        with knowledge_base(uri, **values) as kb:
            planned, report = kb.plan(folder), kb.sync(folder)
            assert (planned.texts, report.texts) == (12, 11)
            assert len(endpoint.texts()) == len(set(endpoint.texts())) == 12
            assert {Path(one.source).name for one in report.failures} == {n for n in files if files[n] == nest}
            assert kb.count() == 20
            endpoint.refused_text = ""
            again = kb.sync(folder)
            assert (again.texts, again.unchanged, kb.count()) == (1, 20, 30)
    assert len({row["vector"] for row in rows(uri).values() if "song" in row["chunk"].text}) == 1


def test_a_source_that_cannot_be_read_is_found_before_anything_is_read(tmp_path: Path, folder: Path, uri: Path) -> None:
    with knowledge_base(uri) as kb, pytest.raises(SourceError, match="no file or folder"):
        kb.sync(folder, tmp_path / "missing")
    assert not uri.exists()


@pytest.mark.parametrize("ending", ["done", "failed", "stopped"])
def test_no_stage_is_left_behind(folder: Path, uri: Path, ending: str) -> None:
    read = threading.Event()

    def report(progress: Progress) -> None:
        read.set()
        if ending == "failed":
            raise ZeroDivisionError

    expected = {"failed": ZeroDivisionError, "stopped": KeyboardInterrupt}
    with (
        knowledge_base(uri) as kb,
        pytest.raises(expected[ending]) if ending in expected else nullcontext(),
    ):
        kb.sync(folder, report=report, stopped=lambda: ending == "stopped" and read.is_set())
    deadline = time.monotonic() + 10
    while any(thread.name == THREAD for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _common(result: SyncPlan | SyncReport) -> tuple[int, ...]:
    add, update, keep, delete = (
        (result.add, result.update, result.keep, result.delete)
        if isinstance(result, SyncPlan)
        else (result.added, result.updated, result.kept, result.deleted)
    )
    return result.new, result.changed, result.unchanged, result.pruned, add, update, keep, delete, result.texts
