"""What models took, by day, key, purpose and model; in SQLite, so that it outlives the server and every key."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from citekite.errors import CitekiteError, ServerError
from citekite.explanation import ModelUse
from citekite.home import make_home
from citekite.reports import UsageRow
from citekite.serve.principal import Principal
from citekite.serve.private import make_private
from citekite.types import Usage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    day TEXT NOT NULL,
    key_id TEXT NOT NULL,
    key TEXT NOT NULL,
    purpose TEXT NOT NULL,
    model TEXT NOT NULL,
    calls INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (day, key_id, key, purpose, model)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?)
ON CONFLICT DO UPDATE SET calls = calls + 1, estimated = estimated + excluded.estimated,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens
"""
_ROWS = """
SELECT day, key, purpose, model, sum(calls), sum(estimated), sum(prompt_tokens), sum(completion_tokens) FROM usage
WHERE day BETWEEN ? AND ? AND (? IS NULL OR (key_id, key) = (?, ?))
GROUP BY day, key, purpose, model ORDER BY day, key, purpose, model
"""

logger = logging.getLogger(__name__)


class Ledger:
    """The file `usage.sqlite` of a server's folder; other processes may read it. Days are UTC."""

    def __init__(self, home: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = home / "usage.sqlite"
        self._clock = clock
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def add(self, principal: Principal, use: ModelUse) -> None:
        """Add a call to the account of a key; that it cannot be written down is an error in the log alone."""
        day = self._clock().date().isoformat()
        counts = (int(use.estimated), use.usage.prompt_tokens, use.usage.completion_tokens)
        try:
            with self._lock:
                self._opened().execute(_ADD, (day, principal.key_id, principal.name, use.purpose, use.model, *counts))
        except (sqlite3.Error, CitekiteError) as error:
            logger.error(
                "the tokens of a call of %s for %s are not in the account: %s", use.model, principal.name, error
            )

    def rows(self, since: str = "", until: str = "9999", principal: Principal | None = None) -> list[UsageRow]:
        """The account from a day to another (ISO 8601, both included), of one key or of all, by day and key."""
        if not self.path.exists():
            return []
        key = (None, None, None) if principal is None else (1, principal.key_id, principal.name)
        try:
            with self._lock:
                found = self._opened().execute(_ROWS, (since, until, *key)).fetchall()
        except sqlite3.Error as error:
            raise ServerError(f"the account in {self.path} cannot be read: {error}") from None
        return [
            UsageRow(day, name, purpose, model, calls, estimated, Usage(prompt, completion))
            for day, name, purpose, model, calls, estimated, prompt, completion in found
        ]

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            make_home(self.path.parent)
            database = sqlite3.connect(make_private(self.path), check_same_thread=False, isolation_level=None)
            # A power cut may take the last calls along, never the file; a write then waits for no disk.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_SCHEMA)
            self._database = database
        return self._database
