"""One writer at a time on a server, where no lock of the operating system keeps a second one out.

The writer leaves its name in the collection's properties and renews it while it works. Properties have no atomic
compare-and-set, so the name is read back after it was written: of two that start at once the later one goes on.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from typing import Any

from citekite.errors import StoreError
from citekite.store.faults import translated

PROPERTY = "citekite.writer"
# A writer on another machine that was silent for so long is taken for dead.
EXPIRY_SECONDS = 300.0
RENEW_SECONDS = 60.0

# The leases of this process whose writers are at work: one that could not be released, because the server was away,
# is in its properties still.
_at_work: set[str] = set()


class Lease:
    """The right to write to one collection; `take`, `renew` while working, `release`."""

    def __init__(self, client: Any, uri: str, physical: str) -> None:
        self._client = client
        self._uri = uri
        self._physical = physical
        self._id = uuid.uuid4().hex
        self._renewed = 0.0

    def take(self) -> None:
        """Become the writer; raises `StoreError` while another one is at work."""
        holder = self._holder()
        if holder and holder.get("id") != self._id and _is_alive(holder):
            raise StoreError(
                f"another sync writes to this collection (process {holder['pid']} on {holder['host']}): "
                "wait until it is done, or stop it and run the same command again"
            )
        _at_work.add(self._id)
        try:
            self._write()
            if self._holder().get("id") != self._id:
                raise StoreError("another sync began at the same moment: wait until it is done, then run this again")
        except BaseException:
            _at_work.discard(self._id)
            raise

    def renew(self) -> None:
        """Say that the writer is at work; cheap, as it is written once a minute."""
        if time.time() - self._renewed > RENEW_SECONDS:
            self._write()

    def release(self) -> None:
        """Let the next writer in."""
        _at_work.discard(self._id)
        self._store("")

    def _write(self) -> None:
        self._renewed = time.time()
        holder = {"id": self._id, "host": socket.gethostname(), "pid": os.getpid(), "at": self._renewed}
        self._store(json.dumps(holder))

    def _store(self, value: str) -> None:
        with translated("marking the writer", self._uri):
            self._client.alter_collection_properties(self._physical, properties={PROPERTY: value})

    def _holder(self) -> dict[str, Any]:
        with translated("reading the writer", self._uri):
            properties = self._client.describe_collection(self._physical).get("properties", {})
        text = properties.get(PROPERTY, "")
        return dict(json.loads(text)) if text else {}


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether a writer still works: its process, where it is on this machine, and its last sign of life."""
    if time.time() - holder["at"] > EXPIRY_SECONDS:
        return False
    if holder["host"] != socket.gethostname():
        return True
    if holder["pid"] == os.getpid():
        return holder["id"] in _at_work
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
