"""The difference between a document and what the store holds of it; the state of a sync is in the store alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from citekite.access import AccessList
from citekite.ports import Splitter
from citekite.store.collection import DocumentState
from citekite.store.writer import Entry
from citekite.types import Chunk, Document


@dataclass(frozen=True, slots=True)
class Change:
    """What one document needs: entries to write, and ids to delete.

    `added` counts the entries whose id is new, `updated` those that replace a row, `keep` rows that stay as they are;
    `is_new` tells a document that the store did not know.
    """

    document: Document
    is_new: bool
    entries: tuple[Entry, ...]
    stale: tuple[str, ...]
    added: int
    updated: int
    keep: int


def version_of(document_digest: str, splitter: Splitter, access: AccessList = ()) -> str:
    """The digest that rows carry: of the document's bytes, of how it is split and of who may see it."""
    parts = (document_digest, splitter.fingerprint, *([f"access={','.join(access)}"] if access else ()))
    return blake2b(" ".join(parts).encode(), digest_size=16).hexdigest()


def difference(document: Document, chunks: Sequence[Chunk], digest: str, state: DocumentState | None) -> Change:
    """How the store gets from `state` to `chunks`."""
    rows = state.rows if state else {}
    # A row that has the digest already was written by a run that was cut short.
    missing = [chunk for chunk in chunks if rows.get(chunk.id) != digest]
    wanted = {chunk.id for chunk in chunks}
    added = sum(id not in rows for id in wanted)
    return Change(
        document=document,
        is_new=state is None,
        entries=tuple(Entry(chunk, digest, len(chunks)) for chunk in missing),
        stale=tuple(id for id in rows if id not in wanted),
        added=added,
        updated=len(missing) - added,
        keep=len(chunks) - len(missing),
    )
