"""Running the server until it is told to stop."""

from __future__ import annotations

from citekite.settings import Settings


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; raises `SettingsError` for an address that others reach while there is no key."""
    import uvicorn

    from citekite.serve.addresses import check_address
    from citekite.serve.app import create_app
    from citekite.serve.home import home_of
    from citekite.serve.keys import KeyStore

    check_address(settings, KeyStore(home_of(settings)))
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, log_level="info")
