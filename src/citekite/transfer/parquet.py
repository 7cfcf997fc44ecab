"""A collection as one Parquet file, vectors included: its columns, and writing it.

Version 1 has the columns of `arrow_schema`, and under `citekite.export` in the schema's metadata a JSON object with
`format`, the version; `record`, what the collection says about itself; `collection`, its name; and `citekite`, the
version that wrote it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from citekite import __version__
from citekite.errors import StoreError
from citekite.ports import Reporter
from citekite.reports import FileReport, Progress
from citekite.transfer.origin import Stored, StoredOrigin
from citekite.transfer.placing import placed

KEY = b"citekite.export"
FORMAT = 1
# What is held in memory at once: vectors of so many bytes, and at most so many rows.
_GROUP_BYTES = 32_000_000
_GROUP_ROWS = 8_192


def arrow_schema(dimension: int) -> Any:
    """The columns of an export of vectors of that length; all but `page` always have a value."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    columns = {
        "id": text,
        "source": text,
        "title": text,
        "ordinal": number,
        "start": number,
        "end": number,
        "line": number,
        "page": number,
        "text": text,
        "headings": pa.list_(text),
        "metadata": text,
        "context": text,
        "access": pa.list_(text),
        "digest": text,
        "chunks": number,
        "vector": pa.list_(pa.float32(), dimension),
    }
    return pa.schema([pa.field(name, kind, nullable=name == "page") for name, kind in columns.items()])


def export(origin: StoredOrigin, collection: str, target: Path, *, replacing: bool, report: Reporter) -> FileReport:
    """Write all chunks of a collection to a Parquet file, which is there when it is complete.

    Raises `SettingsError` where the file exists and is not to be replaced, and `StoreError` where the collection
    changed meanwhile.
    """
    import pyarrow.parquet as pq

    started = time.monotonic()
    facts = {
        "format": FORMAT,
        "record": asdict(origin.record),
        "collection": collection,
        "citekite": __version__,
    }
    schema = arrow_schema(origin.record.dimension).with_metadata({KEY: json.dumps(facts)})
    group = max(1, min(_GROUP_ROWS, _GROUP_BYTES // (4 * origin.record.dimension)))
    done = 0
    with placed(target, replacing=replacing) as part:
        with pq.ParquetWriter(part, schema, compression="zstd", write_page_checksum=True) as writer:
            waiting: list[Stored] = []
            for batch in origin.batches():
                waiting += batch
                if len(waiting) >= group:
                    writer.write_table(_table(waiting, schema))
                    waiting = []
                done += len(batch)
                report(Progress("exporting", done, origin.chunks, "chunks"))
            if waiting:
                writer.write_table(_table(waiting, schema))
        if done != origin.chunks or not origin.is_unchanged():
            raise StoreError(f"{origin.name} was changed while it was exported: run the same command again")
        size = part.stat().st_size
    return FileReport(str(target), done, size, time.monotonic() - started)


def _table(rows: Sequence[Stored], schema: Any) -> Any:
    import pyarrow as pa

    chunks = [entry.chunk for entry, _ in rows]
    values: dict[str, Any] = {
        "metadata": [json.dumps(dict(chunk.metadata), ensure_ascii=False) for chunk in chunks],
        "digest": [entry.digest for entry, _ in rows],
        "chunks": [entry.chunks for entry, _ in rows],
    }
    columns = []
    for field in schema:
        if field.name == "vector":
            numbers = pa.array(np.concatenate([vector for _, vector in rows]), pa.float32())
            columns.append(pa.FixedSizeListArray.from_arrays(numbers, field.type.list_size))
        else:
            found = values[field.name] if field.name in values else [getattr(chunk, field.name) for chunk in chunks]
            columns.append(pa.array(found, field.type))
    return pa.Table.from_arrays(columns, schema=schema)
