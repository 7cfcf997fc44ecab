"""The audit log: one line of JSON for every write, and for every key that was made or revoked."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from citekite.errors import SettingsError
from citekite.home import make_home
from citekite.serve.principal import Principal
from citekite.serve.private import make_private

logger = logging.getLogger(__name__)


class Audit:
    """The file `audit.jsonl` of a server's folder; lines are only ever added, and hold neither secrets nor texts."""

    def __init__(self, home: Path) -> None:
        self.path = home / "audit.jsonl"

    def record(
        self, principal: Principal, action: str, target: str, outcome: int | str, request_id: str | None = None
    ) -> None:
        """Add a line: who (name and id of the key) did what to what, and how it ended (an HTTP status, or a word).

        The file is opened for each line, so that it may be moved away while the server runs, and written in one piece,
        so that lines of several processes do not mix. What is to be recorded has happened by then: a disk that is full
        is an error in the log, and not one of the request.
        """
        values = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "name": principal.name,
            "key_id": principal.key_id,
            "action": action,
            "target": target,
            "outcome": outcome,
            "request_id": request_id,
        }
        line = f"{json.dumps(values)}\n".encode()
        try:
            make_home(self.path.parent)
            descriptor = os.open(make_private(self.path), os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except (OSError, SettingsError) as error:
            logger.error("no line in the audit log for %s of %s: %s", action, target, error)
