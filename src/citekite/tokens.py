"""Token counts without a tokenizer, for budgets that must hold for every model."""

from __future__ import annotations

import regex

_WIDE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has: four bytes each, and one for each letter of a script without spaces.

    An estimate for packing and cost; a hard limit needs a margin.

    >>> estimate_tokens("How is data stored?")
    5
    >>> estimate_tokens("搜索引擎")
    4
    """
    if text.isascii():
        return -(-len(text) // 4)
    wide = len(_WIDE.findall(text))
    return wide + -(-(len(text.encode("utf-8", "replace")) - 3 * wide) // 4)
