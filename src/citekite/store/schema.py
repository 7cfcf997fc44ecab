"""The Milvus schema: fields, limits in bytes, and the mapping between a chunk and a row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from citekite.errors import DocumentError
from citekite.retrieve.lexical import analyse
from citekite.store.rows import ACCESS, from_field, to_field
from citekite.types import Chunk

# Milvus counts VARCHAR and JSON limits in UTF-8 bytes (https://milvus.io/docs/limitations.md); Milvus Lite counts
# characters, so what it accepts a server may refuse: the limits are checked here for all.
MAX_VARCHAR = 65_535
MAX_SOURCE = 4_096
MAX_TITLE = 1_024
MAX_HEADING = 1_024
MAX_HEADINGS = 16
MAX_METADATA = 65_536
MAX_CONTEXT = 4_096
MAX_ACCESS = 4_200  # 64 groups with names of 64 characters, and the bars between them

CHUNK_FIELDS = (
    "id",
    "source",
    "title",
    "ordinal",
    "start",
    "end",
    "text",
    "headings",
    "line",
    "page",
    "metadata",
    "context",
    ACCESS,
)
DENSE = "dense"
LEXICAL = "lexical"
SPARSE = "sparse"


def build(client: Any, dimension: int, *, lexical: bool, dense_index: str = "AUTOINDEX") -> tuple[Any, Any]:
    """The collection schema and the index parameters; `lexical` adds the analysed text and Milvus' BM25 function."""
    from pymilvus import DataType, Function, FunctionType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, max_length=64, is_primary=True)
    schema.add_field("source", DataType.VARCHAR, max_length=MAX_SOURCE)
    schema.add_field("title", DataType.VARCHAR, max_length=MAX_TITLE)
    schema.add_field("ordinal", DataType.INT64)
    schema.add_field("start", DataType.INT64)
    schema.add_field("end", DataType.INT64)
    schema.add_field("line", DataType.INT64)
    schema.add_field("page", DataType.INT64)
    schema.add_field("text", DataType.VARCHAR, max_length=MAX_VARCHAR)
    schema.add_field(
        "headings",
        DataType.ARRAY,
        element_type=DataType.VARCHAR,
        max_length=MAX_HEADING,
        max_capacity=MAX_HEADINGS,
    )
    schema.add_field("metadata", DataType.JSON)
    schema.add_field("context", DataType.VARCHAR, max_length=MAX_CONTEXT)
    schema.add_field(ACCESS, DataType.VARCHAR, max_length=MAX_ACCESS)
    # The digest of the document that the row was written from, and how many rows that document has: together they
    # tell, without any other state, whether a document was stored completely.
    schema.add_field("digest", DataType.VARCHAR, max_length=64)
    schema.add_field("chunks", DataType.INT64)
    schema.add_field(DENSE, DataType.FLOAT_VECTOR, dim=dimension)
    indexes = client.prepare_index_params()
    indexes.add_index(DENSE, index_type=dense_index, metric_type="IP")
    if lexical:
        schema.add_field(
            LEXICAL,
            DataType.VARCHAR,
            max_length=MAX_VARCHAR,
            enable_analyzer=True,
            analyzer_params={"tokenizer": "standard"},
        )
        schema.add_field(SPARSE, DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(
            Function(
                name="bm25",
                function_type=FunctionType.BM25,
                input_field_names=[LEXICAL],
                output_field_names=[SPARSE],
            )
        )
        indexes.add_index(SPARSE, index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    return schema, indexes


def to_row(chunk: Chunk, digest: str, chunks: int, *, lexical: bool, contexts: bool, access: bool) -> dict[str, Any]:
    """The row of a chunk, without its vector; `contexts` and `access` tell whether the collection has fields for them.

    Raises `DocumentError` where a value is over Milvus' limits.
    """
    _check(chunk)
    row: dict[str, Any] = {
        "id": chunk.id,
        "source": chunk.source,
        "title": clip(chunk.title, MAX_TITLE),
        "ordinal": chunk.ordinal,
        "start": chunk.start,
        "end": chunk.end,
        "line": chunk.line,
        "page": chunk.page or 0,
        "text": chunk.text,
        "headings": [clip(heading, MAX_HEADING) for heading in chunk.headings[:MAX_HEADINGS]],
        "metadata": dict(chunk.metadata),
        "digest": digest,
        "chunks": chunks,
    }
    if contexts:
        row["context"] = clip(chunk.context, MAX_CONTEXT)
    if access:
        row[ACCESS] = to_field(chunk.access)
    elif chunk.access:  # never stored for everyone because there is no place to say for whom
        raise DocumentError("it has an access list, and the collection no field for it: `citekite reindex` adds it")
    if lexical:
        row[LEXICAL] = clip(analyse(chunk.indexed_text), MAX_VARCHAR)
    return row


def row_bytes(row: Mapping[str, Any]) -> int:
    """About as many bytes as a row takes in a request; texts count as UTF-8.

    >>> row_bytes({"id": "é", "headings": ["a", "b"], "metadata": {"n": 1}, "page": 3})
    20
    """
    return sum(map(_value_bytes, row.values()))


def _value_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8"))
    if isinstance(value, dict):
        return len(json.dumps(value, ensure_ascii=False).encode("utf-8"))
    if isinstance(value, list):
        return sum(map(_value_bytes, value))
    return int(getattr(value, "nbytes", 8))


def to_chunk(row: Mapping[str, Any]) -> Chunk:
    """The chunk of a row that was read with `CHUNK_FIELDS`."""
    metadata = row["metadata"]
    return Chunk(
        id=row["id"],
        source=row["source"],
        title=row["title"],
        ordinal=row["ordinal"],
        start=row["start"],
        end=row["end"],
        text=row["text"],
        headings=tuple(row["headings"]),
        line=row["line"],
        page=row["page"] or None,
        metadata=json.loads(metadata) if isinstance(metadata, str | bytes) else dict(metadata or {}),
        context=row.get("context", ""),
        access=from_field(row[ACCESS]) if ACCESS in row else (),
    )


def clip(text: str, limit: int) -> str:
    """The text cut to at most `limit` UTF-8 bytes, at a character's edge.

    >>> clip("données", 5)
    'donn'
    """
    encoded = text.encode("utf-8")
    return text if len(encoded) <= limit else encoded[:limit].decode("utf-8", "ignore")


def _check(chunk: Chunk) -> None:
    if (size := len(chunk.source.encode("utf-8"))) > MAX_SOURCE:
        raise DocumentError(f"the source's name has {size} bytes, the limit is {MAX_SOURCE}: shorten the path")
    if (size := len(chunk.text.encode("utf-8"))) > MAX_VARCHAR:
        raise DocumentError(f"a chunk has {size} bytes, the limit is {MAX_VARCHAR}: use a smaller chunk size")
    if (size := len(json.dumps(dict(chunk.metadata)).encode("utf-8"))) > MAX_METADATA:
        raise DocumentError(f"its metadata has {size} bytes, the limit is {MAX_METADATA}: shorten the front matter")
