"""From the bytes of one file to its text: the formats whose libraries are trusted with nothing but a process to lose.

They work through megabytes of foreign binary, in C for the most part: some file will hang one of them or crash it. A
sync lets processes of their own run `parse_apart` (`parsers`); it may be called in place just as well.
"""

from __future__ import annotations

from collections.abc import Callable

from citekite.errors import DocumentError, MissingExtra
from citekite.ingest.base import LoadOptions, Parsed, Warn
from citekite.ingest.formats import Kind
from citekite.ingest.office import parse_docx, parse_epub, parse_pptx, parse_xlsx
from citekite.ingest.pdf import parse_pdf

Parse = Callable[[Kind, str, bytes, LoadOptions, Warn], Parsed]

APART: frozenset[Kind] = frozenset({"pdf", "docx", "pptx", "xlsx", "epub"})


def parse_apart(kind: Kind, name: str, data: bytes, options: LoadOptions, warn: Warn) -> Parsed:
    """Parse a file of a kind in `APART`; raises `DocumentError`."""
    try:
        match kind:
            case "pdf":
                return parse_pdf(data)
            case "docx":
                return parse_docx(data, name, options)
            case "pptx":
                return parse_pptx(data, name, options)
            case "xlsx":
                return parse_xlsx(data, name, options)
            case "epub":
                return parse_epub(data, options, warn)
    except MissingExtra as error:
        # One format that cannot be read is no reason to leave the other files.
        raise DocumentError(str(error)) from error
    raise ValueError(kind)
