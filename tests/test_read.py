"""Reading one file: each document's outcome, the same in any process."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from citekite.access import Grant
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.plan import Change
from citekite.ingest.read import Failed, Outcome, Reading, Remark, Unchanged, read_file
from citekite.ingest.sources import find_files
from citekite.ingest.split import SectionSplitter
from citekite.store.collection import DocumentState

READING = Reading(SectionSplitter(), LoadOptions(), Grant(), {})


def outcomes(source: Path, reading: Reading = READING) -> list[Outcome]:
    """What becomes of each document of the files of a source, read by values that went through a pickle."""
    files = [file for file in find_files(str(source), reading.options) if isinstance(file, SourceFile)]
    here = [outcome for file in files for outcome in read_file(file, reading)]
    there, reading = pickle.loads(pickle.dumps((files, reading)))
    elsewhere = [outcome for file in there for outcome in read_file(file, reading)]
    assert pickle.loads(pickle.dumps(elsewhere)) == here
    return here


def stored(*read: Outcome) -> Mapping[str, DocumentState]:
    """What the store holds when these changes are written."""
    return {
        change.document.source: DocumentState(
            {entry.chunk.id: entry.digest for entry in change.entries},
            len(change.entries),
            {entry.chunk.access for entry in change.entries},
        )
        for change in read
        if isinstance(change, Change)
    }


def test_a_new_file_is_a_change_and_once_stored_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "kites.md"
    path.write_text("# Red\n\nForked.\n\n# Black\n\nMigrates.\n")
    [new] = outcomes(path)
    assert isinstance(new, Change)
    assert (new.is_new, len(new.entries), new.added, new.keep, new.stale) == (True, 2, 2, 0, ())
    reading = replace(READING, stored=stored(new))
    assert outcomes(path, reading) == [Unchanged(str(path), 2)]
    path.write_text(path.read_text().replace("Migrates", "Winters in Africa"))
    [changed] = outcomes(path, reading)
    assert isinstance(changed, Change)
    # Every row gets the new digest; the one that says the same keeps its id.
    assert (changed.is_new, len(changed.entries), changed.added) == (False, 2, 1)
    assert changed.stale == (new.entries[1].chunk.id,)


def test_a_document_cut_short_lacks_only_what_is_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "kites.md"
    path.write_text("# Red\n\nForked.\n\n# Black\n\nMigrates.\n")
    [new] = outcomes(path)
    assert isinstance(new, Change)
    state = DocumentState({new.entries[0].chunk.id: new.entries[0].digest}, 2, {()})
    [rest] = outcomes(path, replace(READING, stored={str(path): state}))
    assert isinstance(rest, Change)
    assert (rest.entries, rest.keep, rest.added, rest.stale) == (new.entries[1:], 1, 1, ())


def test_failures_and_remarks_are_outcomes(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes("# Müller\n\nSchön.\n".encode("latin-1"))
    (tmp_path / "b.jsonl").write_text('{"id": "x", "text": "One."}\n{broken\n')
    (tmp_path / "c.md").write_text("")
    table = str(tmp_path / "b.jsonl")
    change, remark, row, broken, empty = outcomes(tmp_path)
    assert isinstance(change, Change)
    assert isinstance(remark, Remark)
    assert "latin-1" in remark.text.lower() or "windows-1252" in remark.text.lower()
    assert isinstance(row, Change)
    assert row.document.source == f"{table}#x"
    assert isinstance(broken, Failed)
    assert (broken.source, broken.unnamed) == (f"{table}#2", True)
    assert empty == Failed(str(tmp_path / "c.md"), "it is empty")


def test_a_document_of_others_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "pay.md"
    path.write_text("# Pay\n\nSecret.\n")
    theirs = {str(path): DocumentState({"a-b-0": "digest"}, 1, {("hr",)})}
    [refused] = outcomes(path, replace(READING, stored=theirs, grant=Grant(groups=frozenset({"legal"}))))
    assert isinstance(refused, Failed)
    assert "hr" not in refused.reason


def test_members_of_an_archive_and_uploads_can_be_read_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    with zipfile.ZipFile(tmp_path / "shared" / "birds.zip", "w") as archive:
        archive.writestr("kites.md", "# Kites\n\nThe kite soars.\n")
        archive.writestr("owls.md", "# Owls\n\nThe owl hunts.\n")
    reading = replace(READING, options=LoadOptions(uploads=tmp_path))
    changes = [
        outcome
        for file in find_files("upload://shared", reading.options)
        if isinstance(file, SourceFile)
        for outcome in read_file(pickle.loads(pickle.dumps(file)), pickle.loads(pickle.dumps(reading)))
    ]
    sources = [change.document.source for change in changes if isinstance(change, Change)]
    assert sources == ["upload://shared/birds.zip!/kites.md", "upload://shared/birds.zip!/owls.md"]
    assert len(outcomes(tmp_path / "shared")) == 2


@pytest.mark.parametrize("name", ["a.md", "a.pdf"])
def test_a_file_that_left_meanwhile_is_a_failure(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text")
    [file] = find_files(str(tmp_path / name), READING.options)
    assert isinstance(file, SourceFile)
    (tmp_path / name).unlink()
    [failed] = read_file(file, READING)
    assert failed == Failed(str(tmp_path / name), "it cannot be read: No such file or directory")
