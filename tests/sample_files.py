"""Small valid files of the formats that are no text."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping


def make_pdf(*pages: str, info: str = "", trailer: str = "") -> bytes:
    """A PDF whose pages show the lines given, in Helvetica and WinAnsi."""
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for index, page in enumerate(pages):
        shown = " ".join(f"({line}) Tj T*" for line in page.split("\n"))
        content = f"BT /F1 12 Tf 14 TL 72 720 Td {shown} ET"
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {5 + 2 * index} 0 R >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    objects.append(f"<< {info} >>")
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R "
    return out + f"{end}/Info {len(objects)} 0 R {trailer}>>\nstartxref\n{len(out)}\n%%EOF".encode()


def zipped(members: Mapping[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


def make_epub() -> bytes:
    return zipped(
        {
            "META-INF/container.xml": '<container xmlns="urn:c"><rootfile full-path="OEBPS/book.opf"/></container>',
            "OEBPS/book.opf": (
                '<package xmlns:dc="urn:dc"><dc:title>The Kites</dc:title><dc:creator>A. Bird</dc:creator>'
                '<item id="z" href="first.xhtml" media-type="application/xhtml+xml"/>'
                '<item id="a" href="second%20part.xhtml" media-type="application/xhtml+xml"/>'
                '<itemref idref="z"/><itemref idref="a"/></package>'
            ),
            "OEBPS/first.xhtml": '<?xml version="1.0" encoding="utf-8"?><html><body><h1>Red</h1><p>É</p></body></html>',
            "OEBPS/second part.xhtml": "<html><body><h1>Black</h1></body></html>",
        }
    )


def make_docx() -> bytes:
    import docx

    document, content = docx.Document(), io.BytesIO()
    document.core_properties.title = "Guide"
    document.core_properties.author = "A. Bird"
    document.add_heading("Install", 2)
    document.add_paragraph("Run it.")
    document.add_paragraph("first", style="List Bullet")
    document.add_paragraph("second", style="List Bullet")
    table = document.add_table(2, 2)
    for cell, text in zip((cell for row in table.rows for cell in row.cells), "abcd", strict=True):
        cell.text = text
    document.add_paragraph("The end.")
    document.save(content)
    return content.getvalue()


def make_pptx() -> bytes:
    import pptx

    presentation, content = pptx.Presentation(), io.BytesIO()
    for title, body in (("Goals", "Fast\nSmall"), ("Plan", "Later")):
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = body
    slide.notes_slide.notes_text_frame.text = "Say why."
    presentation.save(content)
    return content.getvalue()


def make_xlsx() -> bytes:
    import openpyxl

    book, content = openpyxl.Workbook(), io.BytesIO()
    for sheet, values in ((book.active, ["name", None, "price"]), (book.create_sheet("Two"), ["x|y", 1, 2.5])):
        sheet.append(values)
    book.active.append(["kite", None, 3])
    book.save(content)
    return content.getvalue()
