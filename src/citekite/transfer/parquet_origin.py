"""Reading an exported collection: every value is checked before any of it is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from citekite.access import access_list
from citekite.errors import ArchiveError, CitekiteError
from citekite.ports import Vectors
from citekite.store import schema as store_schema
from citekite.store.record import CollectionRecord
from citekite.store.rows import GET_ROWS, Scored
from citekite.store.writer import Entry
from citekite.transfer.origin import Stored
from citekite.transfer.parquet import FORMAT, KEY, arrow_schema
from citekite.types import Chunk

_LONGEST_ID = 64  # bytes


class ParquetOrigin:
    """An exported file as the origin of a collection. Every method raises `ArchiveError` for what cannot be taken."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.name = str(path)
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
        except FileNotFoundError:
            raise ArchiveError(f"there is no file {str(path)!r}: `citekite export` writes one") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise ArchiveError(f"{path} cannot be read as Parquet: {_short(error)}") from None
        self.chunks: int = self._file.metadata.num_rows
        self.record = self._read_record()
        self._schema = arrow_schema(self.record.dimension)
        self._check_columns()

    def check(self, checked: Callable[[int], None]) -> None:
        """Look at every row once: values of their kind, within Milvus' limits, vectors finite, ids not repeated."""
        ids: set[str] = set()
        done = 0
        for batch in self.batches():
            for row, (entry, vector) in enumerate(batch, done + 1):
                if entry.chunk.id in ids:
                    raise self._wrong(row, "id", f"{entry.chunk.id!r} stands in an earlier row too")
                ids.add(entry.chunk.id)
                if not np.isfinite(vector).all():
                    raise self._wrong(row, "vector", "it has a value that is no finite number")
                self._check_limits(row, entry)
            done += len(batch)
            checked(done)

    def batches(self) -> Iterator[Sequence[Stored]]:
        """All rows in the order of the file."""
        done = 0
        with self._readable():
            for batch in self._file.iter_batches(batch_size=GET_ROWS, columns=self._schema.names):
                yield self._rows(batch, done)
                done += batch.num_rows

    def nearest(self, vectors: Vectors, limit: int) -> list[Scored]:
        """The nearest rows, found by looking at all of them."""
        best: list[Scored] = [[] for _ in vectors]
        for batch in self.batches():
            ids = [entry.chunk.id for entry, _ in batch]
            scores = np.stack([vector for _, vector in batch]) @ vectors.T
            for found, column in zip(best, scores.T, strict=True):
                found += zip(ids, map(float, column), strict=True)
                found.sort(key=lambda hit: (-hit[1], hit[0]))
                del found[limit:]
        return best

    def is_unchanged(self) -> bool:
        """Always: the file is held open."""
        return True

    def _read_record(self) -> CollectionRecord:
        text = (self._file.schema_arrow.metadata or {}).get(KEY)
        if text is None:
            raise ArchiveError(
                f"{self.name} is no export of a collection (its schema has no {KEY.decode()!r}): "
                "`citekite export` writes one"
            )
        try:
            facts = json.loads(text)
            version, name, record = int(facts["format"]), str(facts["collection"]), json.dumps(facts["record"])
        except (ValueError, TypeError, KeyError) as error:
            raise ArchiveError(f"{self.name}: {KEY.decode()!r} in its schema cannot be read ({error!r})") from None
        if version > FORMAT:
            raise ArchiveError(
                f"{self.name} has version {version} of the format, and this citekite reads up to {FORMAT}: "
                "upgrade citekite"
            )
        return CollectionRecord.from_json(record, name)

    def _check_columns(self) -> None:
        found = self._file.schema_arrow
        for field in self._schema:
            if field.name not in found.names:
                raise ArchiveError(f"{self.name} has no column {field.name!r}")
            if (kind := found.field(field.name).type) != field.type:
                raise ArchiveError(f"{self.name}: the column {field.name!r} is {kind}, and has to be {field.type}")

    def _rows(self, batch: Any, before: int) -> list[Stored]:
        for field in self._schema:
            column = batch.column(field.name)
            if not field.nullable and column.null_count:
                row = before + 1 + column.is_null().to_pylist().index(True)
                raise self._wrong(row, field.name, "it has no value")
        numbers = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
        vectors = numbers.astype(np.float32).reshape(batch.num_rows, self.record.dimension)
        values = batch.drop_columns(["vector"]).to_pylist()
        entries = [self._entry(row, before + place) for place, row in enumerate(values, 1)]
        return list(zip(entries, vectors, strict=True))

    def _entry(self, values: dict[str, Any], row: int) -> Entry:
        try:
            metadata = json.loads(values["metadata"])
        except ValueError as error:
            raise self._wrong(row, "metadata", f"it is no JSON ({error})") from None
        if not isinstance(metadata, dict):
            raise self._wrong(row, "metadata", "it is no JSON object")
        for column in ("headings", "access"):
            if None in values[column]:
                raise self._wrong(row, column, "it lists something without a value")
        try:
            access = access_list(values["access"])
        except CitekiteError as error:
            raise self._wrong(row, "access", str(error)) from None
        chunk = {field.name: values[field.name] for field in fields(Chunk)}
        chunk |= {"metadata": metadata, "headings": tuple(values["headings"]), "access": access}
        return Entry(Chunk(**chunk), values["digest"], values["chunks"])

    def _check_limits(self, row: int, entry: Entry) -> None:
        """Raise for what the store would refuse, or cut to its limit."""
        for column, text in (("id", entry.chunk.id), ("digest", entry.digest)):
            if not 0 < len(text.encode()) <= _LONGEST_ID:
                raise self._wrong(row, column, f"{text!r} has to have 1 to {_LONGEST_ID} bytes")
        try:
            stored = store_schema.to_row(
                entry.chunk, entry.digest, entry.chunks, lexical=False, contexts=True, access=True
            )
        except CitekiteError as error:
            raise ArchiveError(f"{self.name}, row {row}: {error}") from None
        kept = store_schema.to_chunk(stored)
        for field in fields(Chunk):
            if getattr(kept, field.name) != getattr(entry.chunk, field.name):
                raise self._wrong(
                    row, field.name, "it is longer than a collection can hold, or not a value of its kind"
                )

    @contextmanager
    def _readable(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise ArchiveError(f"{self.name} is damaged: {_short(error)}; take another copy of it") from None

    def _wrong(self, row: int, column: str, reason: str) -> ArchiveError:
        return ArchiveError(f"{self.name}, row {row}, column {column!r}: {reason}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
