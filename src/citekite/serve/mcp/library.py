"""What the tools work on, the same over both transports."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from citekite.knowledge_base import KnowledgeBase
from citekite.serve.principal import Principal
from citekite.serve.workers import Workers


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

    def opened(self, caller: Principal, collection: str | None) -> AbstractContextManager[KnowledgeBase]:
        """A collection as this caller may see it, by default that of the settings; raises `AccessDenied`."""
        ...

    def record(self, caller: Principal, action: str, target: str, outcome: str) -> None:
        """Note who changed what, and how it ended."""
        ...
