"""A citekite server on a real socket, in a thread of this process, for a test or a module of tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from citekite.serve.app import create_app
from citekite.serve.connections import Connection
from citekite.settings import Settings


@contextmanager
def serving(settings: Settings, app: FastAPI | None = None) -> Iterator[str]:
    """The address of a server with these settings, on a free port of 127.0.0.1; it is shut down at the end.

    A test that looks inside (`app.state.service`) hands in the application that it made.
    """
    # asyncio switches Nagle's algorithm off for sockets that say TCP; with it a reply takes 40 ms longer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    app = app or create_app(settings)
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5, http=Connection)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="served")
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server ended while it started"
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive(), "the server does not end"


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Return as soon as a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
