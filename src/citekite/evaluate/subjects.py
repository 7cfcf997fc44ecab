"""Whether a collection is about the subject of a heading in other places too."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from citekite.answer.extract import content_words
from citekite.types import Chunk

# A chunk that holds more than this share of a heading's content words, counted or weighted by how rare they are, may be
# about its subject. The lower, the surer that nothing answers, and the fewer such questions.
SHARE = 2 / 3
# A word of more chunks than this share is no subject (the product's name, in its manual), and with fewer other words
# than this the subject cannot be told.
EVERYWHERE = 0.1
_LEAST_TERMS = 3


class Subjects:
    """The content words of some texts (headings), and which chunks of a collection hold them."""

    def __init__(self, chunks: Sequence[Chunk], texts: Sequence[str]) -> None:
        self._chunks = chunks
        wanted = {term for text in texts for term in _stems(text)}
        self._holders: dict[str, set[int]] = defaultdict(set)
        for number, chunk in enumerate(chunks):
            for term in wanted & _stems(f"{chunk.title}\n{chunk.indexed_text}"):
                self._holders[term].add(number)

    def elsewhere(self, text: str, source: str, path: tuple[str, ...]) -> bool:
        """Whether a chunk outside that section holds more than `SHARE` of the text's content words; True in doubt."""
        weights = {term: self._weight(term) for term in _stems(text) if not self._is_everywhere(term)}
        if len(weights) < _LEAST_TERMS:
            return True
        counts: Counter[int] = Counter()
        sums: dict[int, float] = defaultdict(float)
        for term, weight in weights.items():
            for number in self._holders[term]:
                counts[number] += 1
                sums[number] += weight
        least, heavy = SHARE * len(weights), SHARE * sum(weights.values())
        return any(
            (count > least or sums[number] > heavy) and not self._within(number, source, path)
            for number, count in counts.items()
        )

    def says_verbatim(self, text: str, source: str, path: tuple[str, ...]) -> bool:
        """Whether a chunk outside that section repeats the text word for word: a table of contents, a link to it."""
        folded = _folded(text)
        holders = [self._holders[term] for term in _stems(text)] or [set()]
        return any(
            not self._within(number, source, path) and folded in _folded(self._chunks[number].text)
            for number in set.intersection(*holders)
        )

    def _within(self, number: int, source: str, path: tuple[str, ...]) -> bool:
        chunk = self._chunks[number]
        return chunk.source == source and chunk.headings[: len(path)] == path

    def _is_everywhere(self, term: str) -> bool:
        return len(self._holders[term]) > EVERYWHERE * len(self._chunks)

    def _weight(self, term: str) -> float:
        """The inverse document frequency, as BM25 has it."""
        held = len(self._holders[term])
        return math.log(1 + (len(self._chunks) - held + 0.5) / (held + 0.5))


def _stems(text: str) -> set[str]:
    return {word for words in content_words(text) for word in words}


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
