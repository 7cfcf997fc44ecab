"""Importing beside other work: what waits for a network or a disk hides the time that an import takes."""

from __future__ import annotations

import threading
from importlib import import_module


def preload(*modules: str) -> None:
    """Import modules in a thread of their own; who needs one meanwhile imports it as ever, and waits for the rest."""
    threading.Thread(target=lambda: [import_module(name) for name in modules], daemon=True).start()
