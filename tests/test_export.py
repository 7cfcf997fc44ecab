"""A collection as a Parquet file: what comes back is what went in, and what is wrong is told by row and column."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from citekite.cli.app import app
from citekite.errors import ArchiveError, CollectionExists, SettingsError, StoreError
from citekite.store.milvus import MilvusStore
from citekite.store.writer import Entry
from citekite.transfer import parquet_origin
from citekite.transfer.fill import fill
from citekite.transfer.origin import Stored, StoredOrigin
from citekite.transfer.parquet import KEY, export
from citekite.transfer.parquet_origin import ParquetOrigin
from citekite.types import Chunk
from moving import DIMENSION, RECORD, contents, make, record, silent, stored

ROWS = 40


class Given(StoredOrigin):
    """Rows that are in no database."""

    def __init__(self, rows: Sequence[Stored]) -> None:
        self.name, self.record, self.chunks, self._given = "given", RECORD, len(rows), rows

    def batches(self) -> Iterator[Sequence[Stored]]:
        for start in range(0, len(self._given), 7):
            yield self._given[start : start + 7]

    def is_unchanged(self) -> bool:
        return True


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uri = tmp_path_factory.mktemp("source") / "source.db"
    make(uri, ROWS)
    return uri


@pytest.fixture(scope="module")
def file(source: Path) -> Path:
    """The collection of `source`, exported."""
    return exported(source, source.with_name("birds.parquet"))


def exported(uri: Path, file: Path, **options: bool) -> Path:
    with MilvusStore(str(uri)) as store:
        origin = StoredOrigin(store.open("citekite"), "birds")
        done = export(origin, "citekite", file, **{"replacing": False, **options}, report=silent)
    assert (done.path, done.content, done.size) == (str(file), origin.chunks, file.stat().st_size)
    return file


def imported(file: Path, uri: Path, *, replacing: bool = False) -> Any:
    with MilvusStore(str(uri)) as store:
        return fill(ParquetOrigin(file), store, "citekite", replacing=replacing, report=silent)


def test_a_collection_comes_back_as_it_was(source: Path, file: Path, tmp_path: Path) -> None:
    """With vectors, access lists and what the collection says about itself."""
    done = imported(file, tmp_path / "back.db")

    assert (done.chunks, done.sent, done.compared, done.recall) == (ROWS, ROWS, ROWS, 1.0)
    assert contents(tmp_path / "back.db") == contents(source)
    assert replace(record(tmp_path / "back.db"), version="") == replace(record(source), version="")
    with pytest.raises(CollectionExists, match="--replace"):
        imported(file, tmp_path / "back.db")
    assert imported(file, tmp_path / "back.db", replacing=True).sent == ROWS


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
numbers = st.integers(0, 2**40)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
chunks = st.builds(
    Chunk,
    id=st.uuids().map(str),
    source=words,
    title=words,
    ordinal=numbers,
    start=numbers,
    end=numbers,
    text=words,
    headings=st.lists(words, max_size=4).map(tuple),
    line=numbers,
    page=st.none() | st.integers(1, 10_000),
    metadata=st.dictionaries(words, values, max_size=3),
    context=words,
    access=st.sets(st.from_regex(r"[a-z0-9_.@-]{1,8}", fullmatch=True).filter(lambda name: name != "everyone")).map(
        lambda names: tuple(sorted(names))
    ),
)
vectors = st.lists(st.floats(-1, 1, width=32), min_size=DIMENSION, max_size=DIMENSION).map(
    lambda numbers: np.array(numbers, dtype=np.float32)
)
entries = st.builds(Entry, chunk=chunks, digest=st.text("0123456789abcdef", min_size=1, max_size=64), chunks=numbers)
rows = st.lists(st.tuples(entries, vectors), max_size=20, unique_by=lambda row: row[0].chunk.id)


@given(rows=rows)
@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_read_from_a_file_is_what_was_written(rows: list[Stored], tmp_path: Path) -> None:
    file = tmp_path / "law.parquet"
    export(Given(rows), "law", file, replacing=True, report=silent)

    origin = ParquetOrigin(file)
    origin.check(lambda done: None)

    found = [row for batch in origin.batches() for row in batch]
    assert (origin.record, origin.chunks) == (RECORD, len(rows))
    assert [entry for entry, _ in found] == [entry for entry, _ in rows]
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(found, rows, strict=True))


def test_other_tools_read_the_file(file: Path) -> None:
    entry, vector = stored(5)
    frame = pandas.read_parquet(file).set_index("id")
    row = frame.loc[entry.chunk.id]
    assert (len(frame), row.text, row.page, list(row.access)) == (ROWS, entry.chunk.text, 2, ["hr", "legal_2"])
    assert np.array_equal(np.array(row.vector), vector)
    assert pandas.isna(frame.loc[stored(0)[0].chunk.id].page)

    nearest = "array_inner_product(vector::FLOAT[8], ?::FLOAT[8]) DESC"
    query = f"SELECT id, metadata->>'lang' FROM read_parquet(?) ORDER BY {nearest} LIMIT 1"
    assert duckdb.execute(query, [str(file), vector.tolist()]).fetchall() == [(entry.chunk.id, "en")]


def test_the_commands_say_what_they_did(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file, uri = "birds.parquet", str(shutil.copytree(source, tmp_path / "own.db"))
    exporting = ["export", file, "--uri", uri, "--quiet"]
    runs = [
        CliRunner().invoke(app, arguments)
        for arguments in (exporting, exporting, ["import", file, "--uri", "./other.db", "-q"], ["import", "x.parquet"])
    ]

    assert [run.exit_code for run in runs] == [0, 2, 0, 3]
    assert re.fullmatch(r"exported 40 chunks to birds\.parquet, \d+\.\d kB in \d+\.\d s\n", runs[0].stdout)
    assert runs[1].stderr.startswith("citekite: birds.parquet exists already: give another name, or --force")
    assert re.fullmatch(
        r"imported 40 chunks to collection 'citekite' at \./other\.db: 40 sent, in \d+\.\d s\n"
        r"checked: 40 chunks on both sides, 40 compared and equal, searches agree to 100\.0%\n",
        runs[2].stdout,
    )
    assert runs[3].stderr == "citekite: there is no file 'x.parquet': `citekite export` writes one\n"


def test_rows_are_written_in_groups_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citekite.transfer.parquet._GROUP_BYTES", 10 * 4 * DIMENSION)
    file = tmp_path / "groups.parquet"
    export(Given([stored(number) for number in range(25)]), "x", file, replacing=False, report=silent)

    groups = pq.ParquetFile(file).metadata
    assert [groups.row_group(place).num_rows for place in range(groups.num_row_groups)] == [14, 11]


def changed(column: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    """The table with another value in one place."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row - 1] = value
        place, field = table.schema.get_field_index(column), table.schema.field(column)
        return table.set_column(place, field.with_nullable(True), pa.array(values, field.type))

    return change


def facts(**values: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        said = {**json.loads(table.schema.metadata[KEY]), **values}
        return table.replace_schema_metadata({KEY: json.dumps(said)})

    return change


NOT_FINITE = [*[0.0] * (DIMENSION - 1), float("inf")]
WRONG: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "foreign": (lambda table: table.replace_schema_metadata({}), r"is no export of a collection"),
    "newer": (facts(format=2), r"has version 2 of the format, and this citekite reads up to 1: upgrade citekite"),
    "no record": (facts(record=None, format="x"), r"'citekite.export' in its schema cannot be read"),
    "column gone": (lambda table: table.drop_columns(["text"]), r"has no column 'text'"),
    "type": (
        lambda table: table.set_column(3, "ordinal", table["ordinal"].cast(pa.string())),
        r"the column 'ordinal' is string, and has to be int64",
    ),
    "dimension": (
        facts(record={**json.loads(RECORD.to_json()), "dimension": 9}),
        r"the column 'vector' is fixed_size_list<element: float>\[8\], and has to be .*\[9\]",
    ),
    "no value": (changed("text", 33, None), r"row 33, column 'text': it has no value"),
    "no vector": (changed("vector", 2, None), r"row 2, column 'vector': it has no value"),
    "not finite": (changed("vector", 34, NOT_FINITE), r"row 34, column 'vector': it has a value that is no finite"),
    "twice": (changed("id", 35, stored(1)[0].chunk.id), r"row 35, column 'id': '0000000000000000-0001' stands in an e"),
    "id": (changed("id", 7, "x" * 65), r"row 7, column 'id': 'x+' has to have 1 to 64 bytes"),
    "no JSON": (changed("metadata", 3, "{"), r"row 3, column 'metadata': it is no JSON \(Expecting"),
    "no object": (changed("metadata", 3, "[]"), r"row 3, column 'metadata': it is no JSON object"),
    "group": (changed("access", 4, ["a b"]), r"row 4, column 'access': 'a b' is no name of a group"),
    "no heading": (changed("headings", 4, ["a", None]), r"row 4, column 'headings': it lists something without"),
    "title": (changed("title", 5, "x" * 1025), r"row 5, column 'title': it is longer than a collection can hold"),
    "page": (changed("page", 5, 0), r"row 5, column 'page': it is .* not a value of its kind"),
    "text": (changed("text", 6, "x" * 65536), r"row 6: a chunk has 65536 bytes, the limit is 65535"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_file_is_told_before_anything_is_stored(
    kind: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_origin, "GET_ROWS", 16)  # so that rows are counted over several batches
    make_wrong, message = WRONG[kind]
    pq.write_table(make_wrong(pq.read_table(file)), tmp_path / "wrong.parquet")

    with pytest.raises(ArchiveError, match=message):
        imported(tmp_path / "wrong.parquet", tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_damaged_or_none_is_told(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="there is no file"):
        ParquetOrigin(tmp_path / "missing.parquet")
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ArchiveError, match="cannot be read as Parquet"):
        ParquetOrigin(damaged)
    content = bytearray(file.read_bytes())
    start = pq.ParquetFile(file).metadata.row_group(0).column(15).data_page_offset
    content[start + 200] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"damaged\.parquet is damaged: .*; take another copy of it"):
        ParquetOrigin(damaged).check(lambda done: None)


def test_a_file_appears_when_it_is_complete_and_replaces_none_unasked(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"

    class Broken(Given):
        def is_unchanged(self) -> bool:
            assert not target.exists()
            return False

    with pytest.raises(StoreError, match="given was changed while it was exported"):
        export(Broken([stored(1)]), "x", target, replacing=False, report=silent)
    assert list(tmp_path.iterdir()) == []

    target.write_text("mine")
    with pytest.raises(SettingsError, match=r"out\.parquet exists already: give another name, or --force"):
        exported(source, target)
    assert target.read_text() == "mine"
    assert ParquetOrigin(exported(source, target, replacing=True)).chunks == ROWS
    assert list(tmp_path.iterdir()) == [target]


def test_an_import_that_broke_off_is_continued_also_from_a_corrected_file(file: Path, tmp_path: Path) -> None:
    uri = tmp_path / "x.db"

    class Interrupted(ParquetOrigin):
        def nearest(self, vectors: Any, limit: int) -> Any:
            raise KeyboardInterrupt

    with MilvusStore(str(uri)) as store, pytest.raises(KeyboardInterrupt):
        fill(Interrupted(file), store, "citekite", replacing=False, report=silent)
    corrected = tmp_path / "corrected.parquet"
    pq.write_table(changed("text", 6, "Corrected.")(pq.read_table(file)).slice(0, ROWS - 1), corrected)

    done = imported(corrected, uri)

    assert (done.sent, done.kept, done.removed) == (1, ROWS - 2, 1)
    assert sorted(entry.chunk.text for entry, _ in contents(uri).values())[-1] == "Corrected."
