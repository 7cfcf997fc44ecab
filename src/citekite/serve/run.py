"""Running the server until it is told to stop."""

from __future__ import annotations

from citekite.settings import Settings


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM."""
    import uvicorn

    from citekite.serve.app import create_app

    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, log_level="info")
