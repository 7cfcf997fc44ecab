"""For what watches the server: is it alive, can it work, what does it count."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from citekite.errors import ServerBusy, StoreUnreachable
from citekite.serve.asking import TheService
from citekite.serve.examples import problems, reply
from citekite.serve.principal import OWNER

router = APIRouter(tags=["health"])

READY_SECONDS = 5.0

_FIGURES = """\
# HELP citekite_answers_total Answers, by how they ended.
# TYPE citekite_answers_total counter
citekite_answers_total{outcome="answered"} 12.0
"""


@router.get("/healthz", summary="Whether the process is alive.", responses=reply({"status": "ok"}))
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Whether the database can be reached.",
    responses={**reply({"status": "ready"}), **problems(StoreUnreachable)},
)
async def readyz(service: TheService) -> dict[str, str]:
    """Also ready: a server whose embedded database does not exist yet."""
    kb = service.knowledge_base(OWNER)
    try:
        async with asyncio.timeout(READY_SECONDS):
            await service.checks.call(kb.check)
    except (TimeoutError, ServerBusy):  # busy: with earlier checks that still wait
        raise StoreUnreachable(f"the database did not answer within {READY_SECONDS:g} s") from None
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="The figures for Prometheus.",
    response_class=Response,
    responses=reply(_FIGURES, media_type=CONTENT_TYPE_LATEST),
)
async def metrics(service: TheService) -> Response:
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
