"""From the bytes of a file to its documents: one module a format, chosen here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from citekite.errors import DocumentError
from citekite.ingest.base import LoadOptions, Parsed, SourceFile, Warn, digest_of
from citekite.ingest.encoding import one_line, title_from_name
from citekite.ingest.formats import Kind, format_of, is_without_text, suffix_of
from citekite.ingest.html import parse_html
from citekite.ingest.markdown import parse_markdown, parse_notebook, parse_text
from citekite.ingest.parse import APART, Parse, parse_apart
from citekite.ingest.table import load_rows
from citekite.reports import Failure
from citekite.types import Document, Format

__all__ = ["LoadOptions", "SourceFile", "digest_of", "load"]

_FORMATS: dict[Kind, Format] = {
    "markdown": "markdown",
    "notebook": "markdown",
    "text": "text",
    "html": "html",
    "pdf": "pdf",
    "docx": "office",
    "pptx": "office",
    "xlsx": "office",
    "epub": "office",
}


def load(
    file: SourceFile,
    options: LoadOptions,
    warn: Callable[[Failure], None],
    data: bytes | None = None,
    parse: Parse = parse_apart,
) -> Iterator[Document | Failure]:
    """The documents of a file: one, or one a row of a table, where a row that cannot be taken is a `Failure`.

    `data` saves reading a file again whose bytes are at hand. `warn` gets what a reader should know of a file that
    was loaded all the same, such as a guessed encoding. `parse` is called for the formats that may be parsed elsewhere.
    Raises `DocumentError` while it is iterated.
    """
    if data is None:
        data = file.read()
    if not data:
        raise DocumentError("it is empty")

    def remark(reason: str) -> None:
        warn(Failure(file.source, reason))

    kind = format_of(file.name, file.content_type)
    if kind == "csv" or kind == "jsonl":
        yield from load_rows(file, kind, data, options, remark)
        return
    parsed = parse(kind, file.name, data, options, remark) if kind in APART else _parse(kind, file, data, remark)
    if not parsed.text.strip():
        raise DocumentError("it has no text")
    yield Document(
        source=file.source,
        title=one_line(parsed.title) or title_from_name(file.name),
        text=parsed.text,
        digest=digest_of(data, options),
        format=_FORMATS[kind],
        metadata=parsed.metadata,
        body=parsed.body,
        pages=parsed.pages,
    )


def _parse(kind: Kind, file: SourceFile, data: bytes, warn: Warn) -> Parsed:
    match kind:
        case "markdown":
            return parse_markdown(data, warn)
        case "notebook":
            return parse_notebook(data, warn)
        case "html":
            return parse_html(data, warn, file.content_type)
        case "zip":
            raise DocumentError("it is an archive inside an archive; unpack the outer one and sync the folder")
    if is_without_text(file.name) and not file.content_type:
        raise DocumentError(f"files of the kind {suffix_of(file.name) or file.name!r} hold no text to index")
    return parse_text(data, warn)
