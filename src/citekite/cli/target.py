"""What a command works on: a database, or a citekite server that has it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from citekite.errors import SettingsError
from citekite.wellformed import printable

if TYPE_CHECKING:
    from citekite.knowledge_base import KnowledgeBase
    from citekite.remote import RemoteKnowledgeBase
    from citekite.settings import Loaded, Settings
    from citekite.store.milvus import MilvusStore

# What a request can carry, and what the client itself goes by; a server has all other settings of its own.
CARRIED = {"collection", "k", "mode", "include", "exclude", "timeout", "retry_seconds", "server", "key", "mcp_sync"}
# What decides which files of a folder are read: by the client, for a server on another machine.
READING = {"max_file_mb", "max_archive_mb"}


@contextmanager
def open_knowledge_base(arguments: Mapping[str, Any]) -> Iterator[KnowledgeBase | RemoteKnowledgeBase]:
    """The knowledge base of the options given to a command, on a database or through a server.

    A server that `server` names comes first; then one on this machine that has the embedded database open, which is
    said on standard error. Raises `SettingsError` for an option that a server cannot be given.
    """
    from citekite.settings import load_settings

    loaded = load_settings(arguments)
    remote = remote_for(loaded, arguments)
    if remote is None:
        from citekite.knowledge_base import KnowledgeBase

        with KnowledgeBase(settings=loaded.settings) as kb:
            yield kb
    else:
        with remote:
            yield remote


@contextmanager
def open_directly(arguments: Mapping[str, Any], command: str) -> Iterator[KnowledgeBase]:
    """The knowledge base of a command that no server does; raises `SettingsError` where the settings name a server."""
    from citekite.knowledge_base import KnowledgeBase
    from citekite.settings import load_settings

    settings = load_settings(arguments).settings
    require_no_server(settings, arguments, command)
    with KnowledgeBase(settings=settings) as kb:
        yield kb


@contextmanager
def open_store(arguments: Mapping[str, Any], command: str) -> Iterator[tuple[MilvusStore, Settings]]:
    """The database of a command that works below the knowledge base, and the settings; else as `open_directly`."""
    from citekite.settings import load_settings
    from citekite.store.milvus import MilvusStore

    settings = load_settings(arguments).settings
    require_no_server(settings, arguments, command)
    with MilvusStore.from_settings(settings) as store:
        yield store, settings


def require_no_server(settings: Settings, arguments: Mapping[str, Any], command: str) -> None:
    """Raise `SettingsError` where the settings name a server: the command would work on some other database."""
    from citekite.settings import without_password

    if settings.server and "uri" not in arguments:
        raise SettingsError(
            f"`citekite {command}` does not go through a server, and `server` is {without_password(settings.server)}: "
            "run it on the server's machine, or name a database with --uri"
        )


def remote_for(loaded: Loaded, arguments: Mapping[str, Any]) -> RemoteKnowledgeBase | None:
    """The server that a command goes through: the one that is named, or that has the embedded database open."""
    from citekite.remote import RemoteKnowledgeBase
    from citekite.settings import without_password

    settings, origins = loaded.settings, loaded.origins
    asked: dict[str, Any] = {
        "k": settings.k,
        "mode": None if origins["mode"] == "default" else settings.mode,
        "settings": settings,
    }
    if settings.server and ("server" in arguments or "uri" not in arguments):
        _require_carried(
            arguments, CARRIED | READING, without_password(settings.server), "set it where the server runs"
        )
        collection = None if origins["collection"] == "default" else settings.collection
        key = settings.key.get_secret_value() if settings.key else ""
        return RemoteKnowledgeBase(settings.server, key, collection, **asked)
    from citekite.remote.beside import running_server

    if (server := running_server(settings.uri)) is None:
        return None
    _require_carried(arguments, CARRIED | {"uri"}, str(server), f"stop it first (kill {server.pid})")
    line = f"citekite serve (process {server.pid}) has {settings.uri} open: going through {server.url}"
    print(printable(line), file=sys.stderr)
    return RemoteKnowledgeBase(server.url, server.token, settings.collection, **asked, same_machine=True)


def _require_carried(arguments: Mapping[str, Any], carried: set[str], server: str, instead: str) -> None:
    for name in arguments:
        if name not in carried:
            raise SettingsError(
                f"--{name.replace('_', '-')} cannot go through {server}, which has its own settings: "
                f"leave it out, or {instead}"
            )
