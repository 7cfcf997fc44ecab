"""Segments whose vectors are mapped from the file of their index: they answer as those of Milvus Lite itself do."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from citekite.store.segments import keep_segments_well
from stored import knowledge_base, write

ROWS = 30


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mapped")
    texts = {f"{number}.md": f"# Kite {number}\n\nIt nests {number} m high.\n" for number in range(ROWS)}
    with knowledge_base(folder / "kites.db") as kb:
        kb.sync(write(folder / "docs", texts))
    return folder / "kites.db"


@pytest.fixture
def indexes(tmp_path: Path) -> Path:
    return tmp_path / "indexes"


def loaded(uri: Path, *, original: bool = False) -> Any:
    from milvus_lite.storage.segment import Segment

    keep_segments_well()
    (file,) = uri.rglob("data_*.parquet")
    load = Segment.load.__wrapped__ if original else Segment.load  # type: ignore[attr-defined]
    return load(file_path=str(file), partition="_default", pk_field="id", vector_field="dense")


def indexed(segment: Any, folder: Path) -> Any:
    from milvus_lite.index.spec import IndexSpec

    segment.build_or_load_index(IndexSpec("dense", "FLAT", "IP", {}), str(folder))
    return segment


def assert_alike(segment: Any, original: Any) -> None:
    vectors, _ = original.vector_data("dense")
    assert len(vectors) == ROWS
    assert (segment.pks, segment.seqs.tolist()) == (original.pks, original.seqs.tolist())
    assert np.array_equal(segment.vector_data("dense")[0], vectors)
    assert [segment.row_to_dict(row) for row in range(ROWS)] == [
        type(original).row_to_dict.__wrapped__(original, row) for row in range(ROWS)
    ]
    if segment.indexes:
        ids, scores = segment.indexes["dense"].search(vectors[:3], 5)
        assert ids[:, 0].tolist() == [0, 1, 2]
        assert (np.sort(scores, axis=1) == scores).all()


def test_it_reads_alike_before_it_has_an_index_and_with_one_that_it_maps(uri: Path, indexes: Path) -> None:
    original = loaded(uri, original=True)
    segment = loaded(uri)
    assert_alike(segment, original)
    assert_alike(indexed(segment, indexes), original)
    again = indexed(loaded(uri), indexes)
    assert_alike(again, original)
    for mapped in (segment, again):
        assert "dense" not in mapped.table.schema.names
        assert isinstance(mapped.vector_data("dense")[0], np.memmap)
        assert mapped.vectors.size == 0, "a query would copy them"


@pytest.mark.parametrize(
    "damage",
    [lambda file: b"", lambda file: file[:-4], lambda file: b"x" + file[1:], lambda file: file[: 128 + 4 * 256]],
    ids=["empty", "cut", "foreign", "of fewer rows"],
)
def test_an_index_that_is_not_whole_is_made_anew(uri: Path, indexes: Path, damage: Callable[[bytes], bytes]) -> None:
    indexed(loaded(uri), indexes)
    (file,) = indexes.iterdir()
    whole = file.read_bytes()
    file.unlink()  # what is mapped stays as it was
    file.write_bytes(damage(whole))
    assert_alike(indexed(loaded(uri), indexes), loaded(uri, original=True))
    assert file.read_bytes() == whole


def test_a_disk_that_takes_no_file_leaves_it_in_memory(uri: Path, indexes: Path) -> None:
    indexes.write_text("no folder")
    assert_alike(indexed(loaded(uri), indexes), loaded(uri, original=True))


def test_a_full_disk_is_not_left_with_half_a_file(uri: Path, indexes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, matrix: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(np, "save", full)
    assert_alike(indexed(loaded(uri), indexes), loaded(uri, original=True))
    assert list(indexes.iterdir()) == []
