"""Who asks, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from citekite.errors import AccessDenied

if TYPE_CHECKING:
    from starlette.requests import Request

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of an API key, or whoever uses a server without keys.

    `collections` are those it may use, empty for all. `groups` are those whose documents it may see besides the
    documents that are for everyone; None sees every document.
    """

    name: str
    scope: Scope
    collections: tuple[str, ...] = ()
    groups: frozenset[str] | None = None
    key_id: str = ""

    def require(self, scope: Scope) -> None:
        """Raise `AccessDenied` where the scope does not reach so far."""
        if SCOPES.index(self.scope) < SCOPES.index(scope):
            raise AccessDenied(f"the key {self.name!r} has the scope {self.scope!r}, and this needs {scope!r}")

    def may_use(self, collection: str) -> bool:
        """Whether the key is for a collection."""
        return not self.collections or collection in self.collections

    def require_collection(self, collection: str) -> None:
        """Raise `AccessDenied` for a collection that the key is not for."""
        if not self.may_use(collection):
            raise AccessDenied(f"the key {self.name!r} is not for the collection {collection!r}")


OWNER = Principal("local", "admin")
"""Whoever uses a server without keys on its own machine, or has read the server's token file."""


def caller_of(request: Request) -> Principal:
    """Who sent a request, as the guard found out; without it the request fails rather than being anyone's."""
    principal: Principal = request.state.principal
    return principal
