"""The tools: each is a function of a call that returns text for a model and values for a program.

Nothing found is a result that says so. A failure is raised, and becomes an error of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from citekite.errors import DocumentError, ServerError, SettingsError
from citekite.events import answer_of
from citekite.render import answer_json, document_json, retrieval_json
from citekite.serve.mcp.inputs import AskInput, GetDocumentInput, Input, ListDocumentsInput, SearchInput, SyncInput
from citekite.serve.mcp.library import Call
from citekite.serve.principal import Scope
from citekite.types import describe_location

# A model reads no more at once; what is longer comes by line ranges.
LONGEST_TEXT = 50_000

InputT = TypeVar("InputT", bound=Input)


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool returns: text to read, and the same as values."""

    text: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its name and description, what it takes, the names and JSON types of what it returns, what it runs.

    `scope` is what a key needs at least; a tool that writes exists only where the settings allow it.
    """

    name: str
    title: str
    description: str
    takes: type[Input]
    returns: dict[str, str]
    run: Callable[[Call, Any], Result]
    scope: Scope = "read"

    @property
    def writes(self) -> bool:
        return self.scope != "read"

    @property
    def output_schema(self) -> dict[str, Any]:
        """The JSON Schema of `Result.values`."""
        properties = {name: {"type": kind} for name, kind in self.returns.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}


def _search(call: Call, asked: SearchInput) -> Result:
    found = call.kb.retrieve(asked.question, k=asked.k, mode=asked.mode, filter=asked.filter.to_filter())
    call.library.searched(found)
    lines = [
        f"[{hit.rank}] {describe_location(hit.chunk)} (document {hit.chunk.document_id})\n{hit.chunk.text}"
        for hit in found.hits
    ]
    text = "\n\n".join(lines) or "Nothing in the documents fits this question."
    return Result("\n".join([text, *found.notes]), retrieval_json(found))


def _ask(call: Call, asked: AskInput) -> Result:
    events = call.kb.ask_stream(
        asked.question,
        k=asked.k,
        mode=asked.mode,
        filter=asked.filter.to_filter(),
        history=asked.turns(),
        deep=asked.deep,
    )
    answer = answer_of(call.library.watched(events))
    # The passages are what `search` is for: a model that asked for an answer should not pay to read them.
    return Result(str(answer), {name: value for name, value in answer_json(answer).items() if name != "hits"})


def _get_document(call: Call, asked: GetDocumentInput) -> Result:
    document = call.kb.document(asked.document)
    lines = document.text.split("\n")
    text, last = lines_of(lines, asked.first_line, asked.last_line)
    values = {name: value for name, value in document_json(document).items() if name != "chunks"}
    head = f"{document.title or document.source} ({document.source}, lines {asked.first_line}-{last} of {len(lines)})"
    more = (
        f"\n\nThe next lines: first_line={last + 1}." if last < min(asked.last_line or len(lines), len(lines)) else ""
    )
    return Result(
        f"{head}\n\n{text}{more}",
        {**values, "text": text, "first_line": asked.first_line, "last_line": last, "lines": len(lines)},
    )


def lines_of(lines: list[str], first: int, last: int | None) -> tuple[str, int]:
    """The text from one line to another (from 1), as far as `LONGEST_TEXT` reaches, and the line at which it ends.

    A single line that is longer is cut. Raises `SettingsError` for lines that are not there.

    >>> lines_of(["a", "b", "c"], 2, 9)
    ('b\\nc', 3)
    """
    if first > len(lines) or (last is not None and last < first):
        raise SettingsError(f"there are no lines {first} to {last or len(lines)}: the document has {len(lines)}")
    wanted = lines[first - 1 : last]
    length = 0
    for count, line in enumerate(wanted):
        length += len(line) + 1
        if length > LONGEST_TEXT + 1:
            wanted = wanted[: max(1, count)]
            break
    return "\n".join(wanted)[:LONGEST_TEXT], first + len(wanted) - 1


def _list_documents(call: Call, asked: ListDocumentsInput) -> Result:
    wanted = asked.query.casefold()
    found = [one for one in call.kb.documents() if wanted in one.source.casefold() or wanted in one.title.casefold()]
    shown = found[asked.offset : asked.offset + asked.limit]
    lines = [f"{one.id}  {one.title or '(no title)'}, {one.source}, {one.chunks} chunks" for one in shown]
    if shown:
        lines.insert(0, f"Documents {asked.offset + 1} to {asked.offset + len(shown)} of {len(found)}:")
    elif found:
        lines = [f"There are {len(found)} documents, and none after the first {asked.offset}."]
    else:
        lines = [
            f"No document has {asked.query!r} in its source or title." if wanted else "There are no documents yet."
        ]
    return Result("\n".join(lines), {"total": len(found), "documents": [asdict(one) for one in shown]})


def _sync(call: Call, asked: SyncInput) -> Result:
    try:
        report = call.library.sync(call, tuple(asked.sources), prune=asked.prune)
    except KeyboardInterrupt:
        raise ServerError(
            "the sync was stopped; what it had stored stays, and the next one goes on from there"
        ) from None
    if report.failures and not report.new + report.changed + report.unchanged:
        raise DocumentError("; ".join(f"{failure.source}: {failure.reason}" for failure in report.failures))
    counts = f"{report.new} new, {report.changed} changed, {report.unchanged} unchanged, {report.pruned} pruned"
    failures = [f"Failed: {failure.source}: {failure.reason}" for failure in report.failures]
    return Result("\n".join([f"Documents: {counts}.", *failures]), asdict(report))


TOOLS = (
    Tool(
        "search",
        "Search the documents",
        "Find the passages of the knowledge base's documents that fit a question best, with their source, headings and "
        "line. Use it to read what the documents say in their own words; for an answer with citations use ask.",
        SearchInput,
        {"hits": "array", "queries": "array", "notes": "array", "seconds": "object"},
        _search,
    ),
    Tool(
        "ask",
        "Ask the documents",
        "Answer a question from the knowledge base's documents alone, with numbered citations that name source and "
        "line. outcome is 'no_evidence' where the documents do not answer it.",
        AskInput,
        {"outcome": "string", "text": "string", "citations": "array", "notes": "array"},
        _ask,
    ),
    Tool(
        "get_document",
        "Read a document",
        "Read the text of a document, whole or from one line to another: the context of a passage or citation that "
        "search or ask named. Long documents come in several calls.",
        GetDocumentInput,
        {
            "id": "string",
            "source": "string",
            "title": "string",
            "text": "string",
            "first_line": "integer",
            "last_line": "integer",
            "lines": "integer",
        },
        _get_document,
    ),
    Tool(
        "list_documents",
        "List the documents",
        "List the documents of the knowledge base by source, with id, title and number of chunks, a page at a time.",
        ListDocumentsInput,
        {"total": "integer", "documents": "array"},
        _list_documents,
    ),
    Tool(
        "sync",
        "Sync sources",
        "Bring the knowledge base to the state of files, folders or URLs: what is new or changed is read and indexed.",
        SyncInput,
        {"new": "integer", "changed": "integer", "unchanged": "integer", "pruned": "integer", "failures": "array"},
        _sync,
        scope="write",
    ),
)
