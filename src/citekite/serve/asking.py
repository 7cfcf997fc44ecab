"""Who asks and of what: the parameters that every route takes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

from citekite.serve.principal import Principal, caller_of
from citekite.serve.service import Service
from citekite.settings import COLLECTION_NAME


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _caller(request: Request) -> Principal:
    return caller_of(request)


TheService = Annotated[Service, Depends(_service)]
Caller = Annotated[Principal, Depends(_caller)]
CollectionName = Annotated[
    str | None,
    Query(description="The collection; by default the server's own.", pattern=COLLECTION_NAME),
]
