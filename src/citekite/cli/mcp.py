"""The command for MCP clients that start a process."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from citekite.cli.options import (
    ANSWER,
    BATCH,
    BULK,
    CHAT,
    CONTEXT,
    DEEP,
    EMBED,
    ENDPOINT,
    LOAD,
    MCP,
    RETRIEVE,
    SERVER,
    STORE,
    WATCH,
    takes_settings,
)
from citekite.cli.target import open_knowledge_base

if TYPE_CHECKING:
    from citekite.knowledge_base import KnowledgeBase
    from citekite.remote import RemoteKnowledgeBase


@takes_settings(
    *MCP, *RETRIEVE, *ANSWER, *DEEP, *LOAD, *EMBED, *BATCH, *CONTEXT, *CHAT, *ENDPOINT, *STORE, *BULK, *SERVER, *WATCH
)
def mcp(arguments: dict[str, Any]) -> None:
    """Serve the documents to an MCP client over standard input and output."""
    from citekite.serve.mcp.stdio import serve_stdio
    from citekite.settings import load_settings

    settings = load_settings(arguments).settings  # what is wrong with them is said now, and not at the first call

    def open_collection(name: str | None) -> AbstractContextManager[KnowledgeBase | RemoteKnowledgeBase]:
        return open_knowledge_base(arguments | ({"collection": name} if name else {}))

    serve_stdio(open_collection, may_sync=settings.mcp_sync)
