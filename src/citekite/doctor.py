"""Checks of everything a knowledge base needs, each with what would mend it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from citekite.errors import CitekiteError, EmbedderMismatch, StoreDenied, StoreError, UnknownCollection
from citekite.settings import Settings, without_password

if TYPE_CHECKING:
    from citekite.knowledge_base import KnowledgeBase
    from citekite.remote import RemoteKnowledgeBase
    from citekite.store.address import RunningServer

MIN_FREE_BYTES = 500_000_000
# A probe gives up soon: it asks whether something answers now.
PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, how it went, what was found, and the command or setting that mends it."""

    name: str
    state: Literal["ok", "note", "failed"]
    message: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """The checks, in the order in which a question meets what they check."""
    from citekite.knowledge_base import KnowledgeBase
    from citekite.remote.beside import running_server

    quick = settings.model_copy(update={"retry_seconds": 0.0, "timeout": min(settings.timeout, PROBE_SECONDS)})
    yield _disk(settings)
    if server := running_server(settings.uri):
        yield from _served(server, quick)
        yield from _reranker(quick)
        yield from _models(quick)
        return
    with KnowledgeBase(settings=quick) as kb:
        yield from _database(kb)
        yield _embedder(kb)
    yield from _reranker(quick)
    yield from _models(quick)


def _disk(settings: Settings) -> Check:
    folder = Path(settings.uri).expanduser().absolute().parent if "://" not in settings.uri else Path.cwd()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:.1f} GB free at {folder}"
    if free < MIN_FREE_BYTES:
        return Check("disk", "failed", message, "free some space: a full disk stops a sync")
    return Check("disk", "ok", message)


def _database(kb: KnowledgeBase | RemoteKnowledgeBase) -> Iterator[Check]:
    uri = without_password(kb.settings.uri)
    try:
        status = kb.status()
    except UnknownCollection as error:
        yield Check("database", "ok", f"{uri} can be used")
        yield Check("collection", "note", str(error), "citekite sync FOLDER")
    except StoreDenied as error:
        yield Check("database", "failed", str(error), "export MILVUS_TOKEN=...")
    except CitekiteError as error:
        yield Check("database", "failed", str(error), "citekite doctor --uri URI (checks another database)")
    else:
        chunks = f"{status.chunks:,} chunk{'s' * (status.chunks != 1)}"
        yield Check("database", "ok", f"{uri} ({status.server})")
        yield Check("collection", "ok", f"{status.collection}: {chunks}, {status.embedder}")


def _served(server: RunningServer, settings: Settings) -> Iterator[Check]:
    """Database, collection and embedder as the server that has the database open sees them."""
    from citekite.remote import RemoteKnowledgeBase

    yield Check("server", "ok", f"{server} has {settings.uri} open; search, ask and sync go through it")
    with RemoteKnowledgeBase(server.url, server.token, settings.collection, settings=settings, same_machine=True) as kb:
        checks = list(_database(kb))
    yield from checks
    if all(check.state == "ok" for check in checks):
        yield Check("embedder", "note", "not checked: it is the server's")


def _embedder(kb: KnowledgeBase) -> Check:
    try:
        name, dimension = kb.probe_embedder()
    except EmbedderMismatch as error:
        return Check("embedder", "failed", str(error), "citekite reindex")
    except StoreError:
        return Check("embedder", "note", "not checked: the collection tells which one, and the database has failed")
    except CitekiteError as error:
        return Check("embedder", "failed", str(error), "citekite config (shows the settings in use)")
    return Check("embedder", "ok", f"{name}, {dimension} dimensions")


def _reranker(settings: Settings) -> Iterator[Check]:
    from citekite.retrieve.rerank import make_reranker

    try:
        reranker = make_reranker(settings)
        if reranker is None:
            return
        reranker.rerank("What is tested?", ["This is a test.", "This is none."])
    except CitekiteError as error:
        yield Check("reranker", "failed", str(error), "citekite config (shows the settings in use)")
    else:
        yield Check("reranker", "ok", f"{reranker.name} answers")


def _models(settings: Settings) -> Iterator[Check]:
    yield _model("model", settings)
    for name in settings.fallback_models:
        yield _model("fallback", settings.model_copy(update={"model": name}))


def _model(check: str, settings: Settings) -> Check:
    from citekite.answer.generate import make_generator
    from citekite.ports import Message

    try:
        generator = make_generator(settings.model_copy(update={"max_tokens": 16}), alone=True)
        if generator is None:
            return Check(
                check,
                "note",
                "no chat model is configured: answers are made of sentences of the documents",
                "export FIREWORKS_API_KEY=... (or set --base-url and --model)",
            )
        for _ in generator.stream([Message("user", "Say: ready")]):
            break
    except CitekiteError as error:
        return Check(check, "failed", str(error), "citekite config (shows the settings in use)")
    return Check(check, "ok", f"{generator.model} answers")
