"""Running the server until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from citekite import __version__
from citekite.errors import CitekiteError, DatabaseLocked, SettingsError, UnknownCollection
from citekite.remote.beside import running_server
from citekite.serve.principal import OWNER
from citekite.serve.service import Service
from citekite.settings import Settings
from citekite.store.address import RunningServer, announce, withdraw
from citekite.store.embedded import database_path, is_embedded

if TYPE_CHECKING:
    import uvicorn

# What runs may take so long to end by itself when the server is told to stop; then it is cancelled. Docker kills a
# container 10 s after it was told.
GRACE_SECONDS = 5.0
# So much later connections are cut, whatever they wait for.
CUT_SECONDS = 8


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; then accept nothing more, and let what runs end, or cancel it.

    Raises `SettingsError` for an address that cannot be listened on, or that others reach while there is no key, and
    `DatabaseLocked` where another server has the database.
    """
    import uvicorn

    from citekite.home import home_of
    from citekite.serve.addresses import check_address
    from citekite.serve.app import create_app
    from citekite.serve.connections import Connection
    from citekite.serve.keys import KeyStore
    from citekite.serve.logs import set_up_logs

    if (other := running_server(settings.uri)) is not None:
        raise DatabaseLocked(
            f"{settings.uri} is open in {other} already: go to that address, or stop it first (kill {other.pid})"
        )
    check_address(settings, KeyStore(home_of(settings)))
    set_up_logs(settings)
    app = create_app(settings)
    service: Service = app.state.service
    if service.home.exists():  # what a server before left half done is seen to, and that no other one uses the folder
        service.jobs  # noqa: B018
    with _stoppable(), _listening(settings) as listener:
        url = address_of(settings.host, listener.getsockname()[1])
        line = f"citekite serves {_library(service)} at {url}/ ({_terms(service)}); Ctrl-C stops it"
        with _announced(settings, url, service.local_token):
            print(line, flush=True)
            threading.Thread(target=_warm_up, args=(service,), daemon=True).start()
            config = uvicorn.Config(
                app, log_config=None, access_log=False, timeout_graceful_shutdown=CUT_SECONDS, http=Connection
            )
            graceful_server(config, service).run([listener])


def graceful_server(config: uvicorn.Config, service: Service) -> uvicorn.Server:
    """A server that begins to close the service when it is told to stop, not when all connections have ended."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            closing = asyncio.gather(service.workers.close(GRACE_SECONDS), asyncio.to_thread(service.stop_jobs))
            await super().shutdown(sockets)
            await closing

    return Server(config)


def address_of(host: str, port: int) -> str:
    """The address at which this machine reaches a server that listens on a host.

    >>> address_of("0.0.0.0", 8080), address_of("::1", 80)
    ('http://127.0.0.1:8080', 'http://[::1]:80')
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM end what is inside in order, which is no failure.

    uvicorn hands the signal on when it has shut down, and SIGTERM would end the process on the spot.
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """A socket that listens already: whoever reads the address may connect, and waits until the app is up.

    It names its protocol, because asyncio switches off Nagle's algorithm only where it sees TCP: with it, a reply to
    a client that keeps its connection takes 40 ms longer.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reason = str(error.strerror).partition(" (")[0]
        raise SettingsError(
            f"{settings.host}:{settings.port} cannot be listened on ({reason}): "
            "choose another --port (0 takes a free one) or --host"
        ) from None
    with listener:
        yield listener


@contextmanager
def _announced(settings: Settings, url: str, token: str) -> Iterator[None]:
    """The address and a token of the server beside the embedded database, for the other commands on it."""
    if not is_embedded(settings.uri):
        yield
        return
    database = database_path(settings.uri)
    server = RunningServer(url, token, os.getpid(), __version__)
    announce(server, database)
    try:
        yield
    finally:
        withdraw(server, database)


def _warm_up(service: Service) -> None:
    """Spare the first question the second or two that models and clients take to load."""
    with suppress(CitekiteError):  # what is wrong is told to whoever asks
        service.knowledge_base(OWNER).warm_up()


def _library(service: Service) -> str:
    """What is served, which also opens the database: that it is locked or damaged shows before anyone connects."""
    name = service.settings.collection
    try:
        count = service.knowledge_base(OWNER).status().documents
    except UnknownCollection:
        return f"the collection {name!r}, which is empty so far,"
    return f"the collection {name!r} with {count:,} document{'s' * (count != 1)}"


def _terms(service: Service) -> str:
    """Who may come, and who writes the answers."""
    keys = "every request needs a key" if service.keys_required else "no key is needed"
    return f"{keys}; {service.model or 'no chat model'}"
