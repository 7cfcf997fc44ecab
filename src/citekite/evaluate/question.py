"""One question of a question set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """A question with what is known to answer it.

    `sources` are documents that answer it (a path's end is enough), `grades` how relevant each of them is (1 where
    none are given), `passages` texts that answer it, found in a chunk by their words, `answers` gold answers, any of
    which is right. A question with `answerable` false has none of these.
    `heading` is the heading path (title first) that the question was made of, in the document `source`: that heading
    is hidden from what is searched, and for a question that is not answerable the whole section is.
    """

    id: str
    text: str
    sources: tuple[str, ...] = ()
    passages: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    answerable: bool = True
    heading: tuple[str, ...] = ()
    source: str = ""
    grades: tuple[int, ...] = ()
