"""Access lists, reading: whatever a reader tries, it gets what an oracle over the whole collection says, no more."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Collection as Collection_
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import tantivy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from citekite.access import access_list
from citekite.errors import FilterError, SettingsError, UnknownDocument
from citekite.store import lexical_index
from citekite.store.collection import Collection
from citekite.store.milvus import MilvusStore
from citekite.store.record import CollectionRecord
from citekite.store.rows import Reader, from_field, to_field
from citekite.store.writer import Entry
from citekite.types import Chunk
from stored import milvus_server

# Names that would be taken for each other, were `_` a wildcard or a name found inside another.
GROUPS = ("hr", "h_", "hr2", "h.r", "-hr-", "legal", "legal@example.com")
LISTS = ((), *((name,) for name in GROUPS), ("hr", "legal"), ("h_", "hr2"), ("h.r", "legal@example.com"))
FILTERS = ("", "ordinal == 0", 'metadata["n"] >= 6 or title like "%3"', 'array_contains(headings, "odd")', "page > 0")
EVERYTHING = 100
BY_ID = ("chunks", "at", "vectors", "contexts")

groups_of_a_reader = st.sets(st.sampled_from(GROUPS), max_size=3)
lists_of_documents = st.lists(st.sampled_from(LISTS), min_size=len(LISTS), max_size=len(LISTS))


def chunks_of(lists: Sequence[tuple[str, ...]]) -> list[Chunk]:
    """Two chunks for each document; the document of number n has the list of number n."""
    return [
        Chunk(
            id=f"d{number}-c-{ordinal}",
            source=f"/docs/{number}.md",
            title=f"title {number}",
            ordinal=ordinal,
            start=10 * ordinal,
            end=10 * ordinal + 9,
            text=f"owl text{number % 10}{ordinal}"[:9],
            headings=("odd" if number % 2 else "even",),
            metadata={"n": number},
            access=access,
        )
        for (number, access), ordinal in product(enumerate(lists), range(2))
    ]


def vector(number: int) -> np.ndarray:
    made = np.random.default_rng(number).standard_normal(8).astype(np.float32)
    return made / np.linalg.norm(made)


def store_lists(collection: Collection, lists: Sequence[tuple[str, ...]]) -> None:
    chunks = chunks_of(lists)
    with collection.writing() as writer:
        writer.upsert(
            [Entry(chunk, "digest", 2) for chunk in chunks], np.stack([vector(n) for n in range(len(chunks))])
        )


@pytest.fixture(scope="module", params=["embedded", "server"])
def collection(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A collection with a document for each access list."""
    folder = tmp_path_factory.mktemp("access")

    def filled(uri: str) -> Iterator[Collection]:
        with MilvusStore(uri) as store:
            made = store.create("rows", CollectionRecord(embedder="e", dimension=8, english_only=True, splitter="s"))
            store_lists(made, LISTS)
            yield made

    if request.param == "embedded":
        yield from filled(str(folder / "rows.db"))
    else:
        with milvus_server(folder / "server.db") as uri:
            yield from filled(uri)


def reads(
    collection: Collection, filter: str, of: Callable[[str], bool], groups: Collection_[str] = GROUPS
) -> dict[str, Any]:
    """What every method that reads returns, asked for all there is; `of` keeps the answers of those chunks alone.

    With an `of` that is always true and all groups these are the answers as they are; of access lists those `groups`
    are kept.
    """

    def cut(chunk: Chunk) -> Chunk:
        return replace(chunk, access=tuple(group for group in chunk.access if group in groups))

    chunks = chunks_of(LISTS)
    ids = [chunk.id for chunk in chunks]
    places = {chunk.source: range(2) for chunk in chunks}
    sources = {chunk.source for chunk in chunks if of(chunk.id)}
    dense = collection.search_dense(vector(3), EVERYTHING, filter)
    lexical = collection.search_lexical("owl text31", EVERYTHING, filter)
    return {
        "dense": [(id, round(score, 4)) for id, score in dense if of(id)],
        "lexical": [(id, round(score, 4)) for id, score in lexical if of(id)],
        "scan": sorted(row["id"] for row in collection.scan(filter, ("id",), asked=bool(filter)) if of(row["id"])),
        "chunks": [cut(chunk) for chunk in collection.chunks(ids) if of(chunk.id)],
        "at": sorted(chunk.id for chunk in collection.at(places) if of(chunk.id)),
        "vectors": {id: tuple(found.tolist()) for id, found in collection.vectors(ids).items() if of(id)},
        "contexts": {id: found for id, found in collection.contexts(ids).items() if of(id)},
        "states": {
            source: replace(state, access={tuple(g for g in access if g in groups) for access in state.access})
            for source, state in collection.states(["/docs"]).items()
            if source in sources
        },
        "sources": [source for source in collection.sources() if source in sources],
        "documents": [
            replace(document, access=tuple(group for group in document.access if group in groups))
            for document in collection.documents()
            if document.source in sources
        ],
        "all_chunks": sorted(chunk.id for chunk in collection.all_chunks() if of(chunk.id)),
        "entries": sorted(entry.chunk.id for entry in collection.entries() if of(entry.chunk.id)),
        "lists": {chunk.id: cut(chunk).access for chunk in collection.all_chunks() if of(chunk.id)},
    }


def visible(lists: Sequence[tuple[str, ...]], groups: set[str]) -> set[str]:
    return {chunk.id for chunk in chunks_of(lists) if not chunk.access or groups & set(chunk.access)}


def without_expressions(patch: pytest.MonkeyPatch) -> None:
    """Milvus and the index beside the database are asked as if the reader saw everything."""
    patch.setattr(Reader, "narrowed", lambda self, filter: filter)
    patch.setattr(lexical_index, "_visible_to", lambda schema, reader: tantivy.Query.all_query())


def without_row_checks(patch: pytest.MonkeyPatch) -> None:
    """What comes back is taken as it is."""
    patch.setattr(Reader, "sees", lambda self, access: True)


def check(
    collection: Collection, lists: Sequence[tuple[str, ...]], groups: set[str], filter: str, but: Collection_[str] = ()
) -> None:
    """Every read of the reader returns what the same read of the whole collection returns of what it may see.

    Of an access list that is the reader's own groups. Reads named in `but` are left out.
    """
    seen = visible(lists, groups)
    view = collection.restricted_to(groups)
    view._documents.clear()  # what is remembered was checked when it was read
    found, allowed = reads(view, filter, lambda id: True), reads(collection, filter, seen.__contains__, groups)
    for name in but:
        del found[name], allowed[name]
    assert found == allowed
    assert view.count() == len(seen)


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(groups=groups_of_a_reader, filter=st.sampled_from(FILTERS))
def test_every_read_of_a_reader_is_that_of_the_whole_cut_to_what_it_may_see(
    collection: Collection, groups: set[str], filter: str
) -> None:
    check(collection, LISTS, groups, filter)


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(lists=lists_of_documents, groups=groups_of_a_reader)
def test_lists_that_change_hold_at_once(collection: Collection, lists: list[tuple[str, ...]], groups: set[str]) -> None:
    """What is remembered of the content before (the ids that a filter admits, the sources) admits nobody."""
    before = collection.restricted_to(groups)
    reads(before, "", lambda id: True)
    try:
        store_lists(collection, lists)
        check(collection, lists, groups, "")
        check(before, lists, groups, "")
    finally:
        store_lists(collection, LISTS)


def test_what_is_remembered_of_one_reader_serves_no_other(collection: Collection) -> None:
    filter = "ordinal >= 0 and ordinal < 7"
    for groups in (set(), {"hr"}, {"legal"}, set(GROUPS)):
        found = collection.restricted_to(groups).search_lexical("owl", EVERYTHING, filter)
        assert {id for id, _ in found} == visible(LISTS, groups)
    assert len(collection.search_lexical("owl", EVERYTHING, filter)) == 2 * len(LISTS)


@pytest.mark.parametrize("groups", [set(), {"hr"}, {"legal", "h_"}])
def test_row_check_alone_holds(collection: Collection, groups: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    without_expressions(monkeypatch)
    for filter in FILTERS:
        check(collection, LISTS, groups, filter)


@pytest.mark.parametrize("groups", [set(), {"hr"}, {"legal", "h_"}])
def test_expression_alone_holds(collection: Collection, groups: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """But for reads by id, which have no expression: the look at the row is all they have, and exact."""
    without_row_checks(monkeypatch)
    for filter in FILTERS:
        check(collection, LISTS, groups, filter, but=BY_ID)


def test_with_neither_check_the_law_above_would_fail(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    without_expressions(monkeypatch)
    without_row_checks(monkeypatch)
    view = collection.restricted_to({"nobody"})
    for name, found in reads(view, "ordinal < 9", lambda id: True).items():
        assert len(found) > 4, name


# --- attempts to get round it ---

BREAKOUTS = (
    "ordinal >= 0",
    "ordinal >= 0 or ordinal >= 0",
    "ordinal >= 0) or (ordinal >= 0",
    ") or (ordinal >= 0",
    "(ordinal >= 0)) or ((ordinal >= 0)",
    'source != "\\") or (ordinal >= 0 or source != \\""',
    'source != "\\") or (ordinal >= 0 or source != \'") or (ordinal >= 0 or source != "\'',
    "source != 'a\\') or (ordinal >= 0 or source != \\'b'",
    'source != r"\\") or (ordinal >= 0 or source != "',
    'source != ") or (ordinal >= 0',
    "ordinal >= 0 -- ",
    "ordinal >= 0) -- ",
    "ordinal >= 0) or (ordinal >= 0) # ",
    "ordinal >= 0) or ordinal >= 0 // ",
    "ordinal >= 0 /* ) */ or (ordinal >= 0",
    "ordinal >= 0\x00",
    "ordinal >= 0)\nor\n(ordinal >= 0",
    "ordinal >= 0 || ordinal >= 0",
    'not (access like "%hr%")',
    'access != ""',
    'access == "|legal|"',
    'access like "%"',
    'access like "%legal%" or not (access like "%legal%")',
    'id in ["d5-c-0", "d6-c-1"]',
    'id in ["d6-c-0"] or id >= ""',
    'source == "/docs/6.md"',
    "{access}",
    "true",
    "1 == 1",
    "ordinal >= 0 and ordinal >= 0 or true",
    "exists metadata",
    'metadata["n"] >= 0 or json_contains_any(metadata["n"], [1])',
)
PIECES = (
    "(",
    ")",
    " or ",
    " and ",
    "not ",
    "ordinal >= 0",
    'access like "%"',
    '"',
    "'",
    "\\",
    "\n",
    "--",
    "[",
    "]",
    ",",
)


def attempt(collection: Collection, filter: str, groups: set[str]) -> None:
    """A filter finds in no read what it may not, or is refused."""
    view, seen = collection.restricted_to(groups), visible(LISTS, groups)
    readers: tuple[Callable[[], list[str]], ...] = (
        lambda: [id for id, _ in view.search_dense(vector(3), EVERYTHING, filter)],
        lambda: [id for id, _ in view.search_lexical("owl", EVERYTHING, filter)],
        lambda: [row["id"] for row in view.scan(filter, ("id",), asked=True)],
    )
    for read in readers:
        try:
            assert set(read()) <= seen
        except FilterError:
            continue


@pytest.mark.parametrize("only", ["both checks", "expression"])
def test_filters_written_to_break_out_find_nothing_more(
    collection: Collection, only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if only == "expression":
        without_row_checks(monkeypatch)
    for filter in BREAKOUTS:
        attempt(collection, filter, {"hr"})


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(filter=st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join))
def test_no_filter_of_such_pieces_breaks_out_of_the_expression(collection: Collection, filter: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        without_row_checks(patch)
        attempt(collection, filter, set())


def test_ids_sources_and_ordinals_of_others_give_nothing(collection: Collection) -> None:
    view = collection.restricted_to({"hr"})
    for number, access in enumerate(LISTS):
        id, source = f"d{number}", f"/docs/{number}.md"
        found = bool(not access or "hr" in access)
        chunk_ids = [f"{id}-c-0", f"{id}-c-1"]
        assert len(view.chunks(chunk_ids)) == len(view.vectors(chunk_ids)) == len(view.contexts(chunk_ids)) == 2 * found
        assert len(view.at({source: [0, 1]})) == 2 * found
        assert bool(view.states([source])) == found
        for name in (id, source):
            if found:
                assert view.document(name).access == (("hr",) if access else ())
            else:
                with pytest.raises(UnknownDocument):
                    view.document(name)
    hostile = ['x"] or id != "', 'd6-c-0"] or (ordinal >= 0) or id in ["', "d6-c-0\\", "%", "*"]
    assert view.chunks(hostile) == []
    assert view.at({'x" or ordinal in [0, 1] or source == "': [0]}) == []
    with pytest.raises(UnknownDocument):
        view.document('x") or (ordinal >= 0) or (source == "')


def test_a_view_of_a_view_sees_what_both_do(collection: Collection) -> None:
    view = collection.restricted_to({"hr", "legal"}).restricted_to({"legal", "h_"})
    assert {chunk.id for chunk in view.all_chunks()} == visible(LISTS, {"legal"})


ASKED = ('access like "%legal%"', "access == '|hr|'", 'not (access like "%|")', 'ordinal == 0 and{access} != ""')


@pytest.mark.parametrize("filter", [*ASKED, 'source != "\\\\" and access == ""', "title != r'\\' and access != ''"])
def test_a_filter_cannot_ask_who_else_may_see_a_document(collection: Collection, filter: str) -> None:
    view = collection.restricted_to({"hr"})
    for read in (
        lambda: view.search_dense(vector(3), EVERYTHING, filter),
        lambda: view.search_lexical("owl", EVERYTHING, filter),
        lambda: list(view.scan(filter, ("id",), asked=True)),
    ):
        with pytest.raises(FilterError):
            read()


def test_a_text_in_a_filter_may_say_access(collection: Collection) -> None:
    view = collection.restricted_to({"hr"})
    found = view.search_dense(
        vector(3), EVERYTHING, 'metadata["access"] != 1 or title != \'access "x\' or ordinal >= 0'
    )
    assert {id for id, _ in found} == visible(LISTS, {"hr"})


def test_no_filter_fails_because_of_a_row_that_is_not_the_readers(collection: Collection) -> None:
    """An error that depended on the text of others would tell it, bit by bit."""
    hidden = next(number for number, access in enumerate(LISTS) if access == ("legal",))
    seen = visible(LISTS, {"hr"})
    for filter in (
        f'10 / (metadata["n"] - {hidden}) > 0',
        f'10 % (metadata["n"] - {hidden}) >= 0',
        f'metadata["n"] == {hidden} and metadata["n"] + 1 > 0',
        f'metadata["n"] == {hidden} and json_contains(metadata["n"], 1)',
        f'metadata["n"] != {hidden} or headings[5] == "x"',
    ):
        outcomes = []
        for number in (hidden, 10_000):
            asked = filter.replace(str(hidden), str(number))
            try:
                found = {id for id, _ in collection.restricted_to({"hr"}).search_dense(vector(3), EVERYTHING, asked)}
                assert found <= seen
                outcomes.append("found")
            except FilterError:
                outcomes.append("refused")
        assert len(set(outcomes)) == 1, filter


# --- names of groups ---

NAME_LETTERS = string.ascii_letters + string.digits + "_.@-"


@pytest.mark.parametrize("name", ["", "a b", "hr|legal", "*", "%", "h~r", 'h"r', "é", "x" * 65, "hr\n", "everyone"])
def test_a_name_that_no_group_can_have_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"no name of a group|stands alone"):
        access_list([name, "hr"])


def test_a_list_of_too_many_groups_is_refused() -> None:
    assert len(access_list(f"g{number}" for number in range(64))) == 64
    with pytest.raises(SettingsError, match="at most 64 groups, not 65"):
        access_list(f"g{number}" for number in range(65))


@settings(max_examples=50)
@example({f"{number:_>64}" for number in range(64)})
@given(st.sets(st.text(NAME_LETTERS, min_size=1, max_size=64).filter("everyone".__ne__), max_size=5))
def test_the_field_holds_any_access_list_within_its_limit(names: set[str]) -> None:
    access = access_list(names)
    assert from_field(to_field(access)) == access == tuple(sorted(names))
    assert len(to_field(access)) <= 4_200
    assert all(Reader([name]).admits({"access": to_field(access)}) for name in names)
