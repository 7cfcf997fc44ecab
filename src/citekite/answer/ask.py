"""Asking: the stages of an answer wired to a collection, as one stream of events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from citekite.answer.generate import closing_stream
from citekite.errors import CitekiteError
from citekite.events import Done, Event, Failed
from citekite.explanation import Explanation, Stage
from citekite.prices import Prices
from citekite.store.limits import hurried
from citekite.telemetry import Span, span
from citekite.timing import Stopwatch
from citekite.types import Chunk, Hit, Retrieval, Turn, Usage

if TYPE_CHECKING:
    from citekite.connection import Connection
    from citekite.store.collection import Collection

Search = Callable[[str], Retrieval]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and how it is to be answered; `found` is answered from instead of a search."""

    question: str
    history: tuple[Turn, ...] = ()
    deep: bool = False
    explain: bool = False
    found: Retrieval | None = None


def ask(asked: Asked, connection: Connection, open: Callable[[], Collection], search: Search) -> Iterator[Event]:
    """The events of an answer from the collection that `open` gives, of what `search` finds in it.

    What goes wrong becomes `Failed`. The context variables that it sets are its own where the iterator is.
    """
    workflow = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "ask",
        "gen_ai.data_source.id": connection.settings.collection,
        "citekite.deep": asked.deep,
    }
    with connection.telemetry.active(), span("invoke_workflow ask", workflow) as traced:
        traced.set_content(lambda: {"citekite.content.question": asked.question})
        prices = Prices.from_settings(connection.settings)
        with closing_stream(_events(asked, connection, open, search)) as events:
            for event in events:
                _describe(event, traced)
                if isinstance(event, Done):
                    event = Done(replace(event.answer, explanation=prices.of_all(event.answer.explanation)))
                yield event


def _events(asked: Asked, connection: Connection, open: Callable[[], Collection], search: Search) -> Iterator[Event]:
    def beside(hits: Sequence[Hit]) -> list[Chunk]:
        from citekite.retrieve.expand import places_beside

        with hurried():
            return open().at(places_beside(hits))

    settings, question = connection.settings, asked.question
    watch = Stopwatch()
    found, standalone, usage = asked.found, question, Usage()
    try:
        generator = connection.models.generator
        if not (found or asked.history or asked.deep):
            found = search(question)
        # What these modules need was loaded meanwhile.
        from citekite.answer.deep import Budget, respond_deep
        from citekite.answer.respond import AnswerPlan, respond, standalone_question

        plan = AnswerPlan.make(settings, open().record, explain=asked.explain)
        if asked.history:
            with watch.time("rewrite"):
                standalone, usage = standalone_question(question, asked.history, generator)
        if asked.deep:
            budget = Budget.from_settings(settings)
            events = respond_deep(question, standalone, search, beside, generator, budget, plan, usage=usage)
        else:
            found = found or search(standalone)
            fetching = Stopwatch()
            with fetching.time("neighbours"):
                neighbours = beside(found.hits)
            found = _with(found, fetching.stages)
            events = respond(question, standalone, found, generator, plan, neighbours=neighbours, usage=usage)
    except CitekiteError as error:
        yield Failed(error)
        return
    with closing_stream(events) as stream:
        for event in stream:
            if isinstance(event, Done) and (later := event.answer.explanation) is not None:
                explanation = replace(later, stages=(*watch.stages, *later.stages))
                event = Done(replace(event.answer, explanation=explanation))
            yield event


def _with(found: Retrieval, stages: Sequence[Stage]) -> Retrieval:
    """What was found, with further stages behind those of the search."""
    searched = found.explanation or Explanation(())
    return replace(found, explanation=replace(searched, stages=(*searched.stages, *stages)))


def _describe(event: Event, traced: Span) -> None:
    """Tell a span how the answer ended."""
    if isinstance(event, Failed):
        traced.fail(type(event.error).__name__)
        traced.set({"citekite.outcome": "failed"})
    elif isinstance(event, Done):
        answer = event.answer
        traced.set(
            {
                "citekite.outcome": answer.outcome,
                "citekite.passages": len(answer.hits),
                "citekite.citations": len(answer.citations),
                "citekite.confidence": answer.confidence,
                "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
            }
        )
        traced.set_content(lambda: {"citekite.content.answer": answer.text})
