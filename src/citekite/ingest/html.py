"""HTML to Markdown text: the main content of a page with its headings, lists, tables and code.

A small walker rather than a library, because the text is what citations quote: it has to read like the page.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from citekite.errors import DocumentError
from citekite.ingest.base import Parsed, Warn
from citekite.ingest.encoding import canonical, decode, is_binary, one_line
from citekite.ingest.markdown import fenced
from citekite.ingest.metadata import json_safe

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# Without text for a reader, or controls of the page.
_WITHOUT_TEXT = """
    script style template noscript svg button iframe object canvas video audio
    input select textarea dialog head title meta link img
"""
_BLOCK_LEVEL = """
    address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer
    form header hr html legend li main nav ol p pre section summary table tbody td tfoot th thead tr ul
    caption menu hgroup search
"""
_DROPPED = frozenset(_WITHOUT_TEXT.split())
_BLOCKS = frozenset(_BLOCK_LEVEL.split()).union(_HEADINGS)
_AROUND = frozenset(["nav", "aside", "footer", "header"])
_CHARSET = re.compile(rb"""<(?:meta|\?xml)\b[^>]*?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_HEADER_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*>")
_HIDING_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_LANGUAGE = re.compile(r"\b(?:language|lang|highlight|brush)[-:]\s*([\w+#-]+)")
_PERMALINK = re.compile(r"\s*[#¶§🔗]\s*$")
_META = {
    "description": ("description", "og:description"),
    "author": ("author", "article:author"),
    "date": ("date", "article:published_time", "dc.date", "dcterms.created"),
}


def parse_html(data: bytes, warn: Warn, content_type: str | None = None) -> Parsed:
    """A page: the Markdown text of its main content, its title, and description, author and date as metadata.

    The encoding is what `content_type` or the page itself says, if that holds. Raises `DocumentError` when there is no
    text in the page.
    """
    from bs4 import BeautifulSoup

    markup = _XML_DECLARATION.sub("", _decode(data, content_type, warn), count=1)
    # BeautifulSoup takes markup without a tag for a file name.
    soup = BeautifulSoup(markup if "<" in markup else f"<p>{markup}", "lxml")
    try:
        text, title = to_markdown(soup), _title(soup)
    except RecursionError:
        raise DocumentError("its elements are nested too deeply") from None
    if not text:
        raise DocumentError("the page has no text; if a script writes it in the browser, save the page from there")
    return Parsed(text, title, _metadata(soup))


def to_markdown(soup: BeautifulSoup) -> str:
    """The main content of a parsed page as Markdown; the whole body where the main part has no text."""
    for selector in ("main, [role=main]", "article"):
        found = soup.select(selector)
        if len(found) == 1 and (text := _join(_blocks(found[0], inside=True))):
            return text
    return _join(_blocks(soup.body or soup))


def _decode(data: bytes, content_type: str | None, warn: Warn) -> str:
    """The page as text; a byte order mark and the pattern of UTF-16 go before what the page or server declares."""
    header = _HEADER_CHARSET.search(content_type or "")
    declared = _CHARSET.search(data[:4096])
    charset = header[1] if header else declared[1].decode() if declared else ""
    marked = data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if charset and not marked and not is_binary(data):
        # As browsers do: Latin-1 means Windows-1252, and a page whose declaration can be read is not UTF-16.
        name = charset.lower()
        name = {"iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "utf-16": "utf-8"}.get(name, name)
        try:
            return canonical(str(data, name))
        except (LookupError, ValueError):
            warn(f"it is not in its declared encoding {charset!r}")
    decoded = decode(data)
    if decoded.warning:
        warn(decoded.warning)
    return decoded.text


def _title(soup: BeautifulSoup) -> str:
    """The first heading where the page's title repeats it (with the name of the site), else the page's title."""
    page = one_line(soup.title.get_text()) if soup.title else ""
    page = page or _meta(soup, ("og:title",))
    heading = next((text for tag in soup.find_all("h1") if (text := _heading_text(tag))), "")
    return heading if heading and (heading in page or not page) else page


def _metadata(soup: BeautifulSoup) -> dict[str, Any]:
    return json_safe({name: value for name, names in _META.items() if (value := _meta(soup, names))})


def _meta(soup: BeautifulSoup, names: tuple[str, ...]) -> str:
    for tag in soup.find_all("meta"):
        name = str(tag.get("name") or tag.get("property") or "").lower()
        if name in names and (content := one_line(tag.get("content") or "", 2000)):
            return content
    return ""


def _join(blocks: Iterator[str]) -> str:
    return "\n\n".join(block for block in blocks if block.strip())


def _blocks(parent: Tag, inside: bool = False) -> Iterator[str]:
    """The blocks of an element; `inside` the main content, headers and footers belong to it."""
    from bs4 import Tag
    from bs4.element import PreformattedString

    line: list[str] = []
    for child in parent.children:
        if not isinstance(child, Tag):
            if not isinstance(child, PreformattedString):  # comments and the like
                line.append(_spaces(str(child)))
        elif _hidden(child) or (child.name in _AROUND and not (inside and child.name == "header")):
            continue
        elif _is_block(child):
            yield _tidy(line)
            line = []
            yield from _block(child, inside)
        else:
            line.append(_inline(child))
    yield _tidy(line)


def _block(tag: Tag, inside: bool) -> Iterator[str]:
    if tag.name in _HEADINGS:
        if text := _heading_text(tag):
            yield f"{'#' * _HEADINGS[tag.name]} {text}"
    elif tag.name == "pre":
        yield _code(tag)
    elif tag.name in ("ul", "ol", "menu"):
        yield _list(tag, inside)
    elif tag.name == "table":
        yield from _table(tag, inside)
    elif tag.name == "blockquote":
        quoted = _join(_blocks(tag, inside))
        yield "\n".join(f"> {line}".rstrip() for line in quoted.split("\n")) if quoted else ""
    else:
        yield from _blocks(tag, inside or tag.name in ("main", "article"))


def _code(tag: Tag) -> str:
    classes = " ".join(str(element.get("class", "")) for element in (tag, tag.code, tag.parent) if element)
    language = _LANGUAGE.search(classes)
    for line_break in tag.find_all("br"):
        line_break.replace_with("\n")
    code = "\n".join(line.rstrip() for line in tag.get_text().split("\n")).strip("\n")
    return fenced(code, language[1] if language else "") if code.strip() else ""


def _list(tag: Tag, inside: bool) -> str:
    items = []
    number = int(start) if (start := str(tag.get("start", "1"))).isdecimal() and len(start) < 9 else 1
    for child in tag.find_all(True, recursive=False):
        if _hidden(child):
            continue
        blocks = [block for block in _blocks(child, inside) if block.strip()]
        if not blocks:
            continue
        mark = f"{number}. " if tag.name == "ol" else "- "
        number += 1
        content = blocks[0]
        for block in blocks[1:]:
            content += ("\n" if re.match(r"- |\d+\. ", block) else "\n\n") + block
        indented = content.replace("\n", "\n" + " " * len(mark))
        items.append(mark + re.sub(r"(?m)^ +$", "", indented))
    return "\n".join(items)


def _table(tag: Tag, inside: bool) -> Iterator[str]:
    """Pipe rows under the first one; a table that only lays out the page is walked as blocks."""
    rows = [row for row in tag.find_all("tr") if row.find_parent("table") is tag and not _hidden(row)]
    cells = [[_cell(cell) for cell in row.find_all(["td", "th"], recursive=False)] for row in rows]
    width = max((len(row) for row in cells), default=0)
    if width < 2 or tag.find(["table", "pre", *_HEADINGS]):
        yield from _blocks(tag, inside)
        return
    if tag.caption:
        yield _tidy([_inline(tag.caption)])
    yield pipe_table(cells)


def pipe_table(rows: list[list[str]]) -> str:
    """Rows of cells as a Markdown table, the first row as its header; rows without content are left out.

    >>> print(pipe_table([["a", "b|c"], ["1"]]))
    | a | b\\|c |
    | --- | --- |
    | 1 |  |
    """
    rows = [row for row in rows if any(row)]
    width = max((len(row) for row in rows), default=0)
    padded = [[cell.replace("|", "\\|") for cell in row] + [""] * (width - len(row)) for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    return "\n".join([*lines[:1], "|" + " --- |" * width, *lines[1:]]) if lines else ""


def _cell(tag: Tag) -> str:
    return " ".join(_inline(tag).split())


def _heading_text(tag: Tag) -> str:
    return one_line(_PERMALINK.sub("", _tidy([_inline(tag)])))


def _inline(tag: Tag) -> str:
    """The text of an inline element: code in backticks, links and emphasis as their text."""
    from bs4 import Tag
    from bs4.element import PreformattedString

    if tag.name == "br":
        return "\n"
    pieces = []
    for child in tag.children:
        if isinstance(child, Tag):
            if not _hidden(child):
                pieces.append(f" {_inline(child)} " if child.name in _BLOCKS else _inline(child))
        elif not isinstance(child, PreformattedString):
            pieces.append(_spaces(str(child)))
    text = "".join(pieces)
    if tag.name in ("code", "kbd", "samp", "tt") and text.strip() and "`" not in text:
        return f"`{text.strip()}`"
    return text


def _is_block(tag: Tag) -> bool:
    """Whether a line ends before an element: it is a block, or there is one in it."""
    return tag.name in _BLOCKS or any(getattr(inner, "name", None) in _BLOCKS for inner in tag.descendants)


def _hidden(tag: Tag) -> bool:
    return (
        tag.name in _DROPPED
        or tag.has_attr("hidden")
        or tag.get("aria-hidden") == "true"
        or bool(_HIDING_STYLE.search(str(tag.get("style", ""))))
    )


def _spaces(text: str) -> str:
    return re.sub(r"[ \t\n\f\u00a0]+", " ", text)


def _tidy(pieces: list[str]) -> str:
    text = re.sub(r" {2,}", " ", "".join(pieces))
    return canonical(re.sub(r" *\n *", "\n", text)).strip()
