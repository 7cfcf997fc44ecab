"""Segments of Milvus Lite that map their vectors from the disk in place of holding them in memory.

Milvus Lite 3.2 holds the vectors of a segment twice: in the table that it reads from the data file, and in the index
that it reads from a file beside it, which for an exact index is the same matrix as numpy writes it. Every query copies
all of them once more, and none of it needs one. Here the matrix is mapped from the file of the index, and the table is
read without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from citekite.store.durable import sync

_EXACT = ("FLAT", "BRUTE_FORCE")
Matrix = npt.NDArray[np.float32]


def load_segment(path: str, partition: str, keys: str, vectors: str | None, table: Any) -> Any:
    """The segment in that file, its vectors left where they are; `table` has its rows where they are in memory."""
    from milvus_lite.storage.segment import Segment
    from pyarrow import parquet

    if table is None:
        table = parquet.read_table(path, columns=[name for name in parquet.read_schema(path).names if name != vectors])
    segment = Segment(
        file_path=path,
        partition=partition,
        pk_field=keys,
        vector_field=vectors or "",
        pks=table.column(keys).to_pylist(),
        seqs=table.column("_seq").to_numpy(),
        vectors=np.zeros((table.num_rows, 0), dtype=np.float32),  # what a query would copy
        table=table,
    )
    segment._vector_data_by_field.clear()
    return segment


def reading_vectors(vector_data: Callable[..., Any]) -> Callable[..., Any]:
    """`Segment.vector_data`, for a table without the vectors that has no index yet: from the data file, once."""

    def known_or_read(segment: Any, field: str) -> Any:
        known = segment._vector_data_by_field
        if field not in known:
            table = segment.table
            if field not in table.schema.names:
                table = _read(segment.file_path, field)
            # The index may have come meanwhile.
            known.setdefault(field, vector_data(_Rows(table, {}), field))
        return known[field]

    return known_or_read


def mapping_index(build_or_load_index: Callable[..., None]) -> Callable[..., None]:
    """`Segment.build_or_load_index`, which maps the file of an exact index, and writes it where it is not whole."""

    def build_or_map_index(segment: Any, spec: Any, folder: str) -> None:
        field = spec.field_name
        if spec.index_type not in _EXACT or field != segment._vector_field:
            build_or_load_index(segment, spec, folder)
            return
        if field in segment.indexes or segment.num_rows == 0:
            return
        path = Path(segment.index_file_path(folder, spec.index_type, field))
        matrix, valid = _mapped(path, segment.num_rows), None
        if matrix is None:
            matrix, valid = segment.vector_data(field)
            if valid is None:
                matrix = _written(path, matrix)
        _attach(segment, field, matrix, valid, spec.metric_type)

    return build_or_map_index


def adding_vector(row_to_dict: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`Segment.row_to_dict`, with the vector that the table does not have."""

    def row_with_vector(segment: Any, row: int) -> dict[str, Any]:
        # The table may be replaced by one without the vectors while this reads it.
        found = row_to_dict(_Rows(segment.table, {}), row)
        field = segment._vector_field
        if field and field not in found:
            matrix, valid = segment.vector_data(field)
            found[field] = matrix[row].tolist() if valid is None or valid[row] else None
        return found

    return row_with_vector


@dataclass(frozen=True, slots=True)
class _Rows:
    """What those functions of a segment that read its rows need of it."""

    table: Any
    _vector_data_by_field: dict[str, Any]


def _read(path: str, column: str) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path, columns=[column])


def _attach(segment: Any, field: str, matrix: Matrix, valid: Any, metric: str) -> None:
    from milvus_lite.index.brute_force import BruteForceIndex

    segment._vector_data_by_field[field] = (matrix, valid)
    segment.attach_index(BruteForceIndex(matrix, metric), field_name=field)
    if isinstance(matrix, np.memmap) and field in segment.table.schema.names:
        segment.table = segment.table.drop_columns([field])


def _mapped(path: Path, rows: int) -> Matrix | None:
    """The matrix in the file; None where there is none, or not all of it, as after a power cut."""
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return matrix if matrix.dtype == np.float32 and matrix.ndim == 2 and len(matrix) == rows else None


def _written(path: Path, matrix: Matrix) -> Matrix:
    """The matrix, mapped from the file that was made of it; itself where the disk takes no file."""
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(exist_ok=True)
        with temporary.open("wb") as file:
            np.save(file, matrix, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        return matrix
    mapped = _mapped(path, len(matrix))
    return matrix if mapped is None else mapped
