"""Time limits for calls to a Milvus server: pymilvus waits for ever, or through 75 retries, where none is given."""

from __future__ import annotations

from functools import partial
from typing import Any

# A search of millions of rows takes well under a second; a server that is asked for longer is gone or overloaded.
READ_SECONDS = 30.0
# A flush and the loading of a large collection take minutes.
WRITE_SECONDS = 300.0

_READS = ("describe", "get", "has", "list", "query", "search")
_WRITES = (
    "alter",
    "create_alias",
    "create_collection",
    "create_database",
    "create_index",
    "delete",
    "drop",
    "flush",
    "load",
    "upsert",
)


class BoundedClient:
    """A `MilvusClient` whose calls to the server each end within a limit, their retries included."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name.startswith(_READS):
            return partial(method, timeout=READ_SECONDS)
        return partial(method, timeout=WRITE_SECONDS) if name.startswith(_WRITES) else method
