"""API keys: made once, stored as hashes, looked up at every request.

A key is `ck_<id>_<secret>` with 256 random bits in the secret. Its SHA-256 is stored. For a password that would be too
little, because passwords can be guessed and a fast hash lets one guess fast; nobody guesses 256 random bits, however
fast, so salt and a slow hash would protect nothing and cost every request its time.

Nothing is remembered between two look-ups: a key that another process revokes is refused from the next request on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal

from citekite.access import check_group
from citekite.errors import KeyRequired, SettingsError, StoreError
from citekite.serve.principal import Principal, Scope
from citekite.serve.private import make_private
from citekite.settings import COLLECTION_NAME

CREATE = "citekite keys create --name NAME --scope read"

# A name may be given again once its key was revoked; until then it says in the audit log which key it was.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash BLOB NOT NULL,
    scope TEXT NOT NULL,
    collections TEXT NOT NULL,
    groups TEXT NOT NULL,
    created TEXT NOT NULL,
    expires TEXT,
    revoked TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS names ON keys (name) WHERE revoked IS NULL;
"""
_COLUMNS = "id, name, scope, collections, groups, created, expires, revoked"
_KEY = re.compile(r"ck_([0-9a-f]{1,32})_(.+)", re.DOTALL)
_DURATION = re.compile(r"(\d{1,5})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
_NO_HASH = bytes(32)
_RULES = {
    "name": (re.compile(r"[\w.@+-][\w .@+-]{0,99}"), "1 to 100 letters, digits, spaces and . _ @ + -"),
    "collection": (re.compile(COLLECTION_NAME), "A-Z a-z 0-9 _, no digit first"),
}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; its secret is not. Times are UTC."""

    id: str
    name: str
    scope: Scope
    collections: tuple[str, ...]
    groups: tuple[str, ...]
    created: datetime
    expires: datetime | None
    revoked: datetime | None

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        """Whether the key is accepted, and if not, why."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and self.expires <= now else "active"

    def principal(self) -> Principal:
        """Who holds the key: an admin sees every document, others what is for everyone or for their groups."""
        groups = None if self.scope == "admin" else frozenset(self.groups)
        return Principal(self.name, self.scope, self.collections, groups, self.id)


class KeyStore:
    """The keys of a server, in the file `keys.sqlite` of its folder; several processes may use it at once."""

    def __init__(self, home: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = home / "keys.sqlite"
        self._clock = clock

    def exist(self) -> bool:
        """Whether a key was ever made, be it expired or revoked now: the last key gone must not open the server."""
        return self.path.exists()

    def active(self) -> bool:
        """Whether there is a key that is accepted."""
        return any(key.state(self._clock()) == "active" for key in self.list())

    def create(
        self,
        name: str,
        scope: Scope,
        *,
        collections: Sequence[str] = (),
        groups: Sequence[str] = (),
        expires: str | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key, and the text that its holder sends; nobody can read that text again.

        `expires` is a duration (`12h`, `30d`, `8w`) or a date (to its end, UTC). Raises `SettingsError` for a name that
        is taken or cannot be used, or a date that is past.
        """
        for group in groups:
            check_group(group)
        for option, words in (("name", (name,)), ("collection", collections)):
            pattern, allowed = _RULES[option]
            if wrong := [word for word in words if not pattern.fullmatch(word)]:
                raise SettingsError(f"--{option} cannot be {wrong[0]!r}: {allowed}")
        if scope == "admin" and groups:
            raise SettingsError("a key of scope admin sees every document: leave --group out, or use scope write")
        now = self._clock()
        end = expiry(expires, now) if expires else None
        key = ApiKey(secrets.token_hex(6), name, scope, tuple(collections), tuple(groups), now, end, None)
        secret = secrets.token_urlsafe(32)
        row = (*_row(key), _hash(secret))
        make_private(self.path)
        try:
            with self._connection() as connection:
                connection.execute(f"INSERT INTO keys ({_COLUMNS}, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise SettingsError(
                f"there is a key {name!r} already: choose another name, or revoke it (citekite keys revoke)"
            ) from None
        return key, f"ck_{key.id}_{secret}"

    def list(self) -> tuple[ApiKey, ...]:
        """All keys, also those that are expired or revoked, the oldest first."""
        if not self.exist():
            return ()
        return tuple(map(_key, self._rows(f"SELECT {_COLUMNS} FROM keys ORDER BY created, id")))

    def revoke(self, name_or_id: str) -> ApiKey:
        """Refuse a key from now on; raises `SettingsError` where no key that is not revoked has the name or id."""
        found = [key for key in self.list() if name_or_id in (key.id, key.name) and not key.revoked]
        if not found:
            raise SettingsError(f"there is no key {name_or_id!r} to revoke: citekite keys list shows the keys")
        with self._connection() as connection:
            connection.execute("UPDATE keys SET revoked = ? WHERE id = ?", (_text(self._clock()), found[0].id))
        return found[0]

    def find(self, text: str) -> Principal:
        """Who holds the key; raises `KeyRequired` for one that is unknown, expired or revoked.

        Only who has the secret learns that a key is expired or revoked. The time that it takes does not depend on the
        secret: hashes of equal length are compared, and as much is done for an id that does not exist.
        """
        match = _KEY.fullmatch(text)
        id, secret = match.groups() if match else ("", text)
        rows = self._rows(f"SELECT {_COLUMNS}, hash FROM keys WHERE id = ?", id) if self.exist() else []
        right = hmac.compare_digest(rows[0][-1] if rows else _NO_HASH, _hash(secret))
        if not rows or not right:
            raise KeyRequired("the API key is not known here: check that it is whole, and meant for this server")
        key = _key(rows[0][:-1])
        state = key.state(self._clock())
        if state != "active":
            when = _text(key.revoked or key.expires)
            raise KeyRequired(f"the API key {key.name!r} is {state} since {when}: ask for a new one")
        return key.principal()

    def _rows(self, statement: str, *values: str) -> Sequence[tuple[Any, ...]]:
        with self._connection() as connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction: a file that another process replaced or took away is noticed."""
        try:
            connection = sqlite3.connect(self.path, timeout=5)
            try:
                connection.executescript(_SCHEMA)
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise StoreError(f"the keys in {self.path} cannot be read: {error}") from None


def expiry(text: str, now: datetime) -> datetime:
    """When a key ends: after a duration (`12h`, `30d`, `8w`), or with the end of a date in UTC.

    >>> expiry("30d", datetime(2026, 1, 1, tzinfo=UTC)).isoformat()
    '2026-01-31T00:00:00+00:00'
    >>> expiry("2026-01-31", datetime(2026, 1, 1, tzinfo=UTC)).isoformat()
    '2026-02-01T00:00:00+00:00'
    """
    if match := _DURATION.fullmatch(text):
        end = now + timedelta(hours=int(match[1]) * _HOURS[match[2]])
    else:
        try:
            end = datetime.combine(datetime.strptime(text, "%Y-%m-%d") + timedelta(days=1), time(), UTC)
        except (ValueError, OverflowError):
            raise SettingsError(f"--expires cannot be {text!r}: give a date (2027-01-31) or 12h, 30d, 8w") from None
    if end <= now:
        raise SettingsError(f"--expires {text!r} is past: such a key would never be accepted")
    return end


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def _row(key: ApiKey) -> tuple[str | None, ...]:
    lists = (json.dumps(key.collections), json.dumps(key.groups))
    return (key.id, key.name, key.scope, *lists, *map(_text, (key.created, key.expires, key.revoked)))


def _key(row: Sequence[Any]) -> ApiKey:
    id, name, scope, collections, groups, *moments = row
    created, expires, revoked = (datetime.fromisoformat(text) if text else None for text in moments)
    assert created
    return ApiKey(id, name, scope, tuple(json.loads(collections)), tuple(json.loads(groups)), created, expires, revoked)
