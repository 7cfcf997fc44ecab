"""Office documents as Markdown text: Word, PowerPoint, Excel and EPUB."""

from __future__ import annotations

import io
import posixpath
import re
import warnings
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from citekite.errors import DocumentError, importing
from citekite.ingest.archive import check_unpacked_size
from citekite.ingest.base import LoadOptions, Parsed, Warn, join_pages
from citekite.ingest.encoding import canonical, one_line
from citekite.ingest.html import parse_html, pipe_table
from citekite.ingest.metadata import json_safe

_FIELDS = ("subject", "keywords", "created", "modified")
_CONTAINER = "META-INF/container.xml"
_HEADING_STYLE = re.compile(r"(?i)heading (\d)")


def parse_docx(data: bytes, name: str, options: LoadOptions) -> Parsed:
    """A Word document: headings by style, lists, tables as pipe rows. Raises `MissingExtra` without python-docx."""
    with importing("docx", "office", f"reading {name!r}"):
        import docx
    with _reading("Word document", data, options):
        document = docx.Document(io.BytesIO(data))
        text = _join(_docx_blocks(document))
        return Parsed(text, one_line(document.core_properties.title or ""), _properties(document.core_properties))


def parse_pptx(data: bytes, name: str, options: LoadOptions) -> Parsed:
    """A presentation: a page a slide, headed `Slide N: title`, notes too. Raises `MissingExtra` without python-pptx."""
    with importing("pptx", "office", f"reading {name!r}"):
        import pptx
    with _reading("PowerPoint presentation", data, options):
        presentation = pptx.Presentation(io.BytesIO(data))
        slides = [_slide(number, slide) for number, slide in enumerate(presentation.slides, 1)]
        properties = presentation.core_properties
        text, starts = join_pages(slides)
        return Parsed(text, one_line(properties.title or ""), _properties(properties), pages=starts)


def parse_xlsx(data: bytes, name: str, options: LoadOptions) -> Parsed:
    """A workbook: a heading and pipe rows a sheet, formulas by their value. Raises `MissingExtra` without openpyxl."""
    with importing("openpyxl", "office", f"reading {name!r}"):
        import openpyxl
    with _reading("Excel workbook", data, options), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it cannot write back, such as validation rules; nothing is written
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        try:
            text = _join(_sheet(sheet) for sheet in book.worksheets)
            return Parsed(text, one_line(book.properties.title or ""), _properties(book.properties))
        finally:
            book.close()


def parse_epub(data: bytes, options: LoadOptions, warn: Warn) -> Parsed:
    """An e-book: its chapters in reading order, each as an HTML page is read."""
    with _reading("EPUB", data, options), zipfile.ZipFile(io.BytesIO(data)) as archive:
        container = _xml(archive.read(_CONTAINER))
        package_path = next((e.get("full-path", "") for e in container.iter() if _tag(e) == "rootfile"), "")
        package = _xml(archive.read(package_path))
        items = {e.get("id"): e for e in package.iter() if _tag(e) == "item"}
        chapters = []
        for reference in (e.get("idref") for e in package.iter() if _tag(e) == "itemref"):
            item = items[reference]
            if "html" not in item.get("media-type", ""):
                continue
            path = posixpath.join(posixpath.dirname(package_path), unquote(item.get("href", "")))
            try:
                chapters.append(parse_html(archive.read(posixpath.normpath(path)), warn).text)
            except DocumentError:
                continue  # covers and title pages are images alone
        described = {name: _described(package, name) for name in ("title", "creator", "language", "date")}
    title = described.pop("title")
    metadata = {("author" if name == "creator" else name): value for name, value in described.items() if value}
    return Parsed(_join(chapters), title, metadata)


@contextmanager
def _reading(what: str, data: bytes, options: LoadOptions) -> Iterator[None]:
    """Hold the limits on unpacked size before a library unpacks the file, and say it plainly when it cannot."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_unpacked_size(archive, archive.infolist(), "it", options)
        yield
    except DocumentError:
        raise
    except Exception as error:  # on damaged XML the libraries raise anything, also errors of their own
        encrypted = data.startswith(b"\xd0\xcf\x11\xe0")
        reason = "encrypted, or of a format before 2007" if encrypted else f"damaged: {error!r}"
        raise DocumentError(f"the {what} cannot be read: it is {reason}") from error


def _join(blocks: Any) -> str:
    return canonical("\n\n".join(block for block in blocks if block.strip()))


def _properties(properties: Any) -> dict[str, Any]:
    values = {name: getattr(properties, name, None) for name in _FIELDS}
    values["author"] = getattr(properties, "author", None) or getattr(properties, "creator", None)
    return json_safe({name: value for name, value in values.items() if value})


def _docx_blocks(document: Any) -> Iterator[str]:
    from docx.table import Table

    items: list[str] = []
    for part in document.iter_inner_content():
        if not isinstance(part, Table) and "List" in _style(part) and part.text.strip():
            items.append(f"- {part.text.strip()}")
            continue
        yield "\n".join(items)
        items = []
        if isinstance(part, Table):
            yield _docx_table(part)
        else:
            yield _paragraph(part)
    yield "\n".join(items)


def _style(paragraph: Any) -> str:
    return (paragraph.style.name if paragraph.style is not None else "") or ""


def _paragraph(paragraph: Any) -> str:
    text: str = paragraph.text.strip()
    style = _style(paragraph)
    if text and style == "Title":
        return f"# {one_line(text)}"
    if text and (match := _HEADING_STYLE.match(style)):
        return f"{'#' * max(1, min(6, int(match[1])))} {one_line(text)}"
    return text


def _docx_table(table: Any) -> str:
    rows = []
    for row in table.rows:
        cells: list[str] = []
        previous = None
        for cell in row.cells:  # a merged cell comes once for each column that it spans
            cells.append("" if cell._tc is previous else " ".join(cell.text.split()))
            previous = cell._tc
        rows.append(cells)
    return pipe_table(rows)


def _slide(number: int, slide: Any) -> str:
    heading = slide.shapes.title
    title = one_line(heading.text_frame.text) if heading is not None else ""
    blocks = []
    for shape in _shapes(slide.shapes):
        if heading is not None and shape.shape_id == heading.shape_id:
            continue
        if shape.has_text_frame:
            blocks.append(shape.text_frame.text.replace("\v", "\n").strip())
        elif getattr(shape, "has_table", False):
            blocks.append(pipe_table([[" ".join(c.text.split()) for c in row.cells] for row in shape.table.rows]))
    if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame):
        blocks.append(notes.text.strip())
    content = _join(blocks)
    if not title and not content:
        return ""
    return _join([f"# Slide {number}: {title}" if title else f"# Slide {number}", content])


def _shapes(shapes: Any) -> Iterator[Any]:
    """All shapes, those in groups too."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _sheet(sheet: Any) -> str:
    sheet.reset_dimensions()  # as declared, they may be far larger than what is there, and each row be padded to them
    # By column: a row whose only cell is in the last of 16,384 columns comes with all of them.
    rows = [
        {column: text for column, value in enumerate(row) if value is not None and (text := _value(value))}
        for row in sheet.iter_rows(values_only=True)
    ]
    used = sorted(set().union(*rows))
    table = pipe_table([[row.get(column, "") for column in used] for row in rows if row])
    return f"# {one_line(sheet.title)}\n\n{table}" if table else ""


def _value(value: Any) -> str:
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).removesuffix("T00:00:00")
    return " ".join(str(value).split())


def _xml(data: bytes) -> ElementTree.Element:
    if b"<!ENTITY" in data:  # no e-book needs them; nested ones unpack without end
        raise DocumentError("the EPUB declares XML entities, which are not read")
    return ElementTree.fromstring(data)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _described(package: ElementTree.Element, name: str) -> str:
    return next((one_line(e.text) for e in package.iter() if _tag(e) == name and e.text), "")
