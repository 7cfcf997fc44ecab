"""What a collection says about itself; kept as one JSON value in its Milvus properties."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, replace

from citekite.errors import StoreError

PROPERTY = "citekite.record"
SCHEMA_VERSION = 3


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """Embedder, dimension and splitter of a collection, and the version of its content.

    `version` changes with every write, so that an index derived from the collection can tell whether it is current.
    `english_chunks` of `counted_chunks` sampled chunks looked English: the weight of the lexical leg depends on it.
    `contextual` is the chat model that writes the contexts of its chunks, empty where they have none. `schema_version`
    1 had no field for contexts, 1 and 2 none for access lists; such a collection is read and written as it is, until
    a reindex makes it anew.
    `lexical_weight`, `k` and `abstain_threshold` are what tuning on questions about the collection found better than
    the defaults, None where nothing did.
    """

    embedder: str
    dimension: int
    english_only: bool
    splitter: str
    lexical: bool = True
    version: str = ""
    english_chunks: int = 0
    counted_chunks: int = 0
    contextual: str = ""
    lexical_weight: float | None = None
    k: int | None = None
    abstain_threshold: float | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def mostly_english(self) -> bool:
        """Whether at least half of the chunks that were written looked English (True for an empty collection)."""
        return 2 * self.english_chunks >= self.counted_chunks

    @property
    def has_contexts(self) -> bool:
        """Whether the collection has a field for contexts."""
        return self.schema_version >= 2

    @property
    def has_access(self) -> bool:
        """Whether the collection has a field for access lists; without it all documents are for everyone."""
        return self.schema_version >= 3

    @property
    def tuned(self) -> dict[str, float]:
        """What tuning recorded, by the name of the setting."""
        values = {"lexical_weight": self.lexical_weight, "k": self.k, "abstain_threshold": self.abstain_threshold}
        return {name: value for name, value in values.items() if value is not None}

    def renewed(self) -> CollectionRecord:
        """The same record under a new content version."""
        return replace(self, version=uuid.uuid4().hex)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, collection: str) -> CollectionRecord:
        """The record in a collection's properties.

        Raises `StoreError` where citekite did not make the collection, or one that is newer than this did.
        """
        try:
            values = json.loads(text)
            version = values["schema_version"]
        except (ValueError, TypeError, KeyError):
            raise StoreError(f"collection {collection!r} was not made by citekite: use another --collection") from None
        try:
            record = cls(**values)
        except TypeError:
            record = None
        if record is None or version > SCHEMA_VERSION:
            raise StoreError(
                f"collection {collection!r} was made by a newer citekite (schema version {version}, this one reads up "
                f"to {SCHEMA_VERSION}): upgrade citekite, or use another --collection"
            )
        return record
