"""What merged and grown passages hold and cost against the chunks that a search finds, by chunk size, without a model.

The paragraphs of each XQuAD article are put into one document of one section, so that a chunk has neighbours. The
questions and gold answers are those of `bench.extractive`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.extractive import DATA_SET, PASSAGES, read_questions
from bench.report import Result, data, publish
from citekite import KnowledgeBase
from citekite.answer.confidence import estimate
from citekite.answer.extract import extract
from citekite.answer.prompt import passage_tokens
from citekite.answer.respond import NOTHING_NEAR
from citekite.events import Retrieved
from citekite.settings import Settings
from citekite.types import Hit

CHUNK_CHARACTERS = (400, 800, 1600)
# XQuAD takes this many paragraphs of each article, one after the other.
PARAGRAPHS = 5


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares of all questions with a gold answer in the passages and in the answer; mean tokens of the passages."""

    held: float
    answered: float
    tokens: float


def figures(asked: Sequence[tuple[str, Sequence[str], Sequence[Hit], Sequence[Hit]]]) -> Figures:
    """The figures over questions with gold answers, hits and passages; whether to answer is judged by the hits."""
    held = answered = tokens = 0
    for question, gold, hits, passages in asked:
        held += any(wanted in hit.chunk.text for hit in passages for wanted in gold)
        tokens += sum(map(passage_tokens, passages))
        shown = extract(question, passages) if estimate(question, hits).related >= NOTHING_NEAR else []
        text = " ".join(sentence.text for sentence in shown)
        answered += any(wanted in text for wanted in gold)
    return Figures(held / len(asked), answered / len(asked), tokens / len(asked))


def write_articles(corpus: Path, folder: Path) -> Path:
    """The paragraphs of a corpus as Markdown documents of `PARAGRAPHS` each."""
    texts = [json.loads(line)["text"] for line in corpus.read_text(encoding="utf-8").splitlines()]
    folder.mkdir()
    for start in range(0, len(texts), PARAGRAPHS):
        paragraphs = texts[start : start + PARAGRAPHS]
        (folder / f"{start:04}.md").write_text("\n\n".join(["# Article", *paragraphs]), encoding="utf-8")
    return folder


def _passages(kb: KnowledgeBase, question: str) -> tuple[Hit, ...]:
    retrieved = next(event for event in kb.ask_stream(question, k=PASSAGES) if isinstance(event, Retrieved))
    return retrieved.hits


def _results(name: str, found: Figures) -> Iterator[Result]:
    yield Result(f"{name}: gold answer in the passages", found.held)
    yield Result(f"{name}: gold answer in at most two sentences", found.answered)
    yield Result(f"{name}: passages", found.tokens, "tokens")


def main() -> None:
    questions = read_questions(data(DATA_SET))
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_articles(data(DATA_SET) / "corpus.jsonl", Path(temporary) / "articles")
        for characters in CHUNK_CHARACTERS:
            settings = Settings(uri=f"{temporary}/{characters}.db", embedder="static", chunk_characters=characters)
            with KnowledgeBase(settings=settings) as kb:
                kb.sync(folder)
                hits = [kb.search(question, k=PASSAGES) for question, _ in questions]
                passages = [_passages(kb, question) for question, _ in questions]
            alone = [(*asked, found, found) for asked, found in zip(questions, hits, strict=True)]
            grown = [(*asked, found, larger) for asked, found, larger in zip(questions, hits, passages, strict=True)]
            results = [*_results("chunks", figures(alone)), *_results("grown", figures(grown))]
            title = f"{DATA_SET} as articles, chunks of {characters} characters"
            publish(f"context-{characters}", title, results)
