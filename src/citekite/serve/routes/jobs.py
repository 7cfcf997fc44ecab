"""Jobs: syncs that were started, how far they are, and what became of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from citekite.errors import DiskFull, ServerError, SourceError, UnknownJob
from citekite.serve.asking import Caller, TheService
from citekite.serve.examples import ANYWHERE, DONE, JOB, problems, reply
from citekite.serve.job_store import Job, job_json
from citekite.serve.principal import Principal
from citekite.serve.schemas import JobBody
from citekite.serve.service import Service
from citekite.serve.sse import sse
from citekite.serve.writing import SyncRequest, start_sync

router = APIRouter(tags=["jobs"], responses=problems(*ANYWHERE, UnknownJob, SourceError, ServerError, DiskFull))

_EVENTS = sse("Progress", JOB["progress"]) + sse("Finished", {"job": DONE})


@router.post(
    "/jobs",
    status_code=202,
    summary="Sync sources: URLs; paths of the server's machine with the scope admin.",
    responses=reply(JOB, status=202),
)
async def start(request: Request, body: JobBody, service: TheService, caller: Caller) -> dict[str, Any]:
    caller.require("write")
    asked = SyncRequest(
        tuple(body.sources),
        prune=body.prune,
        include=None if body.include is None else tuple(body.include),
        exclude=None if body.exclude is None else tuple(body.exclude),
        access=tuple(body.access),
    )
    job = await service.workers.call(lambda: start_sync(service, caller, body.collection, asked))
    request.state.target = ", ".join(job.sources)
    return job_json(job)


@router.get("/jobs", summary="The newest jobs that the caller may know of.", responses=reply({"jobs": [JOB]}))
async def jobs(
    service: TheService, caller: Caller, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    found = await service.workers.call(lambda: service.jobs.visible_to(caller, limit))
    return {"jobs": [job_json(job) for job in found]}


@router.get("/jobs/{id}", summary="A job.", responses=reply(DONE))
async def job(service: TheService, caller: Caller, id: str) -> dict[str, Any]:
    return job_json(await service.workers.call(lambda: _visible(service, caller, id)))


@router.post("/jobs/{id}/cancel", summary="Stop a job, after the batch in flight.", responses=reply(JOB))
async def cancel(service: TheService, caller: Caller, id: str) -> dict[str, Any]:
    caller.require("write")

    def cancelled() -> Job:
        return service.jobs.cancel(_visible(service, caller, id).id)

    return job_json(await service.workers.call(cancelled))


@router.get(
    "/jobs/{id}/events",
    summary="The progress of a job as server-sent events: Progress, then Finished.",
    response_class=StreamingResponse,
    responses=reply(_EVENTS, description="The events, as they come.", media_type="text/event-stream"),
)
async def events(service: TheService, caller: Caller, id: str) -> StreamingResponse:
    found = await service.workers.call(lambda: _visible(service, caller, id))

    async def lines() -> AsyncIterator[str]:
        told = None
        async with aclosing(service.jobs.follow(found.id)) as states:
            async for job in states:
                if job.ended:
                    yield sse("Finished", {"job": job_json(job)})
                elif job.progress is not None and job.progress is not told:
                    told = job.progress
                    yield sse("Progress", asdict(told))
                else:  # a comment, which tells the connection's ends that it is alive
                    yield f": {job.state}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _visible(service: Service, caller: Principal, id: str) -> Job:
    """The job, if the caller may know of it; who may not learns as little as of one that there is not."""
    found = service.jobs.get(id)
    if not found.is_visible_to(caller):
        raise UnknownJob(f"there is no job {id!r}")
    return found
