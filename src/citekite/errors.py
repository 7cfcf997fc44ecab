"""Every error that citekite raises on purpose, as one tree, and the one table from a family to its statuses.

    CitekiteError
    ├── SettingsError           a setting or an argument that cannot be used
    ├── SourceError             a source that cannot be read
    │   ├── DocumentError       one file of it: reported by name, the rest goes on
    │   └── ArchiveError        an export or a backup that is damaged, or none
    ├── StoreError              Milvus, or the database file
    │   ├── DatabaseLocked      another process has the embedded database open
    │   ├── DatabaseReadOnly    its folder cannot be written
    │   ├── DatabaseOutdated    a file of Milvus Lite 2.x
    │   ├── DiskFull            no space left; writing stopped at once
    │   ├── StoreUnreachable    no server answers
    │   ├── StoreDenied         the server refused the token
    │   ├── UnknownCollection   nothing was ever synced under that name
    │   ├── CollectionExists    there is one of that name already
    │   ├── EmbedderMismatch    the collection was built with another embedder
    │   ├── UnknownDocument     no such document in the collection, or none that this key may see
    │   └── FilterError         a filter that cannot be used
    ├── EndpointError           the model endpoint
    │   ├── EndpointDenied      401, 402, 403 or 412: the key, or the account behind it
    │   ├── ModelNotFound       404: unknown or retired model
    │   ├── RequestRefused      any other 4xx: asking again cannot help
    │   ├── EndpointUnavailable 408, 429, 5xx or a broken connection, beyond the retry budget, or for a while now
    │   └── EndpointReply       a 200 whose body cannot be used, beyond the retry budget
    ├── AccessError             a citekite server refuses the caller
    │   ├── KeyRequired         no key was given, or one that is unknown, expired or revoked
    │   ├── AccessDenied        the key, or the web page that sends the request, may not do this
    │   ├── WrongHost           the request names a host that the server does not go by
    │   ├── RateLimited         the key has used up its share of requests for now
    │   └── TooLarge            a body or upload over the limit
    ├── ServerError             a citekite server, or a task of it
    │   ├── ServerBusy          all its threads are at work: ask again
    │   ├── InternalError       a bug: its log has the traceback
    │   ├── UnknownJob          no such job
    │   └── UnknownReport       no such evaluation report
    ├── ClusterError            the Ray cluster of `sync --engine ray`
    └── MissingExtra            an optional dependency that is not installed

A message says what happened, with which value, and what to do next. Anything else that escapes is a bug, and keeps
its traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class CitekiteError(Exception):
    """Base of all errors raised on purpose; `str(error)` is a sentence that a user can act on.

    `partial` is the text of the answer that it broke off, as far as that had come.
    """

    partial: str = ""


class SettingsError(CitekiteError):
    """A setting or an argument that cannot be used."""


class InvalidRequest(SettingsError):
    """A request to the server that is not what its path takes."""


class SourceError(CitekiteError):
    """A source that cannot be read."""


class DocumentError(SourceError):
    """One file or row that cannot be loaded; a sync reports it and goes on."""


class ArchiveError(SourceError):
    """An exported collection or a backup that cannot be taken: it is damaged, of a later version, or not one."""


class StoreError(CitekiteError):
    """Milvus, or the embedded database, failed."""


class DatabaseLocked(StoreError):
    """Another process has the embedded database open."""


class DatabaseReadOnly(StoreError):
    """The folder of the embedded database cannot be written."""


class DatabaseOutdated(StoreError):
    """The database is a file of Milvus Lite 2.x."""


class DiskFull(StoreError):
    """No space left on the device of the embedded database; writing stopped at once."""


class StoreUnreachable(StoreError):
    """No Milvus server answers at the URI."""


class StoreDenied(StoreError):
    """The Milvus server refused the token."""


class UnknownCollection(StoreError):
    """There is no collection of that name, or none any more."""


class CollectionExists(StoreError):
    """There is a collection of that name already."""


class EmbedderMismatch(StoreError):
    """The collection was built with another embedder than the one in use."""


class UnknownDocument(StoreError):
    """There is no such document in the collection, or none that the caller may see."""


class FilterError(StoreError):
    """A filter expression that Milvus cannot evaluate, or a value of a filter that cannot be used."""


class EndpointError(CitekiteError):
    """The model endpoint failed."""


class EndpointDenied(EndpointError):
    """The endpoint refused the key (401, 403) or the account behind it (402, 412, a used-up quota)."""


class ModelNotFound(EndpointError):
    """The endpoint does not serve the model (404)."""


class RequestRefused(EndpointError):
    """The endpoint refused the request (400, 413, 422): sending it again cannot help."""


class EndpointUnavailable(EndpointError):
    """The endpoint did not answer within the retry budget (408, 429, 5xx, connection faults), or is known to be down.

    In the second case it is tried again after `retry_after` seconds.
    """

    retry_after: float | None = None

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EndpointReply(EndpointError):
    """The endpoint answered 200 with a body that cannot be used, also when asked again."""


class AccessError(CitekiteError):
    """A citekite server refuses the caller."""


class KeyRequired(AccessError):
    """No key was given, or one that is unknown, expired or revoked."""


class AccessDenied(AccessError):
    """The key, or the web page that sends the request, may not do this."""


class WrongHost(AccessError):
    """The request names a host that the server does not go by."""


class RateLimited(AccessError):
    """The key has used up its share of requests; `retry_after` seconds from now there is room again."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooLarge(AccessError):
    """A body or an upload over the limit."""


class ServerError(CitekiteError):
    """A citekite server, or a task of it, failed."""


class ServerBusy(ServerError):
    """All threads of the server are at work; `retry_after` seconds from now it is worth asking again."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class InternalError(ServerError):
    """A bug of the server ended the request; the traceback is in the server's log alone."""


class UnknownJob(ServerError):
    """There is no job of that id."""


class UnknownReport(ServerError):
    """There is no evaluation report of that name."""


class ClusterError(CitekiteError):
    """The Ray cluster that a sync runs on cannot be reached, or gave up."""


class MissingExtra(CitekiteError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs an optional dependency: pip install 'citekite[{extra}]'")
        self.extra = extra
        self._purpose = purpose

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return MissingExtra, (self.extra, self._purpose)


@contextmanager
def importing(module: str, extra: str, purpose: str) -> Iterator[None]:
    """Import an optional dependency inside: where it is not installed, `MissingExtra` is raised.

    Where it is, and something that it needs is not, that error passes: its own message says what.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MissingExtra(extra, purpose) from None


@dataclass(frozen=True, slots=True)
class Status:
    """How an error family shows at each entry point."""

    exit_code: int
    http: int


# Looked up along the class's bases, so a subclass needs a row only where it differs from its family.
STATUS: dict[type[BaseException], Status] = {
    CitekiteError: Status(1, 500),
    SettingsError: Status(2, 400),
    SourceError: Status(3, 422),
    StoreError: Status(4, 503),
    DiskFull: Status(4, 507),
    UnknownCollection: Status(4, 404),
    CollectionExists: Status(4, 409),
    EmbedderMismatch: Status(4, 409),
    UnknownDocument: Status(4, 404),
    FilterError: Status(2, 400),
    EndpointError: Status(5, 502),
    EndpointUnavailable: Status(5, 503),
    AccessError: Status(7, 403),
    KeyRequired: Status(7, 401),
    WrongHost: Status(7, 421),
    RateLimited: Status(7, 429),
    TooLarge: Status(7, 413),
    ServerError: Status(8, 502),
    ServerBusy: Status(8, 503),
    InternalError: Status(8, 500),
    UnknownJob: Status(8, 404),
    UnknownReport: Status(8, 404),
    MissingExtra: Status(6, 501),
    ClusterError: Status(9, 502),
    KeyboardInterrupt: Status(130, 499),
}


def status_of(error: BaseException) -> Status:
    """The exit code and HTTP status of an error, found along its class's bases."""
    for base in type(error).__mro__:
        if base in STATUS:
            return STATUS[base]
    return Status(1, 500)
