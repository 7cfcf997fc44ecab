"""Which of the things that answer a question a search found, and in which order.

A question names documents (`sources`) or texts (`passages`); a search returns chunks. Both become lists of item ids
that any metric can score, whatever splitter cut the chunks: a document counts by its best chunk, and a passage is
found by the words that a chunk shares with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from citekite.evaluate.question import Question
from citekite.retrieve.lexical import terms
from citekite.types import Chunk, Hit

# A chunk that holds this share of a passage's terms has found it.
_SHARE = 0.5
# A chunk that lies within a passage has to be at least this long (characters): a lone heading is no evidence.
_LEAST_CHARACTERS = 20


def gold(question: Question) -> dict[str, int]:
    """The ids of what a search should find, each with its grade; empty where nothing says it.

    >>> gold(Question("1", "Who?", sources=("a.md", "b.md"), grades=(2, 1)))
    {'a.md': 2, 'b.md': 1}
    >>> gold(Question("1", "Who?", passages=("It was me.",)))
    {'passage 1': 1}
    """
    if question.passages:
        return {_passage_id(number): 1 for number, _ in enumerate(question.passages, start=1)}
    return dict(zip(question.sources, question.grades or (1,) * len(question.sources), strict=True))


def ranked_items(question: Question, hits: Iterable[Hit]) -> list[str]:
    """The ids of what a search found, best first, each once: gold ids where a hit matches, else its own.

    A hit's own id is its document where the question names documents, its chunk where it names passages. The
    near-duplicates of a hit (`Hit.others`) are found with it.
    """
    items: dict[str, None] = {}
    for hit in hits:
        matched = [id for chunk in (hit.chunk, *hit.others) for id in matches(question, chunk)]
        items.update(dict.fromkeys(matched or [hit.chunk.id if question.passages else hit.chunk.source]))
    return list(items)


def matches(question: Question, chunk: Chunk) -> list[str]:
    """The gold ids that a chunk matches: the passages where the question has any, else its sources."""
    if question.passages:
        numbered = enumerate(question.passages, start=1)
        return [_passage_id(number) for number, passage in numbered if holds_passage(chunk.text, passage)]
    return [source for source in question.sources if is_source(chunk.source, source)]


def is_source(source: str, wanted: str) -> bool:
    """Whether a stored source is the wanted one: the same, or ending in it from a `/` on; a file stands for its rows.

    >>> is_source("/docs/faq/terms.md", "faq/terms.md"), is_source("/docs/faq/terms.md", "erms.md")
    (True, False)
    >>> is_source("/data/corpus.jsonl#7", "corpus.jsonl#7"), is_source("/data/corpus.jsonl#7", "corpus.jsonl")
    (True, True)
    """
    wanted = wanted.removeprefix("./")
    names = (source,) if "#" in wanted else (source, source.partition("#")[0])
    return any(name == wanted or name.endswith(f"/{wanted}") for name in names)


def missing_sources(questions: Iterable[Question], stored: Iterable[str]) -> list[str]:
    """The sources that questions name and a collection of the `stored` sources does not hold.

    >>> missing_sources([Question("1", "Q", sources=("faq/a.md", "b.md"))], ["/docs/faq/a.md", "/docs/bb.md"])
    ['b.md']
    """
    by_name: dict[str, list[str]] = {}
    for source in stored:
        for name in (source, source.partition("#")[0]):
            by_name.setdefault(name.rpartition("/")[2], []).append(source)
    wanted = dict.fromkeys(source for question in questions for source in question.sources)
    return [
        source
        for source in wanted
        if not any(is_source(one, source) for one in by_name.get(source.rpartition("/")[2], ()))
    ]


def holds_passage(text: str, passage: str) -> bool:
    """Whether a chunk's text contains a passage, is a part of it, or has at least half of its terms in any order.

    White space and case do not count; terms are those of the lexical search, so a passage may be plain text where the
    chunk is Markdown.

    >>> holds_passage("# Kites\\n\\nThe red kite  has a forked tail.", "the red kite has a forked tail.")
    True
    >>> holds_passage("A forked tail marks the kite.", "The kite has a forked tail."), holds_passage("Owls.", "Kites.")
    (True, False)
    """
    text, passage = _normalised(text), _normalised(passage)
    if passage in text or (len(text) >= _LEAST_CHARACTERS and text in passage):
        return True
    wanted = Counter(terms(passage))
    return bool(wanted) and (wanted & Counter(terms(text))).total() >= _SHARE * wanted.total()


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split())


def _passage_id(number: int) -> str:
    return f"passage {number}"
