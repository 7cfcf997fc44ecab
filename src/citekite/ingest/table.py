"""Tables: CSV, TSV and JSON Lines, where every row is a document of its own."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from citekite.errors import DocumentError
from citekite.ingest.base import LoadOptions, SourceFile, Warn, digest_of
from citekite.ingest.encoding import canonical, decode, one_line
from citekite.ingest.formats import suffix_of
from citekite.ingest.metadata import json_safe
from citekite.reports import Failure
from citekite.types import Document

Row = Mapping[str, Any]

_TEXT_COLUMNS = ("text", "content", "body", "passage", "answer")
_KEY_COLUMNS = ("_id", "id")
_DELIMITERS = (",", ";", "\t")
_SAMPLE = 1 << 16
_SAMPLE_ROWS = 20


def load_rows(
    file: SourceFile, kind: Literal["csv", "jsonl"], data: bytes, options: LoadOptions, warn: Warn
) -> Iterator[Document | Failure]:
    """A document a row, with the source `<file>#<key>`: the row's `_id` or `id`, else its number from 1.

    A row that is broken, without text, or has the key of an earlier one is a `Failure`. Raises `DocumentError` when
    the file is no table, or has no column `text_column`.
    """
    decoded = decode(data)
    if decoded.warning:
        warn(decoded.warning)
    del data
    rows = _csv_rows(decoded.text, suffix_of(file.name)) if kind == "csv" else _json_rows(decoded.text)
    seen: set[str] = set()
    checked = options.text_column is None
    number = 0
    for number, row in enumerate(rows, 1):
        if isinstance(row, str):
            yield Failure(f"{file.source}#{number}", row)
            continue
        if not checked:
            # Once for the file: a setting that is misspelt would fail every row.
            _require_column(row, options.text_column)
            checked = True
        key = _key(row) or str(number)
        source = f"{file.source}#{key}"
        if key in seen:
            yield Failure(
                source, f"row {number} has the key {key!r} of an earlier row; give every row an id of its own"
            )
            continue
        seen.add(key)
        try:
            yield _document(source, row, options)
        except DocumentError as error:
            yield Failure(source, str(error))
    if not number:
        raise DocumentError("it has no rows")


def _document(source: str, row: Row, options: LoadOptions) -> Document:
    column = _text_column(row, options)
    if column is None:
        text = "\n".join(f"{name}: {value}" for name in row if (value := _as_text(row[name]).strip()))
    else:
        text = _as_text(row[column])
    text = canonical(text)
    if not text.strip():
        raise DocumentError("it has no text" + (f" in column {column!r}" if column else ""))
    try:
        metadata = json_safe({name: value for name, value in row.items() if name not in (column, "title")})
    except DocumentError as error:
        hint = "; set text_column to the column with the text" if column is None else ""
        raise DocumentError(f"{error}{hint}") from None
    return Document(
        source=source,
        title=one_line(_as_text(row.get("title"))),
        text=text,
        digest=digest_of(json.dumps(row).encode(), options),
        format="row",
        metadata=metadata,
    )


def _text_column(row: Row, options: LoadOptions) -> str | None:
    if options.text_column is not None:
        _require_column(row, options.text_column)
        return options.text_column
    return next((name for name in _TEXT_COLUMNS if name in row), None)


def _require_column(row: Row, column: str | None) -> None:
    if column not in row:
        raise DocumentError(f"it has no column {column!r} (text_column); its columns are {', '.join(row)}")


def _key(row: Row) -> str:
    """The row's own key, empty where it has none that can stand in a source."""
    for name in _KEY_COLUMNS:
        value = row.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and (key := one_line(_as_text(value))):
            return key
    return ""


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _json_rows(text: str) -> Iterator[Row | str]:
    """The objects of the lines that are not blank; a string says why a line is none."""
    for line in io.StringIO(text):  # breaks at \n alone: JSON strings may hold the other separators of lines
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"the line is not valid JSON: {error}"
            continue
        yield row if isinstance(row, dict) else f"the line is not a JSON object but {one_line(line, 60)}"


def _csv_rows(text: str, suffix: str) -> Iterator[Row | str]:
    """The rows under the header; a string says why a row cannot be read."""
    # The limit holds for the process; any field may be as long as the file, whose size has a limit already.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    delimiter = "\t" if suffix == ".tsv" else _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = _columns(next((row for row in reader if row), []))
    except csv.Error as error:
        raise DocumentError(f"its header is not valid CSV: {error}") from None
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield f"the row that ends in line {reader.line_num} is not valid CSV: {error}"
            continue
        if fields is None:
            return
        if len(fields) > len(columns):
            yield f"the row has {len(fields)} fields, but the header has {len(columns)}"
        elif fields:
            yield dict(itertools.zip_longest(columns, fields, fillvalue=""))


def _columns(header: list[str]) -> list[str]:
    """Names for all columns, each once: a nameless one is named by its number, a repeated one numbered."""
    columns: dict[str, None] = {}  # in order, and each looked up at once: a header may have a hundred thousand
    for number, field in enumerate(header, 1):
        name = one_line(field) or f"column {number}"
        while name in columns:
            name = f"{name} {number}"
        columns[name] = None
    return list(columns)


def _delimiter(text: str) -> str:
    """The delimiter by which most of the first rows get as many fields as the header, and the most fields."""

    def agreement(delimiter: str) -> tuple[float, int]:
        reader = csv.reader(io.StringIO(text[:_SAMPLE], newline=""), delimiter=delimiter)
        rows = [row for row in itertools.islice(reader, _SAMPLE_ROWS) if row]
        if len(text) > _SAMPLE and len(rows) > 1:
            rows.pop()  # it may have been cut
        if not rows or len(rows[0]) < 2:
            return 0.0, 0
        return sum(len(row) == len(rows[0]) for row in rows) / len(rows), len(rows[0])

    return max(_DELIMITERS, key=agreement)
