"""What a sync remembers of the store is what the store said, in arrays."""

from __future__ import annotations

import pickle
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from citekite.access import AccessList, Grant
from citekite.ingest.split import document_id
from citekite.ingest.stored import KnownVectors, Stored, key_of, table_of
from citekite.store.collection import DocumentState, RowVersion

SOURCES = ["/docs/a.md", "/docs/b.csv#1", "/docs/b.csv#2", "/docs/b.csv", "https://example.com/ü"]
LISTS: list[AccessList] = [(), ("hr",), ("hr", "legal")]
# Also those that begin and end with zero bytes, which an array of bytes takes for padding.
CONTENTS = st.sampled_from(["00" * 12, "ab" * 11 + "00", "00" * 11 + "01"]) | st.binary(min_size=12, max_size=12).map(
    bytes.hex
)


@st.composite
def versions(draw: st.DrawFn) -> list[RowVersion]:
    """Rows with ids that differ, as a store has them."""
    rows = {}
    for source in draw(st.lists(st.sampled_from(SOURCES), max_size=12)):
        id = f"{document_id(source)}-{draw(CONTENTS)}-{draw(st.integers(0, 2**32 - 1))}"
        digest = draw(st.sampled_from(["0" * 32, "ab" * 16, "digest"]))
        rows[id] = RowVersion(id, source, digest, draw(st.integers(1, 9)), draw(st.sampled_from(LISTS)))
    return list(rows.values())


def states(rows: list[RowVersion]) -> dict[str, DocumentState]:
    found: dict[str, DocumentState] = defaultdict(DocumentState)
    for row in rows:
        found[row.source].rows[row.id] = row.digest
        found[row.source].chunks = row.chunks
        found[row.source].access.add(row.access)
    return found


@settings(max_examples=60)
@given(versions(), st.sets(st.sampled_from(SOURCES)), st.sampled_from([None, frozenset({"hr"}), frozenset({"x"})]))
def test_it_is_what_the_store_said(rows: list[RowVersion], seen: set[str], groups: frozenset[str] | None) -> None:
    stored = pickle.loads(pickle.dumps(Stored(rows)))
    expected, grant = states(rows), Grant(groups=groups)
    for source in SOURCES:
        assert stored.get(source) == expected.get(source)
    gone = {source for source, state in expected.items() if source not in seen and grant.may_change(state.access)}
    found = stored.gone({key_of(source) for source in seen}, grant)
    assert found == {key_of(source): expected[source] for source in gone}
    for source in gone:
        assert stored.table(key_of(source)) == key_of(table_of(source))


@settings(max_examples=60)
@given(versions(), versions(), st.sampled_from([None, frozenset({"hr"})]))
def test_a_content_has_the_vector_of_a_document_that_may_be_changed_or_of_one_on_the_way(
    rows: list[RowVersion], added: list[RowVersion], groups: frozenset[str] | None
) -> None:
    grant = Grant(groups=groups)
    known = KnownVectors(Stored(rows).changeable(grant))
    mine = {row.id for row in rows if grant.may_change(states(rows)[row.source].access)}
    for row in added:
        known.add(row.id)
    lenders = mine | {row.id for row in added}
    for row in [*rows, *added]:
        content = row.id.split("-")[1]
        expected = {id for id in lenders if id.split("-")[1] == content}
        lender = known.get(row.id)
        assert (lender in expected) if expected else lender is None
