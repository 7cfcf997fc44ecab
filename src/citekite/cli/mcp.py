"""The command for MCP clients that start a process."""

from __future__ import annotations

from typing import Any

from citekite.cli.options import (
    ANSWER,
    BATCH,
    CHAT,
    CONTEXT,
    DEEP,
    EMBED,
    ENDPOINT,
    LOAD,
    MCP,
    RETRIEVE,
    STORE,
    takes_settings,
)


@takes_settings(*MCP, *RETRIEVE, *ANSWER, *DEEP, *LOAD, *EMBED, *BATCH, *CONTEXT, *CHAT, *ENDPOINT, *STORE)
def mcp(arguments: dict[str, Any]) -> None:
    """Serve the documents to an MCP client over standard input and output."""
    from citekite.knowledge_base import KnowledgeBase
    from citekite.serve.mcp.stdio import serve_stdio
    from citekite.settings import load_settings

    settings = load_settings(arguments).settings  # what is wrong with them is said now, and not at the first call

    def open_collection(name: str | None) -> KnowledgeBase:
        return KnowledgeBase(**arguments | ({"collection": name} if name else {}))

    serve_stdio(open_collection, may_sync=settings.mcp_sync)
