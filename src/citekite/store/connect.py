"""A client of Milvus, the database that it works with, and a new collection there."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

from citekite.errors import UnknownCollection
from citekite.store import schema
from citekite.store.faults import quiet_milvus
from citekite.store.record import PROPERTY, CollectionRecord

CONNECT_SECONDS = 10
# Left alone, gRPC lets ever more time pass before it looks whether a server is back, up to two minutes.
_RECONNECTING = {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 1_000}


def connect(address: str, token: str) -> Any:
    """A `MilvusClient` for the address of a server or the path of an embedded database."""
    from pymilvus import MilvusClient

    quiet_milvus()
    with suppress(ModuleNotFoundError):
        # pymilvus runs it at the first search, where it is installed: two threads at once would get half of it.
        import_module("scipy.sparse")
    return MilvusClient(address, token=token, timeout=CONNECT_SECONDS, grpc_options=_RECONNECTING)


def use_database(client: Any, uri: str, database: str, *, create: bool) -> None:
    """Let the client work with that database, made with `create` where there is none; else `UnknownCollection`."""
    if database == "default":
        return
    databases = client.list_databases()
    if database not in databases:
        if not create:
            raise UnknownCollection(
                f"there is no database {database!r} at {uri} (there are: {', '.join(databases)}): "
                "`citekite sync` makes it"
            )
        client.create_database(database)
    client.use_database(database)


def make_collection(
    client: Any, physical: str, record: CollectionRecord, consistency: str, *, is_embedded: bool
) -> None:
    """Make an empty collection with its indexes; of one that an earlier attempt left half made, nothing stays."""
    # The embedded database is searched by the matrix beside it: a graph would cost time and memory for nothing.
    dense_index = "FLAT" if is_embedded else "AUTOINDEX"
    fields, indexes = schema.build(client, record.dimension, lexical=record.lexical, dense_index=dense_index)
    client.drop_collection(physical)
    client.create_collection(
        physical, schema=fields, consistency_level=consistency, properties={PROPERTY: record.to_json()}
    )
    client.create_index(physical, indexes, sync=False)
