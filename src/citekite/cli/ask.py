"""Commands that read: search, ask, chat."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citekite.cli import show
from citekite.cli.explain import show_explanation
from citekite.cli.filters import takes_filter
from citekite.cli.options import (
    ANSWER,
    CHAT,
    DEEP,
    EMBED,
    ENDPOINT,
    PRICE,
    RETRIEVE,
    SERVER,
    STORE,
    WATCH,
    takes_settings,
)
from citekite.cli.target import open_knowledge_base
from citekite.errors import CitekiteError, EndpointError, ServerError, SettingsError, status_of
from citekite.events import Delta, Done, Failed, Retrieved
from citekite.render import answer_json, hit_json, retrieval_json
from citekite.retrieve.filter import Filter
from citekite.types import Answer, Step, Turn
from citekite.wellformed import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from citekite.events import Event

Question = Annotated[str, typer.Argument(metavar="QUESTION", help="The question, in quotation marks.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Explain = Annotated[
    bool, typer.Option("--explain", help="Then show each stage with its time, candidates, scores and tokens.")
]


@takes_settings(*RETRIEVE, *EMBED, *CHAT, *PRICE, *ENDPOINT, *STORE, *SERVER, *WATCH)
@takes_filter
def search(
    arguments: dict[str, Any],
    question: Question,
    filter: Filter,
    as_json: AsJson = False,
    format: Annotated[str, typer.Option("--format", help="text, json, or pairs: [[text, distance], ...].")] = "text",
    explain: Explain = False,
) -> None:
    """Show the passages that answer a question best."""
    if format not in ("text", "json", "pairs"):
        raise SettingsError(f"--format cannot be {format!r}: it is text, json or pairs")
    if format == "pairs" and explain:
        raise SettingsError("--format pairs has no place for an explanation: leave --explain out, or use --json")
    with open_knowledge_base(arguments) as kb:
        found = kb.retrieve(question, filter=filter, explain=explain)
    hits = found.hits
    for note in found.notes:
        print(note, file=sys.stderr)
    if format == "pairs":
        print(json.dumps([[hit.chunk.text, hit.score] for hit in hits], ensure_ascii=False, indent=4))
    elif explain and (as_json or format == "json"):
        print(json.dumps(retrieval_json(found), ensure_ascii=False, indent=2))
    elif as_json or format == "json":
        print(json.dumps([hit_json(hit) for hit in hits], ensure_ascii=False, indent=2))
    elif not hits:
        print("Nothing in the documents matches.")
    else:
        print("\n".join(map(show.show_hit, hits)).rstrip())
    if found.explanation is not None and format == "text" and not as_json:
        print(f"\n{show_explanation(found.explanation)}")


@takes_settings(*ANSWER, *DEEP, *RETRIEVE, *EMBED, *CHAT, *PRICE, *ENDPOINT, *STORE, *SERVER, *WATCH)
@takes_filter
def ask(
    arguments: dict[str, Any],
    question: Question,
    filter: Filter,
    deep: Annotated[bool, typer.Option("--deep", help="Split the question and search in rounds first.")] = False,
    explain: Explain = False,
    as_json: AsJson = False,
) -> None:
    """Answer a question from the documents, with citations."""
    from citekite.answer.generate import closing_stream

    with (
        open_knowledge_base(arguments) as kb,
        closing_stream(kb.ask_stream(question, filter=filter, deep=deep, explain=explain)) as events,
    ):
        if as_json:
            _print_json(question, events)
        else:
            _print_stream(events)


@takes_settings(*ANSWER, *RETRIEVE, *EMBED, *CHAT, *ENDPOINT, *STORE, *SERVER, *WATCH)
@takes_filter
def chat(arguments: dict[str, Any], filter: Filter) -> None:
    """Ask one question after the other; a follow-up may refer to what was said before. An empty line ends it."""
    history: list[Turn] = []
    failure: CitekiteError | None = None
    with open_knowledge_base(arguments) as kb:
        kb.count()  # where there is none, that is said before the first question
        while question := _next_question():
            try:
                answer = _print_stream(kb.ask_stream(question, filter=filter, history=history))
            except (EndpointError, ServerError) as error:
                failure = error  # the conversation is worth more than one reply: the next question may get its answer
                print(f"citekite: {error}", file=sys.stderr)
            else:
                failure = None
                history.append(Turn(question, answer.text))
    if failure:
        raise typer.Exit(status_of(failure).exit_code)


def _print_stream(events: Iterator[Event]) -> Answer:
    """Print an answer as it comes, then its notes and sources; the steps before it go to standard error."""
    queries: tuple[str, ...] = ()
    for event in events:
        if isinstance(event, Retrieved):
            queries = event.queries
        elif isinstance(event, Delta):
            print(printable(event.text), end="", flush=True)
        elif isinstance(event, Step):
            if line := show.show_step(event):
                print(show.dim(line, sys.stderr), file=sys.stderr, flush=True)
        elif isinstance(event, Failed):
            if event.partial:
                print("\n(the answer stops here)")
            raise event.error
        elif isinstance(event, Done):
            _print_end(event.answer, queries)
            return event.answer
    raise AssertionError("an answer ends with Done or Failed")


def _print_json(question: str, events: Iterator[Event]) -> None:
    """Print the whole answer as JSON; of one that broke off, what had come and the error."""
    for event in events:
        if isinstance(event, Failed):
            if event.partial:
                broken = {"question": question, "text": event.partial, "error": str(event.error)}
                print(json.dumps(broken, ensure_ascii=False, indent=2))
            raise event.error
        if isinstance(event, Done):
            print(json.dumps(answer_json(event.answer), ensure_ascii=False, indent=2))


def _print_end(answer: Answer, queries: tuple[str, ...]) -> None:
    print()
    if answer.citations:
        print(f"\n{show.show_sources(answer)}")
    if checked := show.show_claims(answer):
        print(f"\n{checked}")
    if answer.dropped_markers:
        print(show.dim(f"\n{answer.dropped_markers} markers that point at no passage were dropped."))
    if answer.notes:
        print("\n" + "\n".join(map(show.dim, answer.notes)))
    if answer.standalone not in ("", answer.question):
        print(show.dim(f"Searched for: {answer.standalone}"))
    for query in queries:
        print(show.dim(f"Also searched for: {show.one_line(query)}"))
    if answer.explanation is not None:
        print(f"\n{show_explanation(answer.explanation)}")


def _next_question() -> str:
    try:
        return input("\n> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
