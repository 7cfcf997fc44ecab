"""The maps that were drawn last, for as long as what they show is as it was."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from citekite.knowledge_base import KnowledgeBase
from citekite.retrieve.collection_map import CollectionMap, draw
from citekite.serve.principal import Principal

# A map of 5,000 points takes about 2 MB.
_MOST_MAPS = 16

Key = tuple[str, frozenset[str] | None]


@dataclass(slots=True)
class Maps:
    """One map for each collection and what of it may be seen, drawn anew when the content has changed.

    Threads may share it; while one draws, the others wait, so that none is drawn twice.
    """

    _drawn: OrderedDict[Key, tuple[str, CollectionMap]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, kb: KnowledgeBase, principal: Principal) -> CollectionMap:
        """The map of what the caller sees of a knowledge base, which has to be that of this caller."""
        key = kb.settings.collection, principal.groups
        with self._lock:
            collection = kb.collection()
            state = collection.state()
            known = self._drawn.pop(key, None)
            if known is None or not state or known[0] != state:
                known = state, draw(collection)
            self._drawn[key] = known
            while len(self._drawn) > _MOST_MAPS:
                self._drawn.popitem(last=False)
            return known[1]
