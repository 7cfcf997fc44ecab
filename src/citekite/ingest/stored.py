"""What the store holds of the documents below some roots, in some 100 bytes a chunk: a sync keeps it all in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from citekite.access import AccessList, Grant
from citekite.ingest.split import packed, unpacked
from citekite.store.collection import DocumentState, RowVersion

_CONTENT_BYTES = 12
_ROW = np.dtype(
    [
        ("document", "<u8"),
        ("table", "<u8"),
        ("content", f"S{_CONTENT_BYTES}"),
        ("occurrence", "<u4"),
        ("digest", "S32"),
        ("chunks", "<u4"),
        ("access", "<u4"),
    ]
)
_BLOCK = 16_384


def key_of(source: str) -> int:
    """What stands for a source where there are many: the number in the ids of its chunks."""
    return int.from_bytes(blake2b(source.encode(), digest_size=8).digest())


def table_of(source: str) -> str:
    """The file of which a source is a row, empty where it is none."""
    return source.rpartition("#")[0]


class Stored:
    """The rows of documents, sorted by document. It can be pickled."""

    def __init__(self, rows: Iterable[RowVersion] = ()) -> None:
        lists: dict[AccessList, int] = {}
        blocks = list(_blocks(rows, lists))
        self._rows = np.concatenate(blocks) if blocks else np.zeros(0, _ROW)
        self._rows = self._rows[np.argsort(self._rows["document"], kind="stable")]
        self._documents = np.ascontiguousarray(self._rows["document"])
        self._lists = tuple(lists)

    def get(self, source: str) -> DocumentState | None:
        """What is stored of a document, or None."""
        return self._state(key_of(source))

    def gone(self, seen: set[int], grant: Grant) -> dict[int, DocumentState]:
        """By key, the documents whose key is not among those seen and that may be changed."""
        keys = [key for key in np.unique(self._documents).tolist() if key not in seen]
        states = ((key, self._state(key)) for key in keys)
        return {key: state for key, state in states if state is not None and grant.may_change(state.access)}

    def table(self, key: int) -> int:
        """The key of the file of which a document is a row; that of no file where it is none."""
        return int(self._rows["table"][np.searchsorted(self._documents, np.uint64(key))])

    def changeable(self, grant: Grant) -> npt.NDArray[Any]:
        """The rows of documents that may be changed."""
        protected = [number for number, access in enumerate(self._lists) if not grant.may_change([access])]
        theirs = self._documents[np.isin(self._rows["access"], protected)]
        return self._rows[~np.isin(self._documents, theirs)] if len(theirs) else self._rows

    def _state(self, key: int) -> DocumentState | None:
        number = np.uint64(key)
        start, end = self._documents.searchsorted(number), self._documents.searchsorted(number, "right")
        if start == end:
            return None
        state = DocumentState()
        # As tuples of Python's own: numpy takes ten times as long to look into one row after the other.
        for document, _, content, occurrence, digest, chunks, access in self._rows[start:end].tolist():
            state.rows[unpacked(_number(content), document << 32 | occurrence)] = digest.decode()
            state.chunks = chunks
            state.access.add(self._lists[access])
        return state


class KnownVectors:
    """Which contents have a vector, or soon will, and the id of a chunk that has it, whichever document it is of."""

    def __init__(self, rows: npt.NDArray[Any]) -> None:
        self._rows = rows
        self._order = np.argsort(rows["content"], kind="stable")
        self._contents = rows["content"][self._order]
        self._new: dict[int, int] = {}

    def get(self, chunk_id: str) -> str | None:
        """The id of a chunk with the content of this one, or None."""
        content, _ = packed(chunk_id)
        if (place := self._new.get(content)) is not None:
            return unpacked(content, place)
        position = int(self._contents.searchsorted(np.bytes_(_content(content))))
        if position == len(self._contents) or _number(self._contents[position]) != content:
            return None
        row = self._rows[self._order[position]]
        return unpacked(content, int(row["document"]) << 32 | int(row["occurrence"]))

    def add(self, chunk_id: str) -> None:
        """Tell that a chunk will be stored."""
        content, place = packed(chunk_id)
        self._new[content] = place


def _blocks(rows: Iterable[RowVersion], lists: dict[AccessList, int]) -> Iterator[npt.NDArray[Any]]:
    rows = iter(rows)
    while part := list(islice(rows, _BLOCK)):
        yield np.array([_row(row, lists.setdefault(row.access, len(lists))) for row in part], dtype=_ROW)


def _row(row: RowVersion, access: int) -> tuple[int, int, bytes, int, bytes, int, int]:
    content, place = packed(row.id)
    table = key_of(table_of(row.source))
    return place >> 32, table, _content(content), place & 0xFFFFFFFF, row.digest.encode(), row.chunks, access


def _content(content: int) -> bytes:
    return content.to_bytes(_CONTENT_BYTES)


def _number(content: bytes) -> int:
    return int.from_bytes(content.ljust(_CONTENT_BYTES, b"\0"))  # numpy takes zero bytes at the end for padding
