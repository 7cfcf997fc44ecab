"""The search index beside the embedded database: the lexical and the vector index of one collection, with one stamp.

It is derived from what Milvus holds and may be deleted at any time: it carries the version of the collection that it
was made from, and is made anew when it is missing, of another version, of another size, or damaged. That is found out
when it is opened. From then on the lock of the embedded database keeps other processes away, and all that writes in
this one shares the object (`shared_index`).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from citekite.errors import StoreError
from citekite.ports import Vectors
from citekite.store.durable import sync
from citekite.store.faults import disk_full
from citekite.store.lexical_index import LexicalIndex
from citekite.store.rows import Reader, Scored
from citekite.store.vector_index import Chosen, VectorIndex
from citekite.types import Chunk

_FORMAT = "4"  # part of the version: raise it when the analysis, the fields or the files change
_LEAST_CHUNK_BYTES = 1_000  # of a chunk in the index: its vector and its words
_SPARE_BYTES = 1_000_000
_REMEMBERED_FILTERS = 64  # with 20,000 chunks one takes up to 1 MB


@dataclass(frozen=True, slots=True)
class Version:
    """What an index was made from: the collection's content version and its number of chunks."""

    version: str
    chunks: int


@dataclass(frozen=True, slots=True)
class Selection:
    """What a search may find: what `filter` admits, of what `reader` sees.

    `admitted` gives the ids that the filter admits, as Milvus evaluates it for this reader; it is asked once for each
    filter, reader and content version.
    """

    filter: str
    admitted: Callable[[], Sequence[str]]
    reader: Reader | None = None

    @property
    def key(self) -> Hashable:
        return (self.filter, "" if self.reader is None else self.reader.key)


@dataclass(frozen=True, slots=True)
class _Allowed:
    """The ids that a filter admits, as each index takes them."""

    lexical: Any
    dense: Chosen | None


class SearchIndex:
    """Both indexes in one folder.

    `add` and `remove` take effect with `commit`; a search sees what was committed last, also while a writer is at work.
    Threads may share it. Not safe for two processes, which the lock of the embedded database beside it rules out.
    """

    def __init__(self, folder: Path) -> None:
        self.lock = threading.RLock()  # held to open, to make anew, to begin and to end changes
        self._folder = folder
        self._lexical = LexicalIndex(folder / "lexical")
        self._vectors = VectorIndex(folder)
        self._opened = False
        self._writing = False
        self._prepared = False
        self._stamped = ""  # the stamp of what is served
        self._filters: OrderedDict[tuple[Hashable, str], _Allowed] = OrderedDict()

    @property
    def is_ready(self) -> bool:
        """Whether it serves what was committed last; reads one small file, so that it can be asked at each search."""
        return self._writing or bool(self.state)

    @property
    def state(self) -> str:
        """What tells one content from another; empty while it changes, and where the index is not ready."""
        return self._stamped if not self._writing and self._stamp() == self._stamped else ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is served: before the first commit, Milvus alone can find what was written."""
        return self._vectors.is_empty

    def open(self, version: Version) -> bool:
        """Open what is on disk, if it was made from that version of the collection; returns whether it was."""
        with self.lock:
            if self._stamp() != _stamp_of(version) or not self._open():
                return False
            self._stamped = _stamp_of(version)
            return True

    def rebuild(self, batches: Iterable[tuple[Sequence[Chunk], Vectors]], version: Version) -> None:
        """Make it anew from all chunks and their vectors; what was open serves until then.

        Where the disk has clearly no room for it, `DiskFull` is raised, and what was open serves on.
        """
        with self.lock, _writable(self._folder):
            self._require_room(version)
            self._stamped = ""
            self._clear()
            self._begin()
            for chunks, vectors in batches:
                self._lexical.add(chunks)
                self._vectors.add(chunks, vectors)
            self._prepare()
            self._serve(version)

    def begin(self) -> None:
        """Start changes: the stamp goes first, so that a process killed here leaves an index known to be stale.

        Raises `StoreError` while another writer is at work.
        """
        with self.lock, _writable(self._folder):
            if self._writing:
                raise StoreError(
                    "another sync of this process writes to this collection: wait until it is done, then run this again"
                )
            (self._folder / "version.json").unlink(missing_ok=True)
            if self._folder.exists():
                sync(self._folder)
            if not self._opened and not self._open():
                self._clear()
            self._begin()
            self._writing = True

    def add(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Add chunks with their vectors; one with the id of a chunk already there replaces it."""
        with _writable(self._folder):
            self._lexical.add(chunks)
            self._vectors.add(chunks, vectors)

    def remove(self, ids: Sequence[str]) -> None:
        """Remove chunks by id; an unknown id is ignored."""
        with _writable(self._folder):
            self._lexical.remove(ids)
            self._vectors.remove(ids)

    def prepare(self) -> None:
        """Make the changes durable, not visible yet; may run beside other work, `commit` has to follow."""
        with _writable(self._folder):
            self._prepare()

    def commit(self, version: Version) -> None:
        """Make the changes durable and visible, and stamp the index with the version they belong to."""
        if not self._prepared:
            self.prepare()
        with self.lock, _writable(self._folder):
            self._serve(version)
            self._writing = False

    def abandon(self) -> None:
        """End changes that cannot be committed: the index has no stamp then, and the next search makes it anew."""
        with self.lock:
            if self._writing:
                self._lexical.abandon()
                self._vectors.abandon()
                self._stamped = ""
                self._writing = self._prepared = False

    def search_lexical(self, question: str, limit: int, selection: Selection) -> Scored:
        """The best chunks by BM25 as (id, score), best first, ties by id."""
        allowed = self._allowed(selection)
        return self._lexical.search(question, limit, allowed.lexical if allowed else None, selection.reader)

    def search_dense(self, vector: npt.NDArray[np.float32], limit: int, selection: Selection) -> Scored:
        """The nearest chunks by inner product as (id, score), best first, ties by id."""
        allowed = self._allowed(selection)
        return self._vectors.search(vector, limit, allowed.dense if allowed else None, selection.reader)

    def at(self, places: Mapping[str, Iterable[int]]) -> list[str]:
        """The ids of the chunks at these ordinals, by source, in no order."""
        return self._lexical.at(places)

    def drop(self) -> None:
        """Delete the index from disk."""
        with self.lock:
            self.abandon()
            self._opened, self._stamped = False, ""
            self._vectors.clear()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _allowed(self, selection: Selection) -> _Allowed | None:
        """What the filter admits; what is admitted while the content changes is not remembered."""
        if not selection.filter:
            return None
        state = self.state
        with self.lock:
            known = self._filters.get((selection.key, state))
        if known is not None:
            return known
        ids = list(selection.admitted())
        allowed = _Allowed(self._lexical.admitting(ids), self._vectors.choosing(ids))
        if state:
            with self.lock:
                self._filters[selection.key, state] = allowed
                while len(self._filters) > _REMEMBERED_FILTERS:
                    self._filters.popitem(last=False)
        return allowed

    def _require_room(self, version: Version) -> None:
        """Raise an `OSError` where what is served would be lost for an index that cannot be written."""
        if self.is_empty or not self._folder.exists():
            return
        size = sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())
        needed = max(size, version.chunks * _LEAST_CHUNK_BYTES)
        if shutil.disk_usage(self._folder).free + size < needed + _SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> bool:
        self._opened = self._lexical.open() and self._vectors.open()
        return self._opened

    def _clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lexical.clear()
        self._vectors.clear()
        self._opened = True

    def _begin(self) -> None:
        self._lexical.begin()
        self._vectors.begin()

    def _prepare(self) -> None:
        self._lexical.prepare()
        self._vectors.prepare()
        sync(self._folder)
        self._prepared = True

    def _serve(self, version: Version) -> None:
        """Serve what was prepared and write the stamp; what was remembered of the content before is forgotten."""
        self._lexical.serve()
        self._vectors.serve()
        self._prepared = False
        self._filters.clear()
        temporary = self._folder / "version.json.new"
        temporary.write_text(_stamp_of(version), encoding="utf-8")
        temporary.replace(self._folder / "version.json")
        self._stamped = _stamp_of(version)

    def _stamp(self) -> str:
        try:
            return (self._folder / "version.json").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""


_shared: WeakValueDictionary[Path, SearchIndex] = WeakValueDictionary()
_guard = threading.Lock()


def shared_index(folder: Path) -> SearchIndex:
    """The index in a folder, one object for the whole process: what one part of it writes, the others see."""
    with _guard:
        index = _shared.get(folder)
        if index is None:
            index = _shared[folder] = SearchIndex(folder)
        return index


def forget_indexes(root: Path) -> None:
    """Open the indexes below a folder anew at their next use: their database was closed, and may be another by then."""
    with _guard:
        for folder in [folder for folder in _shared if folder.is_relative_to(root)]:
            del _shared[folder]


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Changes to the files of an index; tantivy reports a full disk or a missing file as ValueError.

    A full disk is told as such: the database on it must not be flushed any more.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if full := disk_full(str(error), "writing the search index", str(folder)):
            raise full from error
        raise StoreError(
            f"the search index {folder} cannot be written: {error}. Free some space on the disk, or mend the "
            "folder's permissions; the next search makes the index anew"
        ) from error


def _stamp_of(version: Version) -> str:
    return json.dumps({"format": _FORMAT, "version": version.version, "chunks": version.chunks}, sort_keys=True)
