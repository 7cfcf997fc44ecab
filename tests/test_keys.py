"""API keys: made once, stored as hashes, refused when they are unknown, expired or revoked; and their commands."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.errors import KeyRequired, SettingsError, StoreError
from citekite.serve import keys as keys_module
from citekite.serve.audit import Audit
from citekite.serve.keys import KeyStore, expiry
from citekite.serve.principal import OWNER, Principal
from commands import as_json, citekite

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> KeyStore:
    return KeyStore(tmp_path / "home", clock)


# Keys


def test_a_key_finds_who_holds_it(store: KeyStore) -> None:
    key, text = store.create("ci", "write", collections=["handbook"], groups=["hr", "legal"])

    assert store.find(text) == Principal("ci", "write", ("handbook",), frozenset({"hr", "legal"}), key.id)


def test_a_key_without_groups_sees_documents_for_everyone_and_an_admin_key_all(store: KeyStore) -> None:
    assert store.find(store.create("reader", "read")[1]).groups == frozenset()
    assert store.find(store.create("boss", "admin")[1]).groups is None


def test_a_key_has_256_random_bits_and_only_their_hash_is_stored(store: KeyStore) -> None:
    key, text = store.create("ci", "read")
    prefix, id, secret = text.split("_", 2)

    assert (prefix, id, len(secret)) == ("ck", key.id, 43)
    content = store.path.read_bytes()
    assert secret.encode() not in content
    assert hashlib.sha256(secret.encode()).digest() in content
    assert secret not in f"{key!r}{store!r}{store.list()!r}{store.find(text)!r}{vars(store)!r}"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda text: "",
        lambda text: "ck_",
        lambda text: text[:-1],
        lambda text: f"{text}A",
        lambda text: text.upper(),
        lambda text: text.replace("ck_", "sk_"),
        lambda text: f" {text}",
        lambda text: text + "\n",
        lambda text: re.sub("_[0-9a-f]+_", "_000000000000_", text),
        lambda text: f"ck_' OR 1=1 --_{text[-43:]}",
        lambda text: "ck_\udcff_\udcff",
    ],
)
def test_a_key_that_is_not_quite_right_is_unknown(store: KeyStore, wrong: Callable[[str], str]) -> None:
    text = wrong(store.create("ci", "read")[1])

    with pytest.raises(KeyRequired, match="not known here") as refused:
        store.find(text)
    assert len(text) < 10 or text not in str(refused.value)


@given(st.text())
def test_no_text_is_a_key_by_chance(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    store = KeyStore(tmp_path_factory.getbasetemp() / "keys-by-chance")
    if not store.exist():
        store.create("ci", "read")

    with pytest.raises(KeyRequired):
        store.find(text)


def test_hashes_are_compared_in_constant_time_also_for_an_id_that_does_not_exist(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = store.create("ci", "read")
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys_module, "hmac", type("Watched", (), {"compare_digest": staticmethod(compare)}))
    store.find(text)
    for wrong in (f"{text[:-1]}!", "ck_000000000000_x", "no key"):
        with pytest.raises(KeyRequired):
            store.find(wrong)

    assert compared == [(32, 32)] * 4


def test_a_key_is_refused_from_the_moment_that_it_expires(store: KeyStore, clock: Clock) -> None:
    _, text = store.create("ci", "read", expires="30d")
    clock.now += timedelta(days=30, seconds=-1)
    assert store.find(text).name == "ci"

    clock.now += timedelta(seconds=1)
    with pytest.raises(KeyRequired, match=r"'ci' is expired since 2026-03-31T12:00:00\+00:00: ask for a new one"):
        store.find(text)
    assert store.exist()
    assert not store.active()


def test_only_who_has_the_secret_learns_that_a_key_is_revoked(store: KeyStore) -> None:
    key, text = store.create("ci", "read")
    store.revoke("ci")

    with pytest.raises(KeyRequired, match="'ci' is revoked since"):
        store.find(text)
    with pytest.raises(KeyRequired, match="not known here"):
        store.find(f"ck_{key.id}_guessed")


def test_a_revocation_by_another_process_holds_at_once(store: KeyStore) -> None:
    """Another object is what another process would have: nothing is shared but the file."""
    key, text = store.create("ci", "read")
    store.find(text)
    KeyStore(store.path.parent).revoke(key.id)

    with pytest.raises(KeyRequired):
        store.find(text)


def test_the_last_key_revoked_leaves_a_server_that_needs_keys(store: KeyStore) -> None:
    assert not store.exist()
    store.create("ci", "read")
    store.revoke("ci")

    assert store.exist()
    assert not store.active()


def test_a_name_is_taken_until_its_key_is_revoked(store: KeyStore) -> None:
    first, _ = store.create("ci", "read")
    with pytest.raises(SettingsError, match="there is a key 'ci' already"):
        store.create("ci", "read")
    store.revoke("ci")
    second, _ = store.create("ci", "read")

    assert {key.id for key in store.list()} == {first.id, second.id}
    assert store.revoke("ci").id == second.id
    with pytest.raises(SettingsError, match="no key 'ci' to revoke"):
        store.revoke("ci")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": ""}, "--name cannot be ''"),
        ({"name": "a\nb"}, "--name cannot be"),
        ({"name": "x" * 101}, "--name cannot be"),
        ({"groups": ["everyone"]}, "'everyone' is no group"),
        ({"groups": ["a,b"]}, "'a,b' is no name of a group"),
        ({"collections": ["my-docs"]}, "--collection cannot be 'my-docs'"),
        ({"scope": "admin", "groups": ["hr"]}, "sees every document: leave --group out"),
        ({"expires": "2026-02-28"}, "is past"),
        ({"expires": "0d"}, "is past"),
        ({"expires": "soon"}, "--expires cannot be 'soon'"),
        ({"expires": "9999-12-31"}, "--expires cannot be '9999-12-31'"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(store: KeyStore, values: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)):
        store.create(**{"name": "ci", "scope": "read", **values})  # type: ignore[arg-type]
    assert not store.exist()


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("12h", "2026-03-02T00:00:00+00:00"),
        ("30d", "2026-03-31T12:00:00+00:00"),
        ("2w", "2026-03-15T12:00:00+00:00"),
        ("2026-03-01", "2026-03-02T00:00:00+00:00"),
        ("2026-12-31", "2027-01-01T00:00:00+00:00"),
    ],
)
def test_a_key_ends_after_a_duration_or_with_the_end_of_a_date(text: str, end: str) -> None:
    assert expiry(text, NOW).isoformat() == end


def test_file_and_folder_are_for_their_owner_alone(store: KeyStore) -> None:
    store.create("ci", "read")

    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_others_may_read_is_closed_to_them(store: KeyStore) -> None:
    store.create("ci", "read")
    store.path.chmod(0o644)
    store.create("other", "read")

    assert store.path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    KeyStore(tmp_path).create("ci", "read")

    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match=r"file/home/keys\.sqlite cannot be written"):
        KeyStore(tmp_path / "file" / "home").create("ci", "read")


def test_a_broken_file_refuses_everyone(store: KeyStore) -> None:
    _, text = store.create("ci", "read")
    store.path.write_bytes(b"no database, but long enough to be looked at" * 100)

    for look in (store.active, store.list, lambda: store.find(text)):
        with pytest.raises(StoreError, match=r"the keys in .*keys\.sqlite cannot be read: "):
            look()


def test_a_file_that_was_made_and_not_filled_opens_nothing(store: KeyStore) -> None:
    store.path.parent.mkdir()
    store.path.touch()

    assert store.exist()
    assert store.list() == ()
    with pytest.raises(KeyRequired):
        store.find("ck_000000000000_x")


def test_several_processes_make_keys_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from citekite.serve.keys import KeyStore\n"
        "for number in range(10): KeyStore(Path()).create(f'{sys.argv[1]}{number}', 'read')"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, prefix], cwd=tmp_path) for prefix in "abc"]

    assert [process.wait(30) for process in running] == [0, 0, 0]
    assert len(KeyStore(tmp_path).list()) == 30


def test_a_key_is_found_while_another_process_writes(store: KeyStore) -> None:
    _, text = store.create("ci", "read")
    writer = sqlite3.connect(store.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE keys SET name = 'other'")

    assert store.find(text).name == "ci"
    writer.execute("ROLLBACK")
    writer.close()


def test_the_database_holds_what_it_says_it_does(store: KeyStore) -> None:
    store.create("ci", "read", collections=["handbook"])
    with sqlite3.connect(store.path) as connection:
        rows = connection.execute("SELECT name, scope, collections, length(hash) FROM keys").fetchall()
    connection.close()

    assert rows == [("ci", "read", '["handbook"]', 32)]


# The audit log


def test_the_audit_log_says_who_did_what_to_what(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "home")
    audit.record(Principal("ci", "write", key_id="abc"), "upload", "documents\nforged", 202, "request-1")
    audit.record(OWNER, "create key", "ci (abc)", "done")

    first, second = map(json.loads, audit.path.read_text().splitlines())
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {
        "name": "ci",
        "key_id": "abc",
        "action": "upload",
        "target": "documents\nforged",
        "outcome": 202,
        "request_id": "request-1",
    }
    assert (second["name"], second["outcome"]) == ("local", "done")
    assert audit.path.stat().st_mode & 0o777 == 0o600


def test_an_audit_log_that_cannot_be_written_is_an_error_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    Audit(tmp_path).record(OWNER, "sync", "docs", 202)

    assert "no line in the audit log for sync of docs" in caplog.text


# The commands


def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    made = citekite(
        tmp_path, "keys", "create", "--name", "ci", "--scope", "write", "--collection", "a", "--group", "hr"
    )
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    assert re.fullmatch(r"ck_[0-9a-f]{12}_[\w-]{43}", text)
    assert "shown once" in made.stderr
    assert "Authorization: Bearer" in made.stderr
    assert "from now on the server wants a key" in made.stderr

    home = tmp_path / "citekite.db.serve"
    assert KeyStore(home).find(text).groups == frozenset({"hr"})
    listed = citekite(tmp_path, "keys", "list")
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert lines[0] == ["id", "name", "scope", "collections", "groups", "created", "expires", "state"]
    assert (lines[1][1:5], lines[1][-2:]) == (["ci", "write", "a", "hr"], ["-", "active"])
    assert listed.stdout.endswith("\n1 key\n")

    revoked = citekite(tmp_path, "keys", "revoke", "ci")
    assert revoked.stdout == f"revoked ci ({text.split('_')[1]})\n"
    [row] = as_json(citekite(tmp_path, "keys", "list", "--json"))
    assert (row["name"], row["state"], row["groups"]) == ("ci", "revoked", ["hr"])

    actions = [json.loads(line)["action"] for line in (home / "audit.jsonl").read_text().splitlines()]
    assert actions == ["create key", "revoke key"]
    secret = text.split("_", 2)[2].encode()
    everything = [path.read_bytes() for path in home.iterdir()] + [listed.stdout.encode(), json.dumps(row).encode()]
    assert not any(secret in content for content in everything)


def test_a_key_is_made_for_the_folder_of_the_settings(tmp_path: Path) -> None:
    made = as_json(
        citekite(
            tmp_path, "keys", "create", "--name", "ci", "--expires", "30d", "--json", CITEKITE_DATA_DIR="elsewhere"
        )
    )

    assert KeyStore(tmp_path / "elsewhere").find(made["key"]) == Principal("ci", "read", (), frozenset(), made["id"])
    assert made["expires"]


def test_errors_of_the_commands_have_the_status_of_settings(tmp_path: Path) -> None:
    run = citekite(tmp_path, "keys", "revoke", "nobody")

    assert (run.returncode, run.stderr) == (
        2,
        "citekite: there is no key 'nobody' to revoke: citekite keys list shows the keys\n",
    )
