"""Deleting documents from a collection, and the uploaded files that no document needs any more."""

from __future__ import annotations

from pathlib import Path

from citekite.access import Grant
from citekite.errors import AccessDenied, StoreError
from citekite.ingest.sources import is_under, normalise_source
from citekite.ingest.uploads import forget_files
from citekite.store.collection import Collection


def remove(source: str, collection: Collection, seen: Collection, grant: Grant, uploads: Path) -> int:
    """Delete a document, or all below a folder or archive, that `seen`, the reader's view of `collection`, has.

    Returns the number of chunks. Raises `StoreError` where nothing of that source is seen, and `AccessDenied`, having
    deleted nothing, where the grant does not cover all of it.
    """
    root = normalise_source(source)
    stored = collection.states([root])
    if source in stored:
        root = source  # a row of a table on the web: what is canonical for a URL has no fragment
    visible = stored if seen is collection else seen.states([root])
    states = {place: stored[place] for place in visible if is_under(place, root)}
    if not states:
        raise StoreError(f"nothing of {root!r} is stored: `citekite documents` lists what is")
    for place, state in states.items():
        if not grant.may_change(state.access):
            raise AccessDenied(f"{place!r} has other readers too, so it is not deleted with these groups")
    ids = [id for state in states.values() for id in state.rows]
    with collection.writing() as writer:
        writer.delete(ids)
    forget_files(states, collection.states, uploads)
    return len(ids)
