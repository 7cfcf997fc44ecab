"""What changes a collection over HTTP: who may, and as which job."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile

from citekite.access import Grant
from citekite.errors import AccessDenied, SettingsError, StoreError, UnknownCollection
from citekite.home import uploads_of
from citekite.ingest.base import LoadOptions
from citekite.ingest.sources import is_under, normalise_source
from citekite.ingest.uploads import parse_upload
from citekite.knowledge_base import KnowledgeBase
from citekite.ports import Reporter
from citekite.reports import SyncReport
from citekite.serve import uploads
from citekite.serve.job_store import Job, JobKind
from citekite.serve.principal import OWNER, Principal
from citekite.serve.service import Service

# What a key that writes may sync; anything else is read with the rights and credentials of the server itself.
_ANYONES = ("http://", "https://", "upload://")
SAMPLE = Path(__file__).parent / "sample"

Access = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """Sources to sync; the rest as in `KnowledgeBase.sync`."""

    sources: tuple[str, ...]
    prune: bool = False
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    access: Access = ()


def access_for(caller: Principal, asked: Iterable[str]) -> Access:
    """The access list of what a caller writes: as asked for, by default all of the caller's own groups.

    Raises `AccessDenied` for a list that is not within these, `SettingsError` for what cannot name a group.
    """
    return Grant.make(tuple(asked) or None, caller.groups).for_new


def start_upload(
    service: Service,
    caller: Principal,
    collection: str | None,
    files: Iterable[UploadFile],
    access: Iterable[str],
    kind: JobKind = "upload",
) -> Job:
    """Check and keep files, and start the job that takes them in."""
    kb = service.knowledge_base(caller, collection)
    jobs = service.jobs
    groups = access_for(caller, access)
    staged = uploads.stage(files, uploads_of(kb.settings), groups, LoadOptions.from_settings(kb.settings))
    everything = service.knowledge_base(OWNER, kb.settings.collection)

    def work(report: Reporter, stopped: Callable[[], bool]) -> SyncReport:
        staged.place()
        failed = set(staged.sources)  # unless the report, where there is one, says less
        try:
            done = kb.sync(*staged.sources, report=report, stopped=stopped, **_with(groups))
            failed = {failure.source for failure in done.failures}
            return _counted(service, done)
        finally:
            staged.settle(failed, lambda source: _is_stored(everything, source))

    try:
        return jobs.start(kind, kb.settings.collection, staged.sources, caller, work, abandoned=staged.discard)
    except BaseException:
        staged.discard()
        raise


def start_sample(service: Service, caller: Principal, collection: str | None) -> Job:
    """Start the job that takes the sample library in."""
    paths = sorted(SAMPLE.glob("*.md"))
    opened = [path.open("rb") for path in paths]
    try:
        files = [
            UploadFile(file, filename=path.name, size=path.stat().st_size)
            for path, file in zip(paths, opened, strict=True)
        ]
        return start_upload(service, caller, collection, files, (), "sample")
    finally:
        for file in opened:
            file.close()


def start_sync(
    service: Service, caller: Principal, collection: str | None, asked: SyncRequest, kind: JobKind = "sync"
) -> Job:
    """Start the job that syncs web addresses, uploads that are there, and, for an admin, what the server can read."""
    kb = service.knowledge_base(caller, collection)
    sources = tuple(dict.fromkeys(map(normalise_source, asked.sources)))
    if caller.scope != "admin" and not all(source.lower().startswith(_ANYONES) for source in sources):
        raise AccessDenied(
            f"the key {caller.name!r} may sync http(s) URLs; paths of the server's machine and object stores need the "
            "scope admin"
        )
    access = _access_of(caller, kb, sources, asked)

    def work(report: Reporter, stopped: Callable[[], bool]) -> SyncReport:
        globs: dict[str, Any] = {"include": asked.include, "exclude": asked.exclude}
        done = kb.sync(*sources, prune=asked.prune, report=report, stopped=stopped, **globs, **_with(access))
        return _counted(service, done)

    return service.jobs.start(kind, kb.settings.collection, sources, caller, work)


def _access_of(caller: Principal, kb: KnowledgeBase, sources: Access, asked: SyncRequest) -> Access:
    """The access list as asked for; for uploads that which they were given when they came."""
    found = [source for source in sources if source.startswith("upload://")]
    spaces = {parse_upload(source)[0] for source in found}
    if not spaces:
        return access_for(caller, asked.access) if asked.access else ()
    if asked.access or len(spaces) > 1 or len(found) < len(sources):
        raise SettingsError(
            "uploads keep their access list: sync those of one list in a job of their own, without giving one"
        )
    space = spaces.pop()
    access = uploads.access_of(space, uploads_of(kb.settings))
    try:
        return access_for(caller, access) if access else access
    except AccessDenied:  # that there are uploads for these groups, and for which, is not for others to know
        raise uploads.no_uploads_in(space) from None


def _counted(service: Service, report: SyncReport) -> SyncReport:
    for change in ("added", "updated", "deleted"):
        service.metrics.chunks.labels(change).inc(getattr(report, change))
    return report


def _with(access: Access) -> dict[str, Any]:
    return {"access": list(access)} if access else {}


def _is_stored(kb: KnowledgeBase, root: str) -> bool:
    try:
        return any(is_under(source, root) for source in kb.collection().states([root]))
    except UnknownCollection:
        return False
    except StoreError:
        return True  # the store cannot tell now: better a file too many than one too few
