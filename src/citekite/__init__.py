"""Cited answers from your own documents, on Milvus and any OpenAI-style API.

    from citekite import KnowledgeBase

    with KnowledgeBase("./docs.db") as kb:
        kb.sync("docs/")
        print(kb.ask("How is data stored in Milvus?"))

The public names are imported when they are first used: `import citekite` alone loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from citekite.errors import CitekiteError
    from citekite.events import Cited, Delta, Done, Event, Failed, Retrieved
    from citekite.knowledge_base import KnowledgeBase
    from citekite.remote import RemoteKnowledgeBase
    from citekite.reports import SyncPlan, SyncReport
    from citekite.retrieve.filter import Filter
    from citekite.settings import Settings, load_settings
    from citekite.types import Answer, Chunk, Citation, Document, Hit, Step, Turn

__version__ = "0.1.0"

_HOMES = {
    "CitekiteError": "errors",
    "Filter": "retrieve.filter",
    "KnowledgeBase": "knowledge_base",
    "RemoteKnowledgeBase": "remote",
    "Settings": "settings",
    "load_settings": "settings",
    **dict.fromkeys(("Cited", "Delta", "Done", "Event", "Failed", "Retrieved"), "events"),
    **dict.fromkeys(("SyncPlan", "SyncReport"), "reports"),
    **dict.fromkeys(("Answer", "Chunk", "Citation", "Document", "Hit", "Step", "Turn"), "types"),
}

__all__ = [
    "Answer",
    "Chunk",
    "Citation",
    "Cited",
    "CitekiteError",
    "Delta",
    "Document",
    "Done",
    "Event",
    "Failed",
    "Filter",
    "Hit",
    "KnowledgeBase",
    "RemoteKnowledgeBase",
    "Retrieved",
    "Settings",
    "Step",
    "SyncPlan",
    "SyncReport",
    "Turn",
    "load_settings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
