"""The application: routes, page, and what every request goes through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from citekite import __version__
from citekite.serve.guard import Guard
from citekite.serve.problems import add_problem_handlers
from citekite.serve.routes import ask, library
from citekite.serve.service import Service
from citekite.settings import Settings

UI = Path(__file__).parent / "ui"


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application of a server with these settings."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="citekite", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    add_problem_handlers(app)
    for router in (ask.router, library.router):
        app.include_router(router, prefix="/api/v1")
    _add_page(app)
    app.add_middleware(Guard, service=service)
    return app


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(UI / "index.html")

    app.mount("/ui", StaticFiles(directory=UI), name="ui")
