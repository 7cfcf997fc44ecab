"""A test set made from the user's own collection: by the chat model where there is one, else of its headings."""

from __future__ import annotations

from citekite.errors import SourceError
from citekite.evaluate.headings import questions_from_headings
from citekite.evaluate.written import QuestionSet, write_questions_from_passages
from citekite.knowledge_base import KnowledgeBase
from citekite.ports import Generator, Reporter


def make_questions(
    kb: KnowledgeBase,
    generator: Generator | None,
    *,
    count: int = 200,
    unanswerable: float = 0.3,
    seed: int = 0,
    report: Reporter = lambda progress: None,
) -> QuestionSet:
    """About `count` questions about what the collection holds, the share `unanswerable` of them without an answer.

    There are fewer where the collection does not have more to offer. Without a model the same collection and seed give
    the same questions. Raises `SourceError` where no question can be made, and the model's error where it wrote none.
    """
    if generator is None:
        chunks = kb.collection().all_chunks()
        found = questions_from_headings(chunks, count=count, unanswerable=unanswerable, seed=seed)
        made = QuestionSet(tuple(found))
    else:
        made = write_questions_from_passages(
            kb, generator, count=count, unanswerable=unanswerable, seed=seed, report=report
        )
        if made.error and not made.questions:
            raise made.error
    if not made.questions:
        raise SourceError(_nothing(made))
    return made


def _nothing(made: QuestionSet) -> str:
    if made.dropped:
        reasons = ", ".join(f"{reason} ({number})" for reason, number in made.dropped.items())
        return f"the model {made.model!r} wrote no question that can be used: {reasons}; try another `model`"
    if made.model:
        return "the collection has no passage that is long enough to ask about: write the file by hand"
    return (
        "no heading of the collection can be a question (unique, of at least three telling words, with text under it): "
        "set a chat model, which writes questions from the passages, or write the file by hand"
    )
