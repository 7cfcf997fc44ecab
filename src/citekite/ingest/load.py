"""From the bytes of a file to its documents: one module a format, chosen here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from citekite.errors import DocumentError, MissingExtra
from citekite.ingest.base import LoadOptions, Parsed, SourceFile, Warn, digest_of
from citekite.ingest.encoding import one_line, title_from_name
from citekite.ingest.formats import Kind, format_of, is_without_text, suffix_of
from citekite.ingest.html import parse_html
from citekite.ingest.markdown import parse_markdown, parse_notebook, parse_text
from citekite.ingest.office import parse_docx, parse_epub, parse_pptx, parse_xlsx
from citekite.ingest.pdf import parse_pdf
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
    file: SourceFile, options: LoadOptions, warn: Callable[[Failure], None], data: bytes | None = None
) -> Iterator[Document | Failure]:
    """The documents of a file: one, or one a row of a table, where a row that cannot be taken is a `Failure`.

    `data` saves reading a file again whose bytes are at hand. `warn` gets what a reader should know of a file that
    was loaded all the same, such as a guessed encoding. Raises `DocumentError` while it is iterated.
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
    parsed = _parse(kind, file, data, options, remark)
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


def _parse(kind: Kind, file: SourceFile, data: bytes, options: LoadOptions, warn: Warn) -> Parsed:
    match kind:
        case "markdown":
            return parse_markdown(data, warn)
        case "notebook":
            return parse_notebook(data, warn)
        case "html":
            return parse_html(data, warn, file.content_type)
        case "pdf":
            return parse_pdf(data)
        case "docx" | "pptx" | "xlsx" | "epub":
            return _parse_office(kind, file, data, options, warn)
        case "zip":
            raise DocumentError("it is an archive inside an archive; unpack the outer one and sync the folder")
    if is_without_text(file.name) and not file.content_type:
        raise DocumentError(f"files of the kind {suffix_of(file.name) or file.name!r} hold no text to index")
    return parse_text(data, warn)


def _parse_office(kind: Kind, file: SourceFile, data: bytes, options: LoadOptions, warn: Warn) -> Parsed:
    try:
        match kind:
            case "docx":
                return parse_docx(data, file.name, options)
            case "pptx":
                return parse_pptx(data, file.name, options)
            case "xlsx":
                return parse_xlsx(data, file.name, options)
        return parse_epub(data, options, warn)
    except MissingExtra as error:
        # One format that cannot be read is no reason to leave the other files.
        raise DocumentError(str(error)) from error
