"""The typed filter: what it means, on a real database, for any value; and what is said about a bad one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from citekite import Filter, KnowledgeBase
from citekite.errors import FilterError
from citekite.ingest.sources import is_under
from citekite.retrieve.filter import matches_glob, parse_date, parse_where, quote
from citekite.store.collection import Collection
from citekite.store.milvus import MilvusStore
from citekite.store.record import CollectionRecord
from citekite.store.writer import Entry
from citekite.types import Chunk, Mode
from stored import knowledge_base, write

NASTY = (
    'a"b', "a'b", "a\\b", "\\", '"', '\\"', "a\nb", "a\r\tb", "\x01\x07\0", "\u2028", "%", "_", "a%b", "a_b", "\\%",
    '" or source != "', "') or (1 == 1", '"] or metadata["x', "x] == 1", "{s}", "$meta", "and", "true", "1", "", " ",
    "é", "𝕏",
)  # fmt: skip
SOURCES = (
    "/d/a.md", "/d/a.txt", "/d", "/d/sub/a.md", "/d/sub/deep/b.md", "/d2/a.md", "/d.zip!/a.md", "/d/t.csv#3", "/d#",
    "/d/a%b.md", "/d/a_b.md", '/d/a"b.md', "/d/a\\b.md", "/d/[x].md", "/d/\x01.md", "/d/é 𝕏.md", "/d/*.md", "https://e.org/d/a.md",
)  # fmt: skip
METADATA: tuple[dict[str, Any], ...] = (
    *({"key": value} for value in NASTY),
    *({value: "v"} for value in NASTY),
    {"key": ["a", 'a"b', "%"]},
    {"key": [1, True, "x\\"]},
    {"key": []},
    {"key": True},
    {"key": False},
    {"key": 0},
    {"key": 2024},
    {"key": -1.5e-07},
    {"key": 1e16},
    {"key": None},
    {"key": {"a": "b"}},
    {},
    *({"date": value} for value in ("2024-01-01", "2024-01-31T23:59:59", "2024-02", "2023", "soon", "", " ", 2024)),
    {"date": ["2024-01-01"]},
)
ROWS = [
    (SOURCES[number % len(SOURCES)], METADATA[number % len(METADATA)])
    for number in range(max(len(SOURCES), len(METADATA)) + 7)
]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A collection of rows with values that would harm an expression, were they not escaped."""
    chunks = [
        Chunk(f"{number}-0", source, "t", 0, 0, 1, "x", metadata=metadata)
        for number, (source, metadata) in enumerate(ROWS)
    ]
    with MilvusStore(str(tmp_path_factory.mktemp("filter") / "rows.db")) as store:
        made = store.create("rows", CollectionRecord(embedder="e", dimension=2, english_only=True, splitter="s"))
        with made.writing() as writer:
            writer.upsert([Entry(chunk, "d", 1) for chunk in chunks], np.ones((len(chunks), 2), dtype=np.float32))
        yield made


def found(collection: Collection, filter: Filter) -> list[int]:
    expression = filter.to_expression(lambda: {row["source"] for row in collection.scan("", ("source",))})
    return sorted(int(row["id"].partition("-")[0]) for row in collection.scan(expression, ("id",), asked=True))


def admits(filter: Filter, source: str, metadata: dict[str, Any]) -> bool:
    """What a filter means, in plain Python."""
    stored = metadata.get(filter.date_key)
    dated = isinstance(stored, str)
    return all(
        (
            not filter.sources or any(is_under(source, root) for root in filter.sources),
            not filter.paths or any(fits(source, glob) for glob in filter.paths),
            all(
                any(has(metadata.get(key), value) for value in (values if isinstance(values, list) else [values]))
                for key, values in filter.where.items()
            ),
            filter.after is None or (dated and filter.after.isoformat() <= stored < ":"),
            filter.before is None or (dated and "0" <= stored < filter.before.isoformat()),
        )
    )


def has(stored: Any, value: Any) -> bool:
    return any(each == value for each in stored) if isinstance(stored, list) else stored == value


def fits(source: str, glob: str) -> bool:
    """A glob as a regular expression."""
    if not glob.startswith("/") and "://" not in glob:
        glob = "**/" + glob.removeprefix("./")
    if glob.endswith("/"):
        glob += "**"
    parts = re.split(r"(?<![^/])(\*\*/|\*\*\Z)|(\*+|\?)", glob)
    known = {"**/": "(?:[^/]*/)*", "?": "[^/]"}
    pattern = "".join(
        ("(?:[^/]*/)*[^/]*" if part == "**" and index % 3 == 1 else known.get(part, "[^/]*"))
        if index % 3
        else re.escape(part)
        for index, part in enumerate(parts)
        if part is not None
    )
    return re.fullmatch(pattern, source, re.DOTALL) is not None


texts = st.sampled_from([*NASTY, "a", "b", "v", "x"]) | st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
values = (
    texts | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
values = values | st.sampled_from([0, 1, 2024, -1.5e-07, 1e16])
days = st.none() | st.dates(date(2023, 12, 1), date(2024, 3, 1))
globs = st.lists(
    st.sampled_from(["**", "*", "?", "a", ".md", "/", "d", "*.md", "[x]", "%", '"', "\\", "é", ""]), min_size=1
)
filters = st.builds(
    Filter,
    sources=st.lists(st.sampled_from([*SOURCES, "/", "/d/sub", "/d.zip"]) | texts, max_size=2),
    paths=st.lists(globs.map("".join).filter(bool), max_size=2),
    where=st.dictionaries(st.just("key") | texts, values | st.lists(values, min_size=1, max_size=3), max_size=2),
    after=days,
    before=days,
    date_key=st.just("date") | texts,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(filters)
@example(Filter(where={"key": '" or source != "'}))
@example(Filter(where={'key"] == "a" or metadata["x': "v"}))
@example(Filter(sources=['" or source != "'], where={"key": "\\"}))
@example(Filter(after=date(2024, 1, 1), before=date(2024, 2, 1)))
@example(Filter(paths=["/d/*"], where={"key": [True, "a"]}))
def test_any_value_means_what_it_says_and_no_more(collection: Collection, filter: Filter) -> None:
    expected = [number for number, (source, metadata) in enumerate(ROWS) if admits(filter, source, metadata)]

    assert found(collection, filter) == expected


def test_each_stored_value_is_found_by_itself_alone(collection: Collection) -> None:
    for value in NASTY:
        filter = Filter(where={"key": value})
        assert found(collection, filter) == [
            n for n, (_, metadata) in enumerate(ROWS) if has(metadata.get("key"), value)
        ]
    for source in SOURCES:
        assert {ROWS[number][0] for number in found(collection, Filter(sources=source))} == {
            stored for stored in SOURCES if is_under(stored, source)
        }


@pytest.mark.parametrize(
    ("glob", "fitting"),
    [
        ("*.md", ["/x/a.md", "/x/docs/b.md", "/x/docs/faq/c.md"]),
        ("docs/*.md", ["/x/docs/b.md"]),
        ("docs/**/*.md", ["/x/docs/b.md", "/x/docs/faq/c.md"]),
        ("./docs/faq/?.md", ["/x/docs/faq/c.md"]),
        ("/x/*", ["/x/a.md", "/x/docs"]),
        ("docs/", ["/x/docs/b.md", "/x/docs/faq/c.md"]),
        ("docs/**", ["/x/docs/b.md", "/x/docs/faq/c.md"]),
        ("ocs/b.md", []),
        ("https://*/b.md", ["https://e.org/b.md"]),
        ("A.md", []),
    ],
)
def test_globs(glob: str, fitting: list[str]) -> None:
    sources = ["/x/a.md", "/x/docs", "/x/docs/b.md", "/x/docs/faq/c.md", "https://e.org/b.md"]
    if glob == "*.md":
        fitting = [*fitting, "https://e.org/b.md"]

    assert [source for source in sources if matches_glob(source, glob)] == fitting


def test_a_glob_of_many_stars_takes_no_time() -> None:
    assert not matches_glob("/" + "a/" * 500 + "a" * 500, "**/a/" * 20 + "*a" * 40 + "b")


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_a_search_finds_only_what_the_filter_admits(
    kites: tuple[KnowledgeBase, Path], mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    kb, folder = kites
    monkeypatch.chdir(folder)

    def names(filter: str | Filter) -> list[str]:
        hits = kb.search("red kite", filter=filter, mode=mode)
        return sorted(Path(chunk.source).name for hit in hits for chunk in (hit.chunk, *hit.others))

    assert names(Filter()) == names("") == ["black.md", "old.md", "red.md"]
    assert names(Filter(sources="docs/red.md")) == ["red.md"]
    assert names(Filter(paths=["docs/*.md"], where={"tags": "bird"})) == ["black.md", "red.md"]
    assert names(Filter(where={"tags": ["fork", "none"]}, expression='title == "Red"')) == ["red.md"]
    assert names(Filter(after=date(2024, 5, 1))) == ["red.md"]
    assert names(Filter(before=date(2024, 5, 1))) == ["black.md"]
    assert names(Filter(where={"date": date(2024, 5, 1)})) == ["red.md"]
    assert names(Filter(after=datetime(2024, 4, 1), paths="black.md")) == ["black.md"]
    assert names(Filter(paths="*.txt")) == []


@pytest.fixture(scope="module")
def kites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KnowledgeBase, Path]]:
    folder = tmp_path_factory.mktemp("kites")
    front = "---\ntitle: {}\ndate: {}\ntags: [{}]\n---\nThe red kite, or the black kite.\n"
    files = {
        "docs/red.md": front.format("Red", "2024-05-01", "bird, fork"),
        "docs/black.md": front.format("Black", "2024-04-30", "bird"),
        "docs/deep/old.md": "An old red kite.\n",
    }
    write(folder, files)
    with knowledge_base(folder / "kites.db") as kb:
        kb.sync(folder / "docs")
        yield kb, folder


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        (Filter(where={"n": float("nan")}), "no metadata has the value nan"),
        (Filter(where={"n": 1 << 63}), "number of 64 bits"),
        (Filter(where={"n": None}), "no metadata has the value None"),  # type: ignore[dict-item]
        (Filter(where={"n": []}), "where names no value for 'n'"),
        (Filter(paths=""), "glob cannot be empty"),
        (Filter(sources="caf\udce9"), "is no text that can be stored"),
        (Filter(after="2024"), "after and before are dates, not '2024'"),  # type: ignore[arg-type]
    ],
)
def test_a_value_that_cannot_be_used_is_named(filter: Filter, said: str) -> None:
    with pytest.raises(FilterError, match=re.escape(said)):
        filter.to_expression(list)


def test_conditions_of_the_command_line() -> None:
    assert parse_where(["a=b=c", "n=1.5", "t=true", "t=x", 'q="1"', "e=", "big=1e999"]) == {
        "a": ["b=c"],
        "n": ["1.5", 1.5],
        "t": ["true", True, "x"],
        "q": ['"1"'],
        "e": [""],
        "big": ["1e999"],
    }
    for bad in ("lang", "=en", ""):
        with pytest.raises(FilterError, match="is no condition: write KEY=VALUE"):
            parse_where([bad])
    with pytest.raises(FilterError, match="write it as YEAR-MONTH-DAY"):
        parse_date("31.5.2024")


@pytest.mark.parametrize(
    "expression", ["page > 3) or (page >= 0", "(page > 3", 'title == "a', "title == ')' or '", ")("]
)
def test_an_expression_cannot_leave_the_brackets_it_is_put_in(expression: str) -> None:
    with pytest.raises(FilterError, match="do not match"):
        Filter(expression=expression, where={"lang": "en"}).to_expression(list)


@pytest.mark.parametrize(
    "expression", ["(page > 3)", 'title == ")(" or text like "%(%"', r"""title == "it's \") (" """]
)
def test_a_whole_expression_goes_with_other_conditions(expression: str) -> None:
    together = Filter(expression=expression, where={"lang": "en"}).to_expression(list)
    assert together.startswith(f"({expression.strip()}) and (")


def test_a_date_with_midnight_bounds_days_too() -> None:
    day, midnight = date(2024, 4, 1), datetime(2024, 4, 1)
    assert Filter(after=midnight).to_expression(list) == Filter(after=day).to_expression(list)
    assert "T12:30" in Filter(after=datetime(2024, 4, 1, 12, 30)).to_expression(list)


def test_a_source_may_be_a_path() -> None:
    for path in (Path("/docs"), [Path("/docs")]):
        assert Filter(sources=path).to_expression(list) == Filter(sources="/docs").to_expression(list)


def test_an_expression_alone_stays_as_it_is() -> None:
    assert Filter(expression=" page > 3 ").to_expression(list) == "page > 3"
    assert Filter().to_expression(list) == ""


def test_a_quoted_string_has_only_escapes_that_milvus_lite_knows() -> None:
    assert set(re.findall(r"\\.", quote("".join(map(chr, range(0x3000)))))) == {r"\n", r"\r", r"\t", r"\"", r"\\"}
