"""Commands for the API keys of a server: keys create, keys list, keys revoke; they work while it runs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citekite.cli.options import takes_settings
from citekite.cli.show import counted, dim
from citekite.serve.principal import OWNER, Scope

if TYPE_CHECKING:
    from pathlib import Path

    from citekite.serve.keys import ApiKey

keys_app = typer.Typer(help="Make, list and revoke the API keys of a server.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HOME = ("uri", "data_dir")
COLUMNS = ("id", "name", "scope", "collections", "groups", "created", "expires", "state")


@keys_app.command()
@takes_settings(*HOME)
def create(
    arguments: dict[str, Any],
    name: Annotated[str, typer.Option("--name", help="Whose key it is, for the list and the audit log.")],
    scope: Annotated[
        Scope, typer.Option("--scope", help="read: search and ask; write: also change documents; admin: everything.")
    ] = "read",
    collection: Annotated[
        list[str] | None, typer.Option("--collection", help="Only for this collection (repeatable).")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="Also sees the documents of this group (repeatable); else those for everyone."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="A date (2027-01-31), or how long: 12h, 30d, 8w; else never.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and show it, this once."""
    from citekite.serve.keys import KeyStore

    home = _home(arguments)
    store = KeyStore(home)
    first = not store.exist()
    key, text = store.create(name, scope, collections=collection or (), groups=group or (), expires=expires)
    _record(home, "create key", key)
    if as_json:
        print(json.dumps({**_values(key), "key": text}, ensure_ascii=False, indent=2))
        return
    print(text)
    print(
        "It is shown once: only its hash is kept. Send it as `Authorization: Bearer KEY`, give it to the page when it "
        "asks, or set CITEKITE_KEY for commands with --server.",
        file=sys.stderr,
    )
    if first:
        print("It is the first one: from now on the server wants a key with every request.", file=sys.stderr)


@keys_app.command("list")
@takes_settings(*HOME)
def list_keys(arguments: dict[str, Any], as_json: AsJson = False) -> None:
    """List the API keys: whose they are, what they are for, until when; never the keys themselves."""
    from citekite.serve.keys import KeyStore

    found = [_values(key) for key in KeyStore(_home(arguments)).list()]
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    rows = [COLUMNS, *([_cell(column, values[column]) for column in COLUMNS] for values in found)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        print(line if number else dim(line))
    print(counted(len(found), "key"))


@keys_app.command()
@takes_settings(*HOME)
def revoke(
    arguments: dict[str, Any],
    key: Annotated[str, typer.Argument(metavar="KEY", help="Name or id of the key.", show_default=False)],
) -> None:
    """Refuse an API key from now on; a running server does so at once."""
    from citekite.serve.keys import KeyStore

    home = _home(arguments)
    revoked = KeyStore(home).revoke(key)
    _record(home, "revoke key", revoked)
    print(f"revoked {revoked.name} ({revoked.id})")


def _home(arguments: dict[str, Any]) -> Path:
    from citekite.home import home_of
    from citekite.settings import load_settings

    return home_of(load_settings(arguments).settings)


def _record(home: Path, action: str, key: ApiKey) -> None:
    from citekite.serve.audit import Audit

    Audit(home).record(OWNER, action, f"{key.name} ({key.id})", "done")


def _values(key: ApiKey) -> dict[str, Any]:
    """A key as plain values; its times in UTC."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    values = asdict(key) | {"state": key.state(datetime.now(UTC))}
    return {
        name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
        for name, value in values.items()
    }


def _cell(column: str, value: Any) -> str:
    """A value in the table: lists with commas, times to the minute, a dash for nothing."""
    if column in ("created", "expires") and value:
        return str(value)[:16].replace("T", " ")
    return (", ".join(value) if isinstance(value, tuple) else value) or "-"
