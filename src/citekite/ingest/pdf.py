"""PDF: the text of each page by PDFium."""

from __future__ import annotations

import re
import threading
import unicodedata
from typing import TYPE_CHECKING, Any

from citekite.errors import DocumentError
from citekite.ingest.base import Parsed, join_pages
from citekite.ingest.encoding import canonical, one_line

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

# PDFium keeps state for the whole process and must not be entered by two threads.
_PDFIUM = threading.Lock()

# A word broken at the end of a line: PDFium marks the hyphen as U+FFFE or U+0002; a soft hyphen shows nowhere else.
_HYPHENATION = re.compile("[\ufffe\u0002\u00ad]\n?")
_LIGATURE = re.compile("[\ufb00-\ufb06]")
_NO_TITLE = re.compile(
    r"(?i)untitled|microsoft \w+ - |.*\.(docx?|pptx?|xlsx?|odt|rtf|indd|dvi|tex|pdf|html?)$|\W*$|\d+$"
)
_FIELDS = ("Author", "Subject", "Keywords")


def parse_pdf(data: bytes) -> Parsed:
    """A PDF: its pages, two newlines apart, with the offset at which each one starts.

    Raises `DocumentError` when it is damaged, encrypted, or has no text layer.
    """
    import pypdfium2

    with _PDFIUM:
        try:
            with pypdfium2.PdfDocument(data) as document:
                pages = [_page_text(document, number) for number in range(len(document))]
                information = document.get_metadata_dict(skip_empty=True)
        except pypdfium2.PdfiumError as error:
            reason = "it is encrypted; save it without a password" if "assword" in str(error) else f"damaged: {error}"
            raise DocumentError(f"the PDF cannot be read: {reason}") from error
    if not any(page.strip() for page in pages):
        raise DocumentError("the PDF has no text layer, only images; run OCR on it first (for instance with ocrmypdf)")
    text, starts = join_pages(pages)
    return Parsed(text, _title(information), _metadata(information), pages=starts)


def clean(text: str) -> str:
    r"""The text of a page as a reader would copy it: words whole, letters instead of ligatures.

    >>> clean("e\ufb03cient re\ufffe\r\ntrieval\r\n")
    'efficient retrieval'
    """
    text = _HYPHENATION.sub("", canonical(text))
    text = _LIGATURE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def _page_text(document: PdfDocument, number: int) -> str:
    page = document[number]
    try:
        text_page = page.get_textpage()
        try:
            return clean(text_page.get_text_bounded(errors="replace"))
        finally:
            text_page.close()
    finally:
        page.close()


def _title(information: dict[str, Any]) -> str:
    """The title field, unless a program filled it with the name of a file or with nothing of use."""
    title = one_line(information.get("Title", ""))
    return "" if _NO_TITLE.match(title) else title


def _metadata(information: dict[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name in _FIELDS if (value := one_line(information.get(name, "")))}
