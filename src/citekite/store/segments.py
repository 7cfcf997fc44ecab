"""How Milvus Lite writes and reads segments, with what citekite changes of it.

Written through to the disk: Milvus Lite 3.2 does that with its manifest, but not with the segments that it names, so
that a power cut within half a minute could leave a manifest that names empty files, and no collection of the database
would open.

By columns: for a flush it makes a Python object of every number of every vector, 8 KB a row of 256 dimensions. Arrow
takes the same rows from the same columns as they are, in a twentieth of the time.

Not read back: it then reads what it has just written, which takes three times the memory of the rows.

Without their vectors in memory: `mapped_vectors`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from citekite.store.durable import sync
from citekite.store.mapped_vectors import adding_vector, load_segment, mapping_index, reading_vectors

_guard = threading.Lock()


def keep_segments_well() -> None:
    """Change how Milvus Lite writes and reads segments; once for the process."""
    from milvus_lite.engine import compaction, flush
    from milvus_lite.storage.memtable import MemTable
    from milvus_lite.storage.segment import Segment

    written = _Written()
    with _guard:
        _wrap(flush, "write_data_file", lambda write: written.keeping(_synced(write)))
        _wrap(flush, "write_delta_file", _synced)
        _wrap(compaction, "write_data_file", _synced)
        _wrap(Segment, "load", written.loading)
        _wrap(Segment, "vector_data", reading_vectors)
        _wrap(Segment, "build_or_load_index", mapping_index)
        _wrap(Segment, "row_to_dict", adding_vector)
        _wrap(MemTable, "_build_data_table", lambda original: _data_table)


def _wrap(owner: Any, name: str, wrapping: Callable[[Any], Callable[..., Any]]) -> None:
    original = getattr(owner, name)
    if not hasattr(original, "__wrapped__"):
        setattr(owner, name, wraps(original)(wrapping(original)))


def _synced(write: Callable[..., str]) -> Callable[..., str]:
    """A function that writes a file of a partition, with the file and its folder on the disk when it returns."""

    def write_through(table: Any, partition: str, *arguments: Any, **named: Any) -> str:
        written = write(table, partition, *arguments, **named)
        file = Path(partition, written)
        sync(file)
        sync(file.parent)
        sync(Path(partition))
        return written

    return write_through


class _Written:
    """The last segment that was flushed, for the one that loads it."""

    def __init__(self) -> None:
        self._last: tuple[Path, Any] | None = None

    def keeping(self, write: Callable[..., str]) -> Callable[..., str]:
        def write_and_keep(table: Any, partition: str, *arguments: Any, **named: Any) -> str:
            written = write(table, partition, *arguments, **named)
            self._last = (Path(partition, written), table)
            return written

        return write_and_keep

    def loading(self, _: Callable[..., Any]) -> Callable[..., Any]:
        """`Segment.load`, of the rows that have just been written, or of those in the file."""

        def load(file_path: str, partition: str, pk_field: str, vector_field: str | None) -> Any:
            last, self._last = self._last, None
            table = last[1] if last is not None and last[0] == Path(file_path) else None
            return load_segment(file_path, partition, pk_field, vector_field, table)

        return load


def _data_table(memtable: Any, rows: Sequence[tuple[int, int]]) -> Any:
    """The rows, each the number of a batch and of a row in it, as a table of the memtable's schema."""
    import pyarrow as pa

    batches, schema = memtable._insert_batches, memtable._data_schema
    starts = [0, *accumulate(batch.num_rows for batch in batches)]
    numbers = np.fromiter((starts[batch] + row for batch, row in rows), dtype=np.int64, count=len(rows))
    columns = [pa.chunked_array([batch.column(field.name) for batch in batches], field.type) for field in schema]
    # Where no row was replaced or deleted, as in a first sync, the rows are those of the batches: nothing is copied.
    if len(numbers) < starts[-1] or (np.diff(numbers) != 1).any():
        places = pa.array(numbers)
        columns = [column.take(places).combine_chunks() for column in columns]
    return pa.Table.from_arrays(columns, schema=schema)
