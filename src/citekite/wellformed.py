"""Text that can be encoded: a question from a terminal may hold bytes that were no UTF-8."""

from __future__ import annotations


def well_formed(text: str) -> str:
    """The text with each lone surrogate replaced by `?`, so that tokenizers and JSON take it.

    >>> well_formed("caf\\udce9?")
    'caf??'
    """
    return text.encode("utf-8", "replace").decode("utf-8")


# Control characters move a terminal's cursor, colours and title; bidirectional controls reorder what is read; tag
# characters hide text. A line end and a tab are text.
_UNPRINTABLE = dict.fromkeys(
    (
        *(code for code in range(0x20) if chr(code) not in "\n\t"),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xE0000, 0xE0080),
    )
)


def printable(text: str) -> str:
    """The text without characters that act on a terminal or hide what it says.

    >>> printable("red\\x1b[31m \\u202edesrever")
    'red[31m desrever'
    """
    return text.translate(_UNPRINTABLE)
