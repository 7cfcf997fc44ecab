"""Markdown, plain text and notebooks.

The text of a Markdown file stays as it is, front matter included, so that line numbers are those of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from citekite.errors import DocumentError
from citekite.ingest.base import Parsed, Warn
from citekite.ingest.encoding import canonical, decode, one_line
from citekite.ingest.metadata import MAX_BYTES, json_safe

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_ATX = re.compile(r" {0,3}#(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}=+[ \t]*$")
# Beyond this no title goes on, and the patterns below take time that grows with the cube of the length.
_LONGEST_HEADING = 400
# A line that cannot be the text above a setext underline: other blocks, or nothing.
_NO_PARAGRAPH = re.compile(r"\s*$| {4}|\t| {0,3}(?:#{1,6}(?:\s|$)|[-+*>|]|\d+[.)]\s|<)")
_INLINE = (
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), ""),
    (re.compile(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])"), r"\1"),
    (re.compile(r"<[A-Za-z/!][^>]*>"), ""),
    (re.compile(r"[ \t]*\{#[^}]*\}[ \t]*$"), ""),
    (re.compile(r"(\*\*|__|\*|`+)(\S(?:.*?\S)?)\1"), r"\2"),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)
# What PyYAML lets through of a value that looks like a number or date and is none, beside its own errors.
_YAML_FAULTS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def parse_markdown(data: bytes, warn: Warn) -> Parsed:
    """A Markdown file: title and metadata from YAML front matter, else the title from the first level-1 heading."""
    text = _decoded(data, warn)
    metadata, body = front_matter(text, warn)
    title = metadata.get("title")
    return Parsed(text, one_line(title) if title else first_heading(text, body), metadata, body)


def parse_text(data: bytes, warn: Warn) -> Parsed:
    """Any file that decodes as text, without structure of its own."""
    return Parsed(_decoded(data, warn))


def parse_notebook(data: bytes, warn: Warn) -> Parsed:
    """A Jupyter notebook as Markdown: its Markdown cells, and its code cells in fences; outputs are left out."""
    try:
        notebook = json.loads(_decoded(data, warn))
        language = str(notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python"))
        parts = [part for cell in notebook["cells"] if (part := _cell(cell, language))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DocumentError(f"it is not a Jupyter notebook of format 4: {error!r}") from error
    text = canonical("\n\n".join(parts))
    return Parsed(text, first_heading(text))


def front_matter(text: str, warn: Warn) -> tuple[dict[str, Any], int]:
    """The metadata of YAML front matter, and the offset after it; empty and 0 where there is none or it is broken.

    >>> front_matter("---\\ntitle: FAQ\\n---\\nText", print)
    ({'title': 'FAQ'}, 19)
    """
    import yaml

    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, 0
    if len(match[1]) > MAX_BYTES:
        raise DocumentError(f"its front matter has {len(match[1])} characters, over the limit of {MAX_BYTES}")
    try:
        content = yaml.load(match[1], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # C is ten times faster
    except (yaml.YAMLError, *_YAML_FAULTS) as error:
        warn(f"its front matter is not valid YAML and was taken as text: {one_line(error)}")
        return {}, 0
    if content is None:
        return {}, match.end()
    # Text between two rules (`---`) is no front matter.
    return (json_safe(content), match.end()) if isinstance(content, dict) else ({}, 0)


def first_heading(text: str, body: int = 0) -> str:
    """The first heading of level 1 outside code fences, ATX or setext, as plain text; empty where there is none.

    >>> first_heading("```\\n# no\\n```\\n# The *real* [one](x.md) #\\n")
    'The real one'
    """
    above = ""
    for line in _lines_outside_fences(text[body:]):
        if match := _ATX.match(line):
            title = plain_inline(match[1] or "")
        elif _SETEXT.match(line) and not _NO_PARAGRAPH.match(above):
            title = plain_inline(above)
        else:
            above = line
            continue
        if title:
            return title
        above = ""
    return ""


def plain_inline(markdown: str) -> str:
    """A short line of Markdown without its inline markup.

    >>> plain_inline("`nprobe` and <b>[M](#m)</b> {#anchor}")
    'nprobe and M'
    """
    for pattern, replacement in _INLINE:
        markdown = pattern.sub(replacement, markdown)
    return one_line(markdown)


def fenced(code: str, language: str = "") -> str:
    """Code in a fence that is longer than any run of backticks in it.

    >>> fenced("x = 1", "python")
    '```python\\nx = 1\\n```'
    """
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code.strip(chr(10))}\n{fence}"


def _decoded(data: bytes, warn: Warn) -> str:
    decoded = decode(data)
    if decoded.warning:
        warn(decoded.warning)
    return decoded.text


def _lines_outside_fences(text: str) -> Iterator[str]:
    fence = ""
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if fence:
            if match and match[1].startswith(fence) and not match[2].strip():
                fence = ""
            continue
        if match and not (match[1].startswith("`") and "`" in match[2]):
            fence = match[1]
            yield ""  # a fence ends the paragraph above it
        else:
            yield line[:_LONGEST_HEADING]


def _cell(cell: dict[str, Any], language: str) -> str:
    source = cell.get("source", "")
    content = "".join(source) if isinstance(source, list) else str(source)
    if not content.strip():
        return ""
    return fenced(content, language) if cell.get("cell_type") == "code" else content.strip("\n")
