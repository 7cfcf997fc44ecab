"""Who changes an embedded database and who looks at its files keep out of each other's way, within one process.

Many may change it at once, each another collection; a look waits until all of them are done, and keeps new ones
waiting. Other processes are kept away by the database's own lock.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from citekite.store.embedded import database_path, is_embedded


class Gate:
    """Lets changes through, or one look."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._changing: Counter[int] = Counter()  # by thread
        self._looks = 0

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the database inside; waits while somebody looks at it, unless this thread has begun before."""
        me = threading.get_ident()
        with self._condition:
            self._condition.wait_for(lambda: self._changing[me] or not self._looks)
            self._changing[me] += 1
        try:
            yield
        finally:
            with self._condition:
                self._changing[me] -= 1
                if not self._changing[me]:
                    del self._changing[me]
                self._condition.notify_all()

    @contextmanager
    def looking(self, seconds: float | None = None) -> Iterator[None]:
        """Nobody changes the database inside; raises `TimeoutError` where somebody still does after that time."""
        with self._condition:
            self._looks += 1
            idle = self._condition.wait_for(lambda: not self._changing, seconds)
        try:
            if not idle:
                raise TimeoutError
            yield
        finally:
            with self._condition:
                self._looks -= 1
                self._condition.notify_all()


_gates: defaultdict[Path, Gate] = defaultdict(Gate)
_guard = threading.Lock()


def gate_of(path: Path) -> Gate:
    """The one gate of the embedded database in that folder."""
    with _guard:
        return _gates[path]


def changing(uri: str) -> AbstractContextManager[None]:
    """Change the database of a URI inside; a server sees to its own files."""
    return gate_of(database_path(uri)).changing() if is_embedded(uri) else nullcontext()
