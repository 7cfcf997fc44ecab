"""Quotations: finds them in an answer and checks that they stand in a passage.

A quotation is compared letter by letter after folding what a model or a layout may change without changing the
words: case, white space, kinds of quotation marks and dashes, Markdown emphasis, link targets, footnote numbers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import regex

from citekite.answer.sentences import CODE
from citekite.types import Hit

# Shorter quotations are names and terms, not statements of a document.
_LEAST_WORDS = 4
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\w\p{M}'’-]+")
_QUOTATION = regex.compile(
    r"""(?<![\w"])"(?=\S)([^"\n]{1,2000})(?<=\S)"(?!\w)|“([^“”\n]{1,2000})”|„([^„“”\n]{1,2000})[“”]
    |«([^«»\n]{1,2000})»|»([^«»\n]{1,2000})«|「([^「」\n]{1,2000})」|『([^『』\n]{1,2000})』""",
    regex.VERBOSE,
)
_OMISSION = regex.compile(r"\s*(?:\[\s*(?:…|\.{3})\s*\]|\(\s*(?:…|\.{3})\s*\)|…|\.{3,})\s*")
_HIDDEN = regex.compile(
    r"""(?<=\])\([^()\s]*(?:\s"[^"]*")?\)      # the target of a link
    |[\[⟦]\^?\d{1,3}[\]⟧]                      # a marker or a footnote's number""",
    regex.VERBOSE,
)
_IGNORED = regex.compile(r"[*_`\\\[\]⟦⟧\p{Cf}]")
_SAME = str.maketrans("“”„‟«»‘’‚‛′″‐‑‒–—−", '""""""\'\'\'\'\'"------')


def quotations(text: str) -> list[str]:
    """The quotations of at least four words in a text, without their marks; code is passed over.

    >>> quotations('It says "stored as an incremental log" and "etcd".')
    ['stored as an incremental log']
    """
    prose = CODE.sub(" ", text)
    found = [next(filter(None, match.groups())) for match in _QUOTATION.finditer(prose)]
    return [quote for quote in found if len(_WORD.findall(quote)) >= _LEAST_WORDS]


def find_quote(quote: str, passage: str) -> tuple[int, int] | None:
    """Where a quotation stands in a passage, as offsets; parts around an omission (…) have to come in that order.

    >>> find_quote("Stored as an “incremental log”.", 'It is stored\\nas an "incremental log", always.')
    (6, 36)
    """
    folded, origin = _fold(passage)
    first = last = -1
    for part in _OMISSION.split(quote):
        wanted = _fold(part)[0].strip(" .,;:!?。，、")
        if not wanted:
            continue
        at = folded.find(wanted, last + 1)
        if at < 0:
            return None
        first, last = at if first < 0 else first, at + len(wanted) - 1
    return (origin[first], origin[last] + 1) if first >= 0 else None


def unverified_quotes(answer_text: str, passages: Sequence[Hit]) -> tuple[str, ...]:
    """The quotations of an answer that stand in none of the passages."""
    return tuple(
        quote for quote in quotations(answer_text) if not any(find_quote(quote, hit.chunk.text) for hit in passages)
    )


def _fold(text: str) -> tuple[str, list[int]]:
    """The text as it is compared, and for each of its characters the offset of the one that it came from."""
    hidden = {offset for match in _HIDDEN.finditer(text) for offset in range(*match.span())}
    folded: list[str] = []
    origin: list[int] = []
    for offset, character in enumerate(text):
        if offset in hidden or _IGNORED.match(character):
            continue
        for plain in unicodedata.normalize("NFKD", character).casefold().translate(_SAME):
            space = plain.isspace()
            if space and (not folded or folded[-1] == " "):
                continue
            folded.append(" " if space else plain)
            origin.append(offset)
    return "".join(folded), origin
