"""User metadata as JSON: what YAML, tables and documents bring, made safe to store, within the store's limit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, time
from typing import Any

from citekite.errors import DocumentError
from citekite.ingest.encoding import canonical

# A JSON field of Milvus holds at most 65,536 bytes.
MAX_BYTES = 65_536
_MAX_DEPTH = 32
_INT64 = range(-(1 << 63), 1 << 63)


def json_safe(metadata: Mapping[Any, Any]) -> dict[str, Any]:
    """Metadata with nothing in it but JSON's own types; dates become ISO strings.

    Raises `DocumentError` when the result has more than 64 KB as JSON, or is nested without end.

    >>> json_safe({"date": date(2024, 5, 1), "tags": ("a", "b"), 1: None})
    {'date': '2024-05-01', 'tags': ['a', 'b'], '1': None}
    """
    # Every value takes at least two bytes, so the limit also ends what YAML aliases multiply.
    budget = iter(range(MAX_BYTES // 2))
    safe = {_key(key): _safe(value, budget, 1) for key, value in metadata.items()}
    size = len(json.dumps(safe, ensure_ascii=False).encode())
    if size > MAX_BYTES:
        raise DocumentError(f"its metadata takes {size} bytes as JSON, over the limit of {MAX_BYTES}")
    return safe


def _safe(value: Any, budget: Any, depth: int) -> Any:
    if next(budget, None) is None or depth > _MAX_DEPTH:
        raise DocumentError(f"its metadata is nested too deeply or takes over {MAX_BYTES} bytes as JSON")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return canonical(value)
    if isinstance(value, int):
        return value if value in _INT64 else f"{value:#x}"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_key(key): _safe(item, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(item, budget, depth + 1) for item in value]
    return canonical(str(value))


def _key(key: object) -> str:
    return canonical(key.isoformat() if isinstance(key, date) else str(key))
