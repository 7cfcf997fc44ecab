"""Milvus Lite, a Milvus server or Zilliz Cloud: connecting, and the collections that are there.

A collection's name is an alias of a numbered generation (`citekite` of `citekite__1`), so that a reindex can build the
next one beside it and swap.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from citekite.errors import StoreError, UnknownCollection
from citekite.preload import preload
from citekite.settings import Settings
from citekite.store import embedded
from citekite.store.bulk import Imports, Staging
from citekite.store.collection import Collection
from citekite.store.connect import connect, make_collection, use_database
from citekite.store.durable import sync_tree
from citekite.store.faults import translated
from citekite.store.gate import changing
from citekite.store.limits import BoundedClient, patiently
from citekite.store.record import PROPERTY, CollectionRecord
from citekite.store.search_index import forget_indexes, shared_index
from citekite.store.segments import keep_segments_well

PATIENCE_SECONDS = 60.0
# A property of a generation that takes the name, as long as others are still to be dropped.
_SWAP = "citekite.swap"
_GENERATION = re.compile(r"(?P<name>.+)__(?P<number>\d+)")


class MilvusStore:
    """A connection to one database; opens on first use and closes with `close` or as a context manager.

    An embedded database is made only when something is created in it: a question never leaves an empty one behind.
    """

    def __init__(
        self,
        uri: str,
        *,
        token: str = "",
        database: str = "default",
        consistency: str = "Session",
        patience: float = PATIENCE_SECONDS,
        staging: Staging | None = None,
    ) -> None:
        self.uri = uri
        self._token = token
        self._database = database
        self._consistency = consistency
        self._patience = patience
        self._staging = staging
        self._path: Path | None = embedded.database_path(uri) if embedded.is_embedded(uri) else None
        self._client: Any = None
        self._session = 0  # in which the client was opened
        self._lock = threading.RLock() if self._path is None else embedded.opening(self._path)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The store that the settings name."""
        token = settings.token.get_secret_value() if settings.token else ""
        return cls(
            settings.uri,
            token=token,
            database=settings.database,
            consistency=settings.consistency,
            patience=settings.store_seconds,
            staging=Staging(settings.bulk_storage, settings.bulk_rows) if settings.bulk_storage else None,
        )

    @property
    def path(self) -> Path | None:
        """The folder of an embedded database, None for a server."""
        return self._path

    def exists(self) -> bool:
        """Whether there is a database to connect to (always True for a server)."""
        return self._path is None or self._path.exists()

    def preload(self) -> None:
        """Import Milvus' client in the background: half a second in which files are read and first texts embedded."""
        preload("pymilvus", *([] if self._path is None else ["milvus_lite"]))

    def open(self, name: str) -> Collection:
        """The collection of that name, loaded; raises `UnknownCollection` with the names that there are."""
        if not self.exists():
            raise UnknownCollection(f"there is no database at {self.uri} yet: `citekite sync FOLDER` makes it")
        physical = self._resolve(name)
        if physical is None:
            raise UnknownCollection(self._unknown(name))
        return self._load(name, physical)

    def find(self, name: str) -> Collection | None:
        """The collection of that name, or None where there is none yet, or not even the Milvus database."""
        if not self._present() or (physical := self._resolve(name)) is None:
            return None
        return self._load(name, physical)

    def create(self, name: str, record: CollectionRecord) -> Collection:
        """A new empty collection under that name; generations without the name, left by a killed run, are dropped."""
        self._connected(create=True)
        self._drop_others(name, "")
        collection = self.create_generation(name, 1, record)
        self.swap(name, 1)
        return collection

    def names(self) -> list[str]:
        """The names of the collections that citekite made, sorted."""
        return sorted({found["name"] for found in map(_GENERATION.fullmatch, self._present()) if found})

    def generation(self, name: str) -> int:
        """The number of the generation that the name stands for."""
        physical = self._resolve(name)
        if physical is None:
            raise UnknownCollection(self._unknown(name))
        return int(physical.rpartition("__")[2])

    def find_generation(self, name: str, number: int) -> Collection | None:
        """That generation of a collection, or None: what an unfinished reindex left is found here."""
        physical = f"{name}__{number}"
        return self._load(name, physical) if physical in self._present() else None

    def create_generation(self, name: str, number: int, record: CollectionRecord) -> Collection:
        """A new empty generation, not yet under the collection's name."""
        client = self._connected(create=True)
        physical = f"{name}__{number}"
        lexical = self._path is None and self._has_full_text()
        record = replace(record, lexical=lexical).renewed()
        self._clear_remains(name)  # Milvus Lite makes no collection where there is a folder of that name
        with self._changing(f"creating collection {name!r}"):
            make = partial(
                make_collection, client, physical, record, self._consistency, is_embedded=self._path is not None
            )
            patiently(make, self.uri, self._patience)
        return self._load(name, physical)

    def swap(self, name: str, number: int) -> None:
        """Let the name, new or in use, stand for that generation; drop all others, also those of killed runs."""
        chosen = f"{name}__{number}"
        if self._resolve(name) is None:
            with self._changing("naming the collection"):
                patiently(lambda: self._give_name(chosen, name), self.uri, self._patience)
            self._drop_others(name, chosen)
            return
        self._mark_swap(chosen, "unfinished")
        with self._changing("swapping the collection"):
            self._connected().alter_alias(chosen, name)
        if self._path is not None:
            sync_tree(self._path)  # else a power cut could bring the old name back, and not what it stood for
        self.finish_swap(name)

    def finish_swap(self, name: str) -> bool:
        """Do the rest of a swap whose process was killed after the name had moved; returns whether there was one."""
        chosen = self._resolve(name)
        if chosen is None:
            return False
        with translated("swapping the collection", self.uri):
            if not self._connected().describe_collection(chosen).get("properties", {}).get(_SWAP):
                return False
        self._drop_others(name, chosen)
        self._mark_swap(chosen, "")
        return True

    def drop_generation(self, name: str, number: int) -> None:
        """Drop a generation that the name does not stand for."""
        self._drop_physical(f"{name}__{number}")

    def drop(self, name: str) -> None:
        """Drop a collection with all its chunks."""
        physical = self._resolve(name)
        if physical is None:
            raise UnknownCollection(self._unknown(name))
        with self._changing(f"dropping collection {name!r}"):
            self._connected().drop_alias(name)
        self._drop_physical(physical)

    def server_version(self) -> str:
        """What the server says it is, such as `v2.6.1` or `milvus_lite-3.2.2`."""
        with translated("asking for the version", self.uri):
            return str(self._connected().get_server_version())

    def close(self) -> None:
        """Close the connection; an embedded database is free for other processes afterwards."""
        with self._lock:
            client, self._client = self._client, None
            if client is not None:
                self._release(client)

    def abandon(self) -> None:
        """Let go without the flush that closing makes; only after a full disk (see `embedded.abandon`)."""
        if self._path is not None and self._client is not None:
            embedded.abandon(self._path, self._session)

    @property
    def session(self) -> int:
        """A number that changes when the embedded database is abandoned: collections from before are of no use."""
        return 0 if self._path is None else embedded.session(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _changing(self, action: str) -> Iterator[None]:
        """Change inside which collections there are."""
        with changing(self.uri), translated(action, self.uri):
            yield

    def _connected(self, *, create: bool = False) -> Any:
        if self._client is None or self._session != self.session:
            with self._lock:
                if self._session != self.session:
                    self.close()
                self._client = self._client or self._open(create=create)
        return self._client

    def _open(self, *, create: bool) -> Any:
        try:
            return self._connect(create=create)
        except StoreError:
            if self._path is not None:
                embedded.check(self._path)  # another process may have been faster: that is said in its own words
            raise

    def _connect(self, *, create: bool) -> Any:
        if self._path is not None:
            embedded.check(self._path)
        address = self.uri if self._path is None else str(self._path)
        with translated("connecting", self.uri):
            client = connect(address, self._token)
            if self._path is None:
                client = BoundedClient(client, self.uri, self._patience)
            else:
                self._session = embedded.hold(self._path)
                keep_segments_well()
                with embedded.frugal():
                    client.list_collections()  # which reads them all
            try:
                use_database(client, self.uri, self._database, create=create)
            except BaseException:
                self._release(client)
                raise
        return client

    def _release(self, client: Any) -> None:
        client.close()
        if self._path is not None and embedded.release(self._path, self._session):
            forget_indexes(self._indexes().parent)

    def _present(self) -> list[str]:
        """As `_physical_names`; none where there is no database yet, or not that one of the server's."""
        try:
            return self._physical_names() if self.exists() else []
        except UnknownCollection:
            return []

    def _physical_names(self) -> list[str]:
        with translated("listing collections", self.uri):
            return list(self._connected().list_collections())

    def _generations(self, name: str) -> list[str]:
        matches = map(_GENERATION.fullmatch, self._physical_names())
        return [found.string for found in matches if found and found["name"] == name]

    def _resolve(self, name: str) -> str | None:
        """The generation that a name stands for. An alias is looked up in the list, because an unknown one is an error
        whose text differs between servers."""
        names = self._physical_names()
        for physical in names:
            found = _GENERATION.fullmatch(physical)
            if found and found["name"] == name and name in self._aliases(physical):
                return physical
        if name in names:
            raise StoreError(f"collection {name!r} at {self.uri} was not made by citekite: use another --collection")
        return None

    def _aliases(self, physical: str) -> list[str]:
        with translated("reading aliases", self.uri):
            return list(self._connected().list_aliases(physical)["aliases"])

    def _give_name(self, physical: str, name: str) -> None:
        if name not in self._aliases(physical):  # Milvus Lite refuses to give a name twice
            self._connected().create_alias(physical, name)

    def _load(self, name: str, physical: str) -> Collection:
        client = self._connected()
        with translated(f"loading collection {name!r}", self.uri):
            description = client.describe_collection(physical)
        # A collection that was closed comes back released, also in the embedded database.
        try:
            with translated(f"loading collection {name!r}", self.uri):
                client.load_collection(physical)
        except StoreError:
            if self._path is None:
                raise
            # Milvus Lite writes an index in place: one that a kill or a full disk cut short cannot be read.
            embedded.clear_indexes(self._path, self._database, physical)
            with translated(f"loading collection {name!r}", self.uri):
                client.load_collection(physical)
        record = CollectionRecord.from_json(description.get("properties", {}).get(PROPERTY, ""), name)
        index = shared_index(self._indexes() / physical) if self._path is not None else None
        imports = Imports(self.uri, self._database, self._token) if self._path is None else None
        return Collection(client, self.uri, physical, record, self._consistency, index, imports, self._staging)

    def _indexes(self) -> Path:
        """The folder with the search indexes beside the embedded database."""
        assert self._path is not None
        return self._path.with_name(f"{self._path.name}.index") / self._database

    def _drop_physical(self, physical: str) -> None:
        with self._changing("dropping a collection"):
            self._connected().drop_collection(physical)
        if self._path is not None:
            shared_index(self._indexes() / physical).drop()

    def _drop_others(self, name: str, chosen: str) -> None:
        for physical in self._generations(name):
            if physical != chosen:
                self._drop_physical(physical)
        self._clear_remains(name)

    def _clear_remains(self, name: str) -> None:
        """Delete the files that a process left which was killed while it made or dropped a generation."""
        if self._path is not None:
            there = self._generations(name)
            for root in (embedded.collections_folder(self._path, self._database), self._indexes()):
                for folder in root.glob(f"{name}__*"):
                    if re.fullmatch(r"\d+", folder.name.removeprefix(f"{name}__")) and folder.name not in there:
                        shutil.rmtree(folder)

    def _mark_swap(self, physical: str, mark: str) -> None:
        with self._changing("swapping the collection"):
            self._connected().alter_collection_properties(physical, properties={_SWAP: mark})

    def _has_full_text(self) -> bool:
        """Full text search came with Milvus 2.5; a version that cannot be read is taken for a newer one."""
        found = re.search(r"(\d+)\.(\d+)", self.server_version())
        return found is None or (int(found[1]), int(found[2])) >= (2, 5)

    def _unknown(self, name: str) -> str:
        names = self.names()
        there = f"there are: {', '.join(names)}" if names else "there is none yet"
        return f"there is no collection {name!r} at {self.uri} ({there}): `citekite sync FOLDER` makes it"
