"""What the bytes of a file say it is, whatever its name says: the formats that are loaded, and what none of them is."""

from __future__ import annotations

import posixpath
import re
import zipfile
from dataclasses import dataclass
from typing import IO

from citekite.errors import DocumentError
from citekite.ingest.archive import DAMAGE
from citekite.ingest.formats import MEDIA_TYPES, Kind, format_of, is_known, is_without_text, suffix_of

_HEAD = 4096
# https://en.wikipedia.org/wiki/List_of_file_signatures
_BINARIES = (
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ", "a program for Windows"),
    (b"\xcf\xfa\xed\xfe", "a program for macOS"),
    (b"\xce\xfa\xed\xfe", "a program for macOS"),
    (b"\xca\xfe\xba\xbe", "a Java class or a program for macOS"),
    (b"\0asm", "a WebAssembly program"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a media file (RIFF)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0", "an Office file of the form before 2007"),
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_HTML = re.compile(
    rb"\s*(?:<!--.*?-->\s*|<\?xml[^>]*>\s*)*<(?:!doctype\s+html|html|head|body|script|iframe)\b", re.I | re.S
)
_NOTEBOOK = re.compile(rb"\s*\{.{0,2000}\"(?:cells|nbformat)\"\s*:", re.S)
_TEXTS: tuple[Kind, ...] = ("markdown", "text", "csv", "jsonl", "notebook")


@dataclass(frozen=True, slots=True)
class Found:
    """The format that a content has, None for none that can be loaded, and what it is in words."""

    kind: Kind | None
    words: str


def sniff(file: IO[bytes]) -> Found:
    """What a seekable file holds; its place is at the start afterwards."""
    file.seek(0)
    head = file.read(_HEAD)
    try:
        return _sniffed(head, file)
    finally:
        file.seek(0)


def checked_name(name: str, file: IO[bytes]) -> str:
    """The name, with a suffix by the content where it says nothing; raises `DocumentError` where the two disagree."""
    found = sniff(file)
    if found.kind is None:
        raise DocumentError(f"{name!r} is {found.words}, which holds no text to index")
    said = format_of(name)
    if not is_known(name):
        if is_without_text(name):
            raise DocumentError(
                f"files of the kind {suffix_of(name)!r} hold no text to index; this one is {found.words}"
            )
        if found.kind == "text" and suffix_of(name):  # a program's source, a configuration
            return name
        return f"{name}.{'txt' if found.kind == 'text' else found.kind.replace('notebook', 'ipynb')}"
    agree = found.kind == said or (said in _TEXTS and found.kind in ("text", "html", "notebook"))
    if not agree and not (said == "html" and found.kind == "text"):
        raise DocumentError(f"{name!r} is not what its name says: it is {found.words}")
    return name


def media_type(name: str, file: IO[bytes]) -> str:
    """The media type for handing a file out: by name and content, and never one that a browser would run."""
    kind = sniff(file).kind
    if kind is None:
        return "application/octet-stream"
    said = format_of(name)
    return MEDIA_TYPES.get(
        said if said in _TEXTS and kind in ("text", "notebook") else kind, "text/plain; charset=utf-8"
    )


def _sniffed(head: bytes, file: IO[bytes]) -> Found:
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        return _packed(file)
    plain = _is_plain(head)  # a text may well begin with the word RIFF, or be about PDF
    if head.startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and not plain):
        return Found("pdf", "a PDF file")
    for magic, words in _BINARIES:
        if head.startswith(magic) and not plain:
            return Found(None, words)
    if not head.startswith(_UTF16) and b"\0" in head:
        return Found(None, "binary data")
    if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        return Found("html", "an HTML page")
    if _NOTEBOOK.match(head):
        return Found("notebook", "a notebook")
    return Found("text", "plain text")


def _is_plain(head: bytes) -> bool:
    """Whether bytes are UTF-8 text; a character may be cut off at the end."""
    text = head.decode(errors="replace").removesuffix("\ufffd")
    return "\0" not in text and "\ufffd" not in text


def _packed(file: IO[bytes]) -> Found:
    """Office files are zip archives with a certain member."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            declared = archive.read("mimetype")[:60] if _is_small(archive, "mimetype") else b""
    except DAMAGE as error:
        return Found(None, f"a damaged zip archive ({error})")
    if declared.strip() == b"application/epub+zip":
        return Found("epub", "an e-book (EPUB)")
    if "[Content_Types].xml" in names:
        for folder, kind, words in _OFFICE:
            if any(posixpath.dirname(name) == folder for name in names):
                return Found(kind, words)
    return Found("zip", "a zip archive")


_OFFICE: tuple[tuple[str, Kind, str], ...] = (
    ("word", "docx", "a Word file"),
    ("ppt", "pptx", "a PowerPoint file"),
    ("xl", "xlsx", "an Excel file"),
)


def _is_small(archive: zipfile.ZipFile, name: str) -> bool:
    return name in archive.NameToInfo and archive.getinfo(name).file_size < 1000
