"""One file, from its bytes to what the store needs of it: a function of values, for a thread or any other process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, TypeGuard

from citekite.access import AccessList, Grant
from citekite.errors import DocumentError
from citekite.ingest.base import LoadOptions, SourceFile, digest_of
from citekite.ingest.formats import format_of
from citekite.ingest.load import load
from citekite.ingest.parse import APART, Parse, parse_apart
from citekite.ingest.plan import Change, difference, version_of
from citekite.ports import Splitter
from citekite.reports import Failure
from citekite.store.collection import DocumentState
from citekite.types import Document


class States(Protocol):
    """What the store holds, by source."""

    def get(self, source: str, /) -> DocumentState | None:
        """What is stored of a document, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """All that decides what becomes of a file, alike for every file of a sync; it can be pickled.

    `stored` is what the store holds; `parse` parses the formats of `parse.APART`.
    """

    splitter: Splitter
    options: LoadOptions
    grant: Grant
    stored: States
    parse: Parse = parse_apart

    def access_of(self, state: DocumentState | None) -> AccessList:
        """The access list of a document of which this is stored; raises `DocumentError` where that forbids it."""
        stored = state.access if state else ()
        self.grant.check(stored)
        return self.grant.list_for(stored)


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A document of which just this version is stored, in so many chunks."""

    source: str
    chunks: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A document that cannot be taken in.

    `unnamed` tells of a row that cannot be read: it may be any of the rows of its table that are missing.
    """

    source: str
    reason: str
    unnamed: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """What a reader should know of a file that was taken in all the same."""

    source: str
    text: str


Outcome = Change | Unchanged | Failed | Remark


def is_slow(file: SourceFile) -> bool:
    """Whether to read a file takes long, in which the thread that does it has nothing to do."""
    return file.is_remote or format_of(file.name, file.content_type) in APART


def read_file(file: SourceFile, reading: Reading) -> Iterator[Outcome]:
    """What becomes of each document of a file, in order; a failure is an outcome too, and remarks come last."""
    remarks: list[Failure] = []
    try:
        yield from _documents(file, reading, remarks.append)
    except DocumentError as error:
        yield Failed(file.source, str(error))
    for remark in remarks:
        yield Remark(remark.source, remark.reason)


def _documents(file: SourceFile, reading: Reading, warn: Callable[[Failure], None]) -> Iterator[Outcome]:
    state = reading.stored.get(file.source)
    access = reading.access_of(state)
    data = file.read()
    if _is_stored(state, version_of(digest_of(data, reading.options), reading.splitter, access)):
        yield Unchanged(file.source, len(state.rows))
        return
    for document in load(file, reading.options, warn, data, reading.parse):
        if isinstance(document, Failure):
            yield Failed(document.source, document.reason, unnamed=True)
            continue
        try:
            yield _outcome(document, reading)
        except DocumentError as error:
            yield Failed(document.source, str(error))


def _outcome(document: Document, reading: Reading) -> Outcome:
    state = reading.stored.get(document.source)
    access = reading.access_of(state)
    digest = version_of(document.digest, reading.splitter, access)
    if _is_stored(state, digest):
        return Unchanged(document.source, len(state.rows))
    chunks = [replace(chunk, access=access) for chunk in reading.splitter.split(document)]
    if not chunks:
        raise DocumentError("it has no text")
    return difference(document, chunks, digest, state)


def _is_stored(state: DocumentState | None, digest: str) -> TypeGuard[DocumentState]:
    return state is not None and state.is_complete(digest)
