"""The connections to a model endpoint: a wait on one ends when nobody waits for the reply, or it takes too long."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from citekite import cancel

if TYPE_CHECKING:
    import ssl

    import httpcore2
    import httpx2

# `timeout` bounds each silence; this many times of it bounds a whole reply, also of an endpoint that drips bytes or
# sends nothing but comments that keep the connection alive.
TOTAL_TIMEOUTS = 10


def bounded(client: httpx2.Client, seconds: float) -> httpx2.Client:
    """The client, with connections on which a reply may take `seconds` and a cancelled wait ends (`citekite.cancel`).

    httpx2 hands no network backend down to its pools, so it is put into them. A transport of our own would have to
    repeat what httpx2 does: proxies of the environment, certificates, the names of its errors.
    """
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            pool: Any = transport._pool  # type: ignore[attr-defined]
            pool._network_backend = _Backend(pool._network_backend, seconds)
    return client


class _Backend:
    """Opens the connections as the backend behind it does."""

    # Structurally a network backend: to inherit from httpcore's class, it would have to be imported with this module.
    def __init__(self, backend: httpcore2.NetworkBackend, seconds: float) -> None:
        self._backend = backend
        self._seconds = seconds

    def connect_tcp(self, *arguments: Any, **named: Any) -> _Stream:
        stream = self._backend.connect_tcp(*arguments, **named)
        try:
            cancel.check()
        except cancel.Cancelled:
            stream.close()
            raise
        return _Stream(stream, self._seconds)

    def sleep(self, seconds: float) -> None:
        cancel.sleep(seconds)


class _Stream:
    """One connection. What is written after a reply is the next request, and its time begins."""

    def __init__(self, stream: httpcore2.NetworkStream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._ends = math.inf
        self._replying = True

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        import httpcore2

        self._replying = True
        silent_until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            cancel.check()
            now = time.monotonic()
            if now >= self._ends:
                raise httpcore2.ReadError(f"the reply was not whole after {self._seconds:g} s")
            patience = min(silent_until, self._ends) - now
            if cancel.cancellable():
                patience = min(patience, cancel.SLICE_SECONDS)
            try:
                # A read that timed out has lost nothing: what came of a TLS record waits for the next one.
                return self._stream.read(max_bytes, None if patience == math.inf else max(patience, 0.001))
            except httpcore2.ReadTimeout:
                if time.monotonic() >= silent_until:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        cancel.check()
        if self._replying:
            self._replying, self._ends = False, time.monotonic() + self._seconds
        self._stream.write(buffer, timeout)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Stream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._seconds)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
