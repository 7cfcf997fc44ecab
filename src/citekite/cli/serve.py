"""The command that serves: web page, HTTP API, OpenAI-compatible endpoint, MCP."""

from __future__ import annotations

from typing import Any

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
    LOG,
    MCP,
    PRICE,
    RETRIEVE,
    SERVE,
    STORE,
    WATCH,
    takes_settings,
)


@takes_settings(
    *SERVE,
    *MCP,
    *RETRIEVE,
    *ANSWER,
    *DEEP,
    *LOAD,
    *EMBED,
    *BATCH,
    *CONTEXT,
    *CHAT,
    *PRICE,
    *ENDPOINT,
    *STORE,
    *BULK,
    *WATCH,
    *LOG,
)
def serve(arguments: dict[str, Any]) -> None:
    """Serve a web page, an HTTP API, an OpenAI-compatible endpoint and MCP."""
    from citekite.serve.run import run
    from citekite.settings import load_settings

    run(load_settings(arguments).settings)
