"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import json
from typing import Any


def sse(name: str, values: dict[str, Any]) -> str:
    """One event with JSON as its data.

    >>> sse("Delta", {"text": "é"})
    'event: Delta\\ndata: {"text": "é"}\\n\\n'
    """
    return f"event: {name}\ndata: {json.dumps(values, ensure_ascii=False)}\n\n"
