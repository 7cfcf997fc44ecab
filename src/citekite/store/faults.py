"""Milvus' exceptions in words: which of our errors each one is, and what the user can do."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from citekite.errors import (
    CitekiteError,
    DiskFull,
    FilterError,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    UnknownCollection,
)

# gRPC and Milvus say the same thing in several ways; each list was collected from real faults.
_DENIED = ("auth check failure", "unauthenticated", "permission deny", "permission denied", "invalid token")
_UNREACHABLE = (
    "unavailable",
    "fail connecting",
    "deadline exceeded",
    "timeout",
    "connection refused",
    "channel closed",
)
# Milvus Lite, then a server, of a collection that was dropped after it was opened.
_GONE = re.compile(r"collection \S+ does not exist|collection not found|can't find collection")
# What a server says while it starts, or before the nodes behind it have found each other again
# (https://github.com/milvus-io/milvus/blob/master/pkg/util/merr/errors.go); 2 is also pymilvus' own for no connection.
_AWAY = frozenset({2, 103, 106, 503, 901, 902, 904, 905})
# The same in the words of an error without a code of its own, from a standalone server that was killed and came back.
_FINDING_EACH_OTHER = ("node not match", "node not found", "session not found", "service not ready")
_RELEASED = 101
_MOST_CHARACTERS = 600
# Before Milvus 2.4, `like` took no pattern that begins with %.
_PREFIX_ONLY = "only prefix pattern match"
_DISK_FULL = (f"[errno {errno.ENOSPC}]", "no space left", f"[errno {errno.EDQUOT}]", "disk quota")


def quiet_milvus() -> None:
    """Keep pymilvus and Milvus Lite from printing tracebacks of faults that are reported as our own errors."""
    for name in ("pymilvus", "pymilvus.bulk_writer", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def translated(action: str, uri: str, *, filter: str | None = None) -> Iterator[None]:
    """Run a call to Milvus; its exceptions come out as `StoreError` that names the action and the URI.

    `filter` is the user's expression, where there is one: a refusal of it is a `FilterError`.
    """
    from grpc import RpcError
    from pymilvus import MilvusException  # a submodule's name would break the import under way in another thread

    try:
        yield
    except CitekiteError:
        raise
    except (MilvusException, RpcError, OSError) as error:  # a deadline that passed comes as it is
        raise _translate(error, action, uri, filter) from error


def is_denied(error: BaseException) -> bool:
    """Whether the server refuses the token; where that ends a connection, only the cause of the error tells."""
    causes = [error, *([error.__cause__] if error.__cause__ is not None else [])]
    return any(sign in _message(cause).lower() for cause in causes for sign in _DENIED)


def is_away(error: Exception) -> bool:
    """Whether Milvus cannot be reached just now, or not serve yet: the same call may go well in a moment."""
    from grpc import RpcError, StatusCode

    if is_denied(error):
        return False
    if isinstance(error, RpcError):
        return bool(error.code() == StatusCode.UNAVAILABLE)
    code = getattr(error, "code", None)
    if code in _AWAY or code == StatusCode.UNAVAILABLE or is_released(error) or getattr(error, "retriable", False):
        return True
    return any(sign in _message(error).lower() for sign in _FINDING_EACH_OTHER)


def is_released(error: Exception) -> bool:
    """Whether the collection is not loaded: a server that was restarted has to load it again."""
    return getattr(error, "code", None) == _RELEASED


def disk_full(message: str, action: str, place: str) -> DiskFull | None:
    """The error for a message that says that the disk is full, None for any other one."""
    if not any(sign in message.lower() for sign in _DISK_FULL):
        return None
    return DiskFull(
        f"no space left for {place} while {action}. What was stored before is kept. "
        "Free some space, then run the same command again: it goes on where it stopped."
    )


def _translate(error: Exception, action: str, uri: str, filter: str | None) -> StoreError:
    message = _message(error)
    lowered = message.lower()
    if full := disk_full(lowered, action, uri):
        return full
    if is_denied(error):
        return StoreDenied(f"{uri} refused the token while {action}: set --token or MILVUS_TOKEN to a valid one.")
    if any(sign in lowered for sign in _UNREACHABLE):
        return StoreUnreachable(f"no Milvus server answers at {uri} ({action}): check the URI and that it runs.")
    if _GONE.search(lowered):
        return UnknownCollection(
            f"the collection is no longer at {uri} ({action}): it was dropped, or `citekite reindex` built another in "
            "its place; open it again"
        )
    if filter:
        return FilterError(
            f"Milvus cannot evaluate the filter {filter!r}: {message}. "
            'Examples: source like "%faq%", metadata["lang"] == "en", page > 3.'
        )
    if _PREFIX_ONLY in lowered:
        return StoreError(
            f"Milvus at {uri} is older than 2.4 and cannot look into access lists ({action}): upgrade it, or keep what "
            "not everyone may see in another collection"
        )
    return StoreError(f"Milvus at {uri} failed while {action}: {message}")


def _message(error: BaseException) -> str:
    message = " ".join((getattr(error, "message", "") or str(error)).split())
    # A server may tell where in its code it was; what went wrong comes last.
    return message if len(message) <= _MOST_CHARACTERS else f"…{message[-_MOST_CHARACTERS:]}"
