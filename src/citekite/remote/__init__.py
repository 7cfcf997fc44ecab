"""The client of a citekite server: `RemoteKnowledgeBase` offers over HTTP what `KnowledgeBase` does on a database."""

from citekite.remote.knowledge_base import RemoteKnowledgeBase

__all__ = ["RemoteKnowledgeBase"]
