"""What citekite changes of how Milvus Lite writes segments: the same rows, from less memory, made to last."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from citekite import KnowledgeBase
from citekite.store.segments import keep_segments_well
from stored import knowledge_base, write

IDS = st.sampled_from([f"id{number}" for number in range(8)])
CHANGES = st.lists(st.tuples(st.sampled_from(["insert", "delete"]), st.lists(IDS, min_size=1, max_size=6)), max_size=8)


def memtable(changes: list[tuple[str, list[str]]], dimension: int = 3) -> Any:
    """A memtable of Milvus Lite with these changes, one after the other."""
    from milvus_lite.schema.arrow_builder import build_wal_data_schema
    from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema
    from milvus_lite.storage.memtable import MemTable

    keep_segments_well()
    fields = [
        FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=64),
        FieldSchema("text", DataType.VARCHAR, max_length=64, nullable=True),
        FieldSchema("dense", DataType.FLOAT_VECTOR, dim=dimension),
    ]
    schema = CollectionSchema(fields)
    table = MemTable(schema)
    sequence = 0
    for kind, ids in changes:
        numbers = list(range(sequence, sequence + len(ids)))
        sequence += len(ids)
        columns: dict[str, Any] = {"_seq": pa.array(numbers, pa.uint64()), "_partition": ["_default"] * len(ids)}
        columns |= {"id": ids}
        if kind == "insert":
            columns["text"] = [f"text {number}" if number % 3 else None for number in numbers]
            columns["dense"] = list(
                np.arange(len(ids) * dimension, dtype=np.float32).reshape(-1, dimension) + numbers[0]
            )
            table.apply_insert(pa.RecordBatch.from_pydict(columns, schema=build_wal_data_schema(schema)))
        else:
            columns["_seq"] = pa.array([numbers[-1]] * len(ids), pa.uint64())
            table.apply_delete(pa.RecordBatch.from_pydict(columns))
    return table


@given(changes=CHANGES)
def test_the_rows_of_a_segment_are_those_that_milvus_lite_itself_would_write(
    changes: list[tuple[str, list[str]]],
) -> None:
    table = memtable(changes)
    rows = [(batch, row) for batch, row, _ in table._pk_index.values()]
    if not rows:
        return
    original = type(table)._build_data_table.__wrapped__(table, rows)
    built = table._build_data_table(rows)
    assert built.schema == original.schema
    assert built.equals(original)


def test_a_flush_makes_no_object_of_every_number() -> None:
    rows, dimension = 4_000, 256
    table = memtable([("insert", [f"{part}-{row}" for row in range(500)]) for part in range(rows // 500)], dimension)
    tracemalloc.start()
    try:
        flushed, _ = table.flush(["_default"])["_default"]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert flushed.num_rows == rows
    assert most < rows * 1_000, "8 bytes for the reference to each number alone would be twice as much"


def test_who_began_to_read_before_a_flush_goes_on_reading() -> None:
    table = memtable([("insert", ["a", "b"]), ("insert", ["b", "c"]), ("delete", ["a"])])
    ids, _, _, places, _ = table.to_search_snapshot(vector_field="dense", partition_names=None, include_table=False)
    before = [table.materialize_row(*place) for place in places]
    table.flush(["_default"])
    assert [table.materialize_row(*place) for place in places] == before
    assert sorted(ids) == ["b", "c"]


def test_what_was_flushed_reads_alike_before_and_after_the_database_is_opened_anew(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", {f"{number}.md": f"# Kite {number}\n\nText {number}.\n" for number in range(40)})
    uri = tmp_path / "kites.db"
    with knowledge_base(uri) as kb:
        kb.sync(folder)
        write(folder, {"3.md": "# Kite 3\n\nAnother text.\n"})
        kb.sync(folder)
        assert len(list(uri.rglob("data_*.parquet"))) == 2
        before = contents(kb)
    with knowledge_base(uri) as kb:
        after = contents(kb)
    assert len(before) == 40
    assert before == after


def contents(kb: KnowledgeBase) -> dict[str, tuple[object, list[float]]]:
    """Every chunk with its vector, as Milvus Lite gives them."""
    collection = kb.collection()
    entries = {entry.chunk.id: entry for entry in collection.entries()}
    vectors = collection.vectors(list(entries))
    return {id: (entry, vectors[id].tolist()) for id, entry in entries.items()}
