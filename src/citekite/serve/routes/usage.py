"""The account: tokens and cost by day, key, purpose and model."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query

from citekite.errors import ServerError
from citekite.prices import Prices, total
from citekite.render import usage_row_json
from citekite.reports import UsageRow
from citekite.serve.asking import Caller, TheService
from citekite.serve.examples import ANYWHERE, problems, reply
from citekite.types import Usage

router = APIRouter(tags=["usage"], responses=problems(*ANYWHERE, ServerError))

_ROW = UsageRow("2026-01-05", "team", "chat", "accounts/fireworks/models/gpt-oss-120b", 12, 0, Usage(4980, 610), 0.001)
_USAGE = {
    "rows": [usage_row_json(_ROW)],
    "total": {"calls": 12, "prompt_tokens": 4980, "completion_tokens": 610, "cost": 0.001},
}


@router.get("/usage", summary="What models took, by day, key, purpose and model.", responses=reply(_USAGE))
async def usage(
    service: TheService,
    caller: Caller,
    since: Annotated[date | None, Query(description="The first day (UTC); by default all.")] = None,
    until: Annotated[date | None, Query(description="The last day (UTC), included.")] = None,
) -> dict[str, Any]:
    """An admin of all collections sees every key, any other key itself. `cost` is null where no price is known.

    `estimated` counts the calls of which the endpoint did not say what they took.
    """
    days = {"since": since.isoformat() if since else "", "until": until.isoformat() if until else "9999"}
    own = None if caller.scope == "admin" and not caller.collections else caller
    rows = await service.workers.call(lambda: service.ledger.rows(**days, principal=own))
    priced = Prices.from_settings(service.settings).of_rows(rows)
    used = sum((row.usage for row in priced), Usage())
    return {
        "rows": [usage_row_json(row) for row in priced],
        "total": {
            "calls": sum(row.calls for row in priced),
            "prompt_tokens": used.prompt_tokens,
            "completion_tokens": used.completion_tokens,
            "cost": total([row.cost for row in priced]),
        },
    }
