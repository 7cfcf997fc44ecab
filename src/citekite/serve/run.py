"""Running the server until it is told to stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from citekite.settings import Settings

if TYPE_CHECKING:
    from socket import socket

    import uvicorn

    from citekite.serve.service import Service

# What runs may take so long to end by itself when the server is told to stop; then it is cancelled. Docker kills a
# container 10 s after it was told.
GRACE_SECONDS = 5.0
# So much later connections are cut, whatever they wait for.
CUT_SECONDS = 8


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; then accept nothing more, and let what runs end, or cancel it.

    Raises `SettingsError` for an address that others reach while there is no key.
    """
    import uvicorn

    from citekite.serve.addresses import check_address
    from citekite.serve.app import create_app
    from citekite.serve.home import home_of
    from citekite.serve.keys import KeyStore

    check_address(settings, KeyStore(home_of(settings)))
    app = create_app(settings)
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, log_level="info", timeout_graceful_shutdown=CUT_SECONDS
    )
    with suppress(KeyboardInterrupt):  # uvicorn hands the signal on when it has shut down
        graceful_server(config, app.state.service).run()


def graceful_server(config: uvicorn.Config, service: Service) -> uvicorn.Server:
    """A server that begins to close the service when it is told to stop, not when all connections have ended."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket] | None = None) -> None:
            closing = asyncio.ensure_future(service.workers.close(GRACE_SECONDS))
            await super().shutdown(sockets)
            await closing

    return Server(config)
