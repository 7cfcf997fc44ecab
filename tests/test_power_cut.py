"""A power cut keeps what a sync reported: on a disk that forgets all that was not written through to it."""

from __future__ import annotations

import io
import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.datastructures import UploadFile

from citekite.ingest.base import LoadOptions
from citekite.ingest.uploads import space_of
from citekite.serve.uploads import access_of, stage
from citekite.store.segments import keep_segments_well
from stored import knowledge_base, rows, write


class Forgetful:
    """What a disk holds after a power cut: the content of files as it was when it was last written through.

    Names in folders may be on the disk earlier than what they stand for (a file is empty then), or no earlier than the
    folder was written through: nothing may depend on either.
    """

    def __init__(self, root: Path) -> None:
        self.log: list[str] = []
        self.each_time: Callable[[], None] = lambda: None
        self._root = root
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, int]] = {}
        self._kept: list[int] = []  # descriptors, so that no number is given to another file
        self._fsync = os.fsync
        self._lock = threading.Lock()

    def fsync(self, descriptor: int) -> None:
        """What `os.fsync` does, and remember it."""
        self._fsync(descriptor)
        status = os.fstat(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        with self._lock:
            if status.st_ino not in self._files.keys() | self._folders.keys():
                self._kept.append(os.dup(descriptor))
            if stat.S_ISDIR(status.st_mode):
                self._folders[status.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
            else:
                self._files[status.st_ino] = path.read_bytes() if path.exists() else b""
            self.log.append(path.name)
        self.each_time()

    def restore(self, target: Path, *, names_first: bool = False) -> Path:
        """Write what the disk would hold now into a folder that is not there yet."""
        with self._lock:
            if names_first:
                for path in sorted(self._root.rglob("*")):
                    copy = target / path.relative_to(self._root)
                    if path.is_dir():
                        copy.mkdir(parents=True)
                    else:
                        with suppress(FileNotFoundError):  # another thread has taken it away
                            copy.write_bytes(self._files.get(path.stat().st_ino, b""))
            else:
                self._write(self._root.stat().st_ino, target)
        return target

    def close(self) -> None:
        for descriptor in self._kept:
            os.close(descriptor)

    def _write(self, inode: int, target: Path) -> None:
        target.mkdir(parents=True)
        for name, entry in self._folders.get(inode, {}).items():
            if entry in self._folders:
                self._write(entry, target / name)
            else:
                (target / name).write_bytes(self._files.get(entry, b""))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forgetful]:
    root = tmp_path / "disk"
    root.mkdir()
    disk = Forgetful(root)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    yield disk
    disk.close()


def birds(version: int, numbers: range) -> dict[str, str]:
    return {f"{n}.md": f"# Bird {n}\n\n## Song\n\nSong {n}.\n\n## Nest\n\nNest {version} of {n}.\n" for n in numbers}


def without_index(folder: Path) -> Path:
    """The database of a restored folder, its derived index left out: that one's writer is not seen here."""
    for path in folder.iterdir():
        if path.name != "birds.db":
            path.rename(path.with_name(f"{path.name}.aside"))
    return folder / "birds.db"


def test_what_a_sync_reported_outlives_a_power_cut(tmp_path: Path, disk: Forgetful) -> None:
    docs = write(tmp_path / "docs", birds(1, range(6)))
    uri = tmp_path / "disk" / "birds.db"
    with knowledge_base(uri) as kb:
        for version in (1, 2):
            write(docs, birds(version, range(3)))
            kb.sync(docs)
            restored = without_index(disk.restore(tmp_path / f"cut-{version}"))
            with knowledge_base(restored) as cut:
                assert cut.count() == kb.count()
                assert cut.sync(docs).unchanged == 6
                assert [hit.chunk.id for hit in cut.search("nest of 2")] == [h.chunk.id for h in kb.search("nest of 2")]
        kb.remove(docs / "5.md")
        restored = without_index(disk.restore(tmp_path / "cut-removed"))
    assert rows(restored) == rows(uri)


@pytest.mark.parametrize("names_first", [True, False])
def test_a_power_cut_in_the_middle_of_a_sync_loses_nothing_from_before(
    tmp_path: Path, disk: Forgetful, names_first: bool
) -> None:
    """Whatever the database says that it has is on the disk by then, else none of its collections could be opened."""
    docs = write(tmp_path / "docs", birds(1, range(6)))
    uri = tmp_path / "disk" / "birds.db"
    cuts: list[Path] = []
    with knowledge_base(uri) as kb:
        kb.sync(docs)
        before = kb.count()
        write(docs, birds(2, range(3, 9)))
        number = itertools.count()
        disk.each_time = lambda: cuts.append(
            disk.restore(tmp_path / "cuts" / str(next(number)), names_first=names_first)
        )
        kb.sync(docs)
        disk.each_time = lambda: None
    assert len(cuts) > 10
    for cut in cuts[::3]:
        with knowledge_base(without_index(cut)) as kb:
            assert kb.count() >= before
    middle = cuts[len(cuts) // 6 * 3] / "birds.db"
    with knowledge_base(middle) as kb:
        kb.sync(docs)
    assert rows(middle) == rows(uri)


def test_a_reindex_keeps_one_of_the_two_generations(tmp_path: Path, disk: Forgetful) -> None:
    docs = write(tmp_path / "docs", birds(1, range(3)))
    uri = tmp_path / "disk" / "birds.db"
    cuts: list[Path] = []
    with knowledge_base(uri) as kb:
        kb.sync(docs)
        number = itertools.count()
        disk.each_time = lambda: cuts.append(disk.restore(tmp_path / "cuts" / str(next(number))))
        kb.reindex()
        count = kb.count()
    for cut in cuts[::4]:
        with knowledge_base(without_index(cut)) as kb:
            assert kb.count() == count


def test_the_index_is_on_the_disk_before_its_stamp(tmp_path: Path, disk: Forgetful) -> None:
    """Else a power cut could leave an index that is damaged and says that it is whole."""
    docs = write(tmp_path / "docs", birds(1, range(3)))
    uri = tmp_path / "disk" / "birds.db"
    stamped: list[bool] = []
    disk.each_time = lambda: stamped.append(any((tmp_path / "disk").rglob("version.json")))
    with knowledge_base(uri) as kb:
        kb.sync(docs)
    for name in ("vectors.bin", "ids.bin", "lists.bin", "dead.npy.new", "vectors.json.new"):
        assert not stamped[disk.log.index(name)], name


def test_uploads_in_place_are_on_the_disk_with_their_access_list(tmp_path: Path, disk: Forgetful) -> None:
    uploads = tmp_path / "disk" / "uploads" / "citekite"
    uploads.parent.mkdir()
    disk_of_root = os.open(tmp_path / "disk", os.O_RDONLY)
    os.fsync(disk_of_root)  # the server's folder was there before
    os.close(disk_of_root)
    file = UploadFile(io.BytesIO(b"# Kite\n\nForked.\n"), filename="kite.md", size=17)
    stage([file], uploads, ("staff",), LoadOptions()).place()
    restored = disk.restore(tmp_path / "cut") / "uploads" / "citekite"
    space = space_of(["staff"])
    assert (restored / space / "kite.md").read_text() == "# Kite\n\nForked.\n"
    assert access_of(space, restored) == ("staff",)


def test_milvus_lite_writes_segments_where_they_are_made_to_last() -> None:
    """The names that are replaced are those that it uses; twice makes no difference."""
    from milvus_lite.engine import compaction, flush

    keep_segments_well()
    first = flush.write_data_file, flush.write_delta_file, compaction.write_data_file
    keep_segments_well()
    assert (flush.write_data_file, flush.write_delta_file, compaction.write_data_file) == first
    assert all(write.__wrapped__.__module__.startswith("milvus_lite.storage") for write in first)
