"""Text that can be encoded: a question from a terminal may hold bytes that were no UTF-8."""

from __future__ import annotations


def well_formed(text: str) -> str:
    """The text with each lone surrogate replaced by `?`, so that tokenizers and JSON take it.

    >>> well_formed("caf\\udce9?")
    'caf??'
    """
    return text.encode("utf-8", "replace").decode("utf-8")
