"""Evaluation reports: what `citekite eval run` wrote into the server's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Path as PathParameter

from citekite.errors import AccessDenied, UnknownReport
from citekite.serve.asking import Caller, TheService
from citekite.serve.examples import ANYWHERE, problems, reply
from citekite.serve.principal import Principal

router = APIRouter(tags=["reports"], responses=problems(*ANYWHERE, UnknownReport))

Name = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]

_SUMMARY = {
    "name": "2026-01-05",
    "created": "2026-01-05T09:30:00Z",
    "dataset": "handbook",
    "questions": 120,
    "metrics": {"recall@5": 0.91, "mrr@10": 0.84},
}
_REPORT = {
    "dataset": "handbook",
    "questions": 120,
    "metrics": {"recall@5": {"mean": 0.91, "low": 0.86, "high": 0.95}},
}


@router.get("/reports", summary="The evaluation reports, newest first.", responses=reply({"reports": [_SUMMARY]}))
async def reports(service: TheService, caller: Caller) -> dict[str, Any]:
    _check(caller)
    return {"reports": await service.workers.call(lambda: _listing(service.home / "reports"))}


@router.get(
    "/reports/{name}",
    summary="A report, as `citekite eval run --output` wrote it.",
    responses=reply(_REPORT),
)
async def report(service: TheService, caller: Caller, name: Name) -> dict[str, Any]:
    _check(caller)
    return await service.workers.call(lambda: _read(service.home / "reports" / f"{name}.json"))


def _check(caller: Principal) -> None:
    """A report quotes questions and documents of whatever collection it is about."""
    caller.require("admin")
    if caller.collections:
        raise AccessDenied(f"the key {caller.name!r} is for some collections, and reports may be about any")


def _listing(folder: Path) -> list[dict[str, Any]]:
    if not folder.is_dir():
        return []
    files = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    return [_summary(file) for file in files]


def _summary(file: Path) -> dict[str, Any]:
    created = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    summary = {"name": file.stem, "created": created}
    try:
        found = _read(file)
    except UnknownReport as error:
        return {**summary, "problem": str(error)}
    metrics = found.get("metrics")
    means = {name: one.get("mean") for name, one in metrics.items()} if isinstance(metrics, Mapping) else {}
    return {**summary, "dataset": found.get("dataset"), "questions": found.get("questions"), "metrics": means}


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnknownReport(f"there is no report {file.stem!r}") from None
    except (OSError, ValueError) as error:
        raise UnknownReport(f"{file.name} is no report that can be read: {error}") from error
    if not isinstance(found, dict):
        raise UnknownReport(f"{file.name} is no report that can be read: it is no JSON object")
    return found
