"""Finding the server that has an embedded database of this machine open."""

from __future__ import annotations

from citekite.errors import CitekiteError
from citekite.remote.client import ServerClient
from citekite.store.address import RunningServer, read_address
from citekite.store.embedded import database_path, is_embedded

# A server answers who the caller is at once, also when all its threads are at work.
PROBE_SECONDS = 5.0


def running_server(uri: str) -> RunningServer | None:
    """The server that has the database of this URI open and lets in whoever has the token that it left beside it."""
    server = read_address(database_path(uri)) if is_embedded(uri) else None
    if server is None:
        return None
    with ServerClient(server.url, server.token, silence=PROBE_SECONDS, retry_seconds=0, direct=True) as client:
        try:
            client.get("me", dict)
        except CitekiteError:  # a process that has taken the number, or the port, of one that was killed
            return None
    return server
