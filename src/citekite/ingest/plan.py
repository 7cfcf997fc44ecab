"""The difference between a document and what the store holds of it; the state of a sync is in the store alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from citekite.access import AccessList
from citekite.ingest.split import content_of
from citekite.ports import Splitter
from citekite.store.collection import DocumentState
from citekite.store.writer import Entry
from citekite.types import Chunk, Document


@dataclass(frozen=True, slots=True)
class Change:
    """What one document needs: entries to embed, to write with a vector already stored, and ids to delete.

    `added` counts the entries whose id is new, the others replace a row; `keep` counts rows that stay as they are;
    `is_new` tells a document that the store did not know.
    """

    document: Document
    is_new: bool
    embed: tuple[Entry, ...]
    reuse: tuple[Entry, ...]
    stale: tuple[str, ...]
    added: int
    keep: int


def version_of(document_digest: str, splitter: Splitter, access: AccessList = ()) -> str:
    """The digest that rows carry: of the document's bytes, of how it is split and of who may see it."""
    parts = (document_digest, splitter.fingerprint, *([f"access={','.join(access)}"] if access else ()))
    return blake2b(" ".join(parts).encode(), digest_size=16).hexdigest()


def difference(
    document: Document,
    chunks: Sequence[Chunk],
    digest: str,
    state: DocumentState | None,
    has_vector: Mapping[str, str],
) -> Change:
    """How the store gets from `state` to `chunks`.

    `has_vector` maps the content of a chunk (`content_of`) to the id of a stored chunk with that content: its vector
    is used again, whichever document it belongs to.
    """
    rows = state.rows if state else {}
    embed: list[Entry] = []
    reuse: list[Entry] = []
    keep = 0
    for chunk in chunks:
        entry = Entry(chunk, digest, len(chunks))
        if rows.get(chunk.id) == digest:
            keep += 1  # written by a run that was cut short
        elif content_of(chunk.id) in has_vector:
            reuse.append(entry)
        else:
            embed.append(entry)
    wanted = {chunk.id for chunk in chunks}
    return Change(
        document=document,
        is_new=state is None,
        embed=tuple(embed),
        reuse=tuple(reuse),
        stale=tuple(id for id in rows if id not in wanted),
        added=sum(id not in rows for id in wanted),
        keep=keep,
    )
