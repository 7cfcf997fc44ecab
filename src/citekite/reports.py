"""What commands on a collection tell of themselves: plans, counts, failures, progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from citekite.access import AccessList
from citekite.explanation import Purpose
from citekite.types import Usage


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or document that could not be taken in, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What a sync would do: documents by kind of change, chunks to add, keep, update and delete, texts to embed.

    `update` counts chunks whose place or metadata changed and whose vector is kept; `tokens` is an estimate;
    `cost` is None where no price is set. `contexts` counts the requests for contexts, `context_usage` estimates their
    tokens; `context_cost` is None unless both prices of the chat model are set.
    """

    new: int
    changed: int
    unchanged: int
    pruned: int
    add: int
    update: int
    keep: int
    delete: int
    texts: int
    tokens: int
    cost: float | None
    failures: tuple[Failure, ...] = ()
    warnings: tuple[Failure, ...] = ()
    contexts: int = 0
    context_usage: Usage = field(default_factory=Usage)
    context_cost: float | None = None


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did; the counts are those of `SyncPlan`, of what was really embedded, written and used."""

    new: int
    changed: int
    unchanged: int
    pruned: int
    added: int
    updated: int
    kept: int
    deleted: int
    texts: int
    seconds: float
    failures: tuple[Failure, ...] = ()
    warnings: tuple[Failure, ...] = ()
    contexts: int = 0
    context_usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class DocumentSummary:
    """A document in the index: its source, title, number of chunks, and the groups that may see it (none: everyone)."""

    id: str
    source: str
    title: str
    chunks: int
    access: AccessList = ()


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """What a collection holds and how it was made; `collections` are all names at the same address.

    `contextual` is the chat model that writes the contexts of its chunks, empty where they have none. `tuned` are the
    settings that `citekite tune` recorded with the collection, by name.
    """

    uri: str
    server: str
    collection: str
    collections: tuple[str, ...]
    documents: int
    chunks: int
    embedder: str
    dimension: int
    splitter: str
    contextual: str
    tuned: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long step is: `done` of `total` (None while unknown) things named `unit` in the stage `stage`."""

    stage: str
    done: int
    total: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What a copy or an import did: `sent` of the `chunks` were written now, `kept` by an earlier run.

    `removed` counts chunks of that run which the origin has no longer. `compared` chunks were read back and equal to
    the last bit of their vectors; `recall` is the share (0 to 1) of what searches find at the origin that they find in
    the copy too.
    """

    uri: str
    collection: str
    chunks: int
    sent: int
    kept: int
    removed: int
    compared: int
    recall: float
    has_lexical: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class FileReport:
    """A file that was written: how many chunks or files are in it, and its size in bytes."""

    path: str
    content: int
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What the calls of one model took on a day (ISO 8601, UTC), for one key and purpose.

    `estimated` counts those calls of which the endpoint did not say what they took; `cost` is None where no price of
    the model is known.
    """

    day: str
    key: str
    purpose: Purpose
    model: str
    calls: int
    estimated: int
    usage: Usage
    cost: float | None = None
