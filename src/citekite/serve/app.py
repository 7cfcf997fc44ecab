"""The application: routes, page, and what every request goes through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Security
from fastapi.responses import FileResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles

from citekite import __version__
from citekite.serve.examples import ANYWHERE, problems
from citekite.serve.guard import Guard
from citekite.serve.mcp.http import make_manager, mcp_route
from citekite.serve.openai_api import routes as openai_routes
from citekite.serve.openai_api.errors import OpenAIErrors
from citekite.serve.problems import add_problem_handlers
from citekite.serve.routes import ask, backup, collections, documents, health, jobs, library, map, reports, usage
from citekite.serve.service import Service
from citekite.serve.watch import WatchRequests
from citekite.settings import Settings

UI = Path(__file__).parent / "ui"
DESCRIPTION = """\
Cited answers from your own documents.

Every reply is JSON, or server-sent events where a path ends in `/stream` or `/events`; every error is a problem
document (RFC 9457) whose `title` is the name of the Python error. With API keys, send `Authorization: Bearer KEY`;
without any, the server serves its own machine alone. `collection` chooses among the collections of the database, in the
query or in the body; left out, it is the server's own.
"""
# For the documentation alone: whether a key is needed, and what it allows, is decided before a request gets here.
BEARER = HTTPBearer(auto_error=False, scheme_name="key", description="An API key: `citekite keys create`.")


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application of a server with these settings."""
    service = Service(settings)
    mcp = make_manager(service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with mcp.run():
            yield
            await service.close()

    app = FastAPI(
        title="citekite",
        summary="Ask documents, get cited answers.",
        description=DESCRIPTION,
        version=__version__,
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        # Its own spans have the query of an address, which may be text from a document or a question.
        telemetry={"tracing": False, "logs": False, "metrics": settings.telemetry, "auto_configure": False},
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    add_problem_handlers(app)
    for module in (ask, library, documents, jobs, collections, reports, map, usage, backup):
        app.include_router(
            module.router, prefix="/api/v1", responses=problems(*ANYWHERE), dependencies=[Security(BEARER)]
        )
    app.include_router(openai_routes.router, prefix="/v1", dependencies=[Security(BEARER)])
    app.include_router(health.router)
    app.router.routes.append(mcp_route(mcp))
    _add_page(app)
    app.add_middleware(Guard, service=service)
    app.add_middleware(OpenAIErrors)  # outside of what refuses requests: that too leaves in OpenAI's form
    app.add_middleware(WatchRequests, metrics=service.metrics, telemetry=service.telemetry)
    return app


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(UI / "index.html")

    app.mount("/ui", StaticFiles(directory=UI), name="ui")
