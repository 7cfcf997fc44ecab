"""The command that shows what models took at a server: tokens and cost by key, purpose and model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citekite.cli.options import SERVER, takes_settings
from citekite.cli.show import counted, dim
from citekite.errors import SettingsError
from citekite.wellformed import printable

if TYPE_CHECKING:
    from citekite.reports import UsageRow

COLUMNS = ("key", "purpose", "model", "calls", "prompt tokens", "completion tokens", "cost")


@takes_settings("uri", "data_dir", *SERVER)
def usage(
    arguments: dict[str, Any],
    since: Annotated[str, typer.Option("--since", metavar="DATE", help="From this day on (2026-01-31, UTC).")] = "",
    until: Annotated[str, typer.Option("--until", metavar="DATE", help="To the end of this day (UTC).")] = "",
    daily: Annotated[bool, typer.Option("--daily", help="A line for each day.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows of each day as JSON.")] = False,
) -> None:
    """Show what models took at a server: calls, tokens and cost by key, purpose and model."""
    from citekite.prices import total
    from citekite.render import usage_row_json

    rows = _rows(arguments, *(_day(option, text) for option, text in (("since", since), ("until", until))))
    if as_json:
        print(json.dumps([usage_row_json(row) for row in rows], ensure_ascii=False, indent=2))
        return
    if not rows:
        print("No model was called.")
        return
    shown = rows if daily else _summed(rows)
    columns = ("day", *COLUMNS) if daily else COLUMNS
    table = [columns, *([_cell(row, column) for column in columns] for row in shown)]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    for number, cells in enumerate(table):
        line = "  ".join(map(_aligned, cells, widths, columns)).rstrip()
        print(line if number else dim(line))
    cost = total([row.cost for row in rows])
    print(f"{counted(sum(row.calls for row in rows), 'call')}; cost {_cost(cost)}")
    if any(row.estimated for row in rows):
        print(dim("~ the endpoint did not say what some of these calls took: their tokens are estimated"))


def _rows(arguments: dict[str, Any], since: str, until: str) -> list[UsageRow]:
    """The account of a server: of one that runs from itself, else from its folder."""
    from citekite.cli.target import remote_for
    from citekite.home import home_of
    from citekite.prices import Prices
    from citekite.serve.ledger import Ledger
    from citekite.settings import load_settings

    loaded = load_settings(arguments)
    if "data_dir" not in arguments and (remote := remote_for(loaded, arguments)) is not None:
        with remote:
            return remote.usage(since, until)
    rows = Ledger(home_of(loaded.settings)).rows(since, until or "9999")
    return Prices.from_settings(loaded.settings).of_rows(rows)


def _day(option: str, text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise SettingsError(f"--{option} cannot be {text!r}: give a day, such as 2026-01-31") from None


def _summed(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """The rows of all days together, by key, purpose and model."""
    from citekite.prices import total

    sums: dict[tuple[str, str, str], UsageRow] = {}
    for row in rows:
        known = sums.get(place := (row.key, row.purpose, row.model))
        sums[place] = (
            row
            if known is None
            else replace(
                known,
                calls=known.calls + row.calls,
                estimated=known.estimated + row.estimated,
                usage=known.usage + row.usage,
                cost=total([known.cost, row.cost]),
            )
        )
    return [sums[place] for place in sorted(sums)]


def _cell(row: UsageRow, column: str) -> str:
    about = "~" if row.estimated else ""
    cells = {
        "calls": f"{row.calls:,}",
        "prompt tokens": f"{about}{row.usage.prompt_tokens:,}",
        "completion tokens": f"{about if row.usage.completion_tokens else ''}{row.usage.completion_tokens:,}",
        "cost": _cost(row.cost),
    }
    return cells[column] if column in cells else printable(str(getattr(row, column)))


def _cost(cost: float | None) -> str:
    return "unknown" if cost is None else f"{cost:.4f}"


def _aligned(cell: str, width: int, column: str) -> str:
    return cell.ljust(width) if column in ("day", "key", "purpose", "model") else cell.rjust(width)
