"""What the tools work on, the same over both transports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from citekite.events import Event
from citekite.knowledge_base import KnowledgeBase
from citekite.remote import RemoteKnowledgeBase
from citekite.reports import SyncReport
from citekite.serve.principal import Principal
from citekite.serve.workers import Workers
from citekite.types import Retrieval

T = TypeVar("T")
Knowledge = KnowledgeBase | RemoteKnowledgeBase


class Library(Protocol):
    """The knowledge bases that a server of tools opens for its callers."""

    @property
    def workers(self) -> Workers:
        """The threads in which the tools work."""
        ...

    @property
    def may_sync(self) -> bool:
        """Whether there is a tool that syncs, for those who may write."""
        ...

    def use(self, caller: Principal, collection: str | None, function: Callable[[Knowledge], T]) -> T:
        """What a function makes of a collection as this caller may see it, by default that of the settings.

        Raises `AccessDenied`.
        """
        ...

    def sync(self, call: Call, sources: tuple[str, ...], *, prune: bool) -> SyncReport:
        """Bring the collection of a call to the state of the sources; raises `KeyboardInterrupt` when it is stopped."""
        ...

    def searched(self, found: Retrieval) -> None:
        """Count a search."""
        ...

    def watched(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events of an answer, counted."""
        ...

    def record(self, caller: Principal, action: str, target: str, outcome: str) -> None:
        """Note who changed what, and how it ended."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """What a tool is called with besides its arguments: the opened collection, and whether to give up."""

    library: Library
    caller: Principal
    kb: Knowledge
    stopped: Callable[[], bool]
