"""Near-duplicates among the hits of one search: the same text in several places is one passage with several sources."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import regex

from citekite.types import Chunk, Hit

# Broder, "On the resemblance and containment of documents" (1997): the Jaccard coefficient of the sets of word 5-grams.
_SHINGLE = 5
# Of the pairs in the Milvus documentation with equal numbers, all above this differed in nothing that matters; from 0.9
# on a third did ("cluster" against "instance"), and from 0.85 on "--gpus all" was missing (docs/retrieval.md).
_NEARLY_ALL = 0.95
# A shorter text has to be equal: one word may be all that it says.
_LEAST_WORDS = 40

_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\w\p{M}]+")
_NUMBER = regex.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """What is compared of a chunk; `shingles` is empty for a short text."""

    plain: str
    headings: tuple[str, ...]
    shingles: frozenset[tuple[str, ...]]

    @classmethod
    def of(cls, chunk: Chunk, plain: str) -> _Fingerprint:
        words = _WORD.findall(plain)
        size = len(words) - _SHINGLE + 1
        shingles = (tuple(words[i : i + _SHINGLE]) for i in range(size)) if len(words) >= _LEAST_WORDS else ()
        # "None." means what the headings above it say.
        return cls(plain, chunk.headings if size < 1 else (), frozenset(shingles))

    def resembles(self, other: _Fingerprint) -> bool:
        if self.plain == other.plain:
            return self.headings == other.headings
        fewer, more = sorted((len(self.shingles), len(other.shingles)))
        if fewer == 0 or fewer < _NEARLY_ALL * more:
            return False
        shared = len(self.shingles & other.shingles)
        return shared >= _NEARLY_ALL * (fewer + more - shared)


def collapse(hits: Sequence[Hit]) -> list[Hit]:
    """The hits without those that nearly repeat a better one, which lists their chunks in `others`; ranks from 1 on.

    Two texts are the same when they are equal but for case and white space or, from 40 words on, share 95 % of their
    word 5-grams. Texts with different numbers in them never are: they are about two versions, prices or dates.
    """
    kept: list[Hit] = []
    by_numbers: dict[tuple[str, ...], list[tuple[_Fingerprint, int]]] = {}
    for hit in hits:
        plain = _plain(hit.chunk.text)
        fingerprint = _Fingerprint.of(hit.chunk, plain)
        group = by_numbers.setdefault(tuple(_NUMBER.findall(plain)), [])
        place = next((place for known, place in group if known.resembles(fingerprint)), None)
        if place is None:
            group.append((fingerprint, len(kept)))
            kept.append(replace(hit, rank=len(kept) + 1))
        else:
            kept[place] = replace(kept[place], others=(*kept[place].others, hit.chunk, *hit.others))
    return kept


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
