"""Which format a file has, by its suffix or by the content type that a web server gave."""

from __future__ import annotations

import posixpath
from typing import Literal

Kind = Literal["markdown", "text", "html", "pdf", "csv", "jsonl", "notebook", "docx", "pptx", "xlsx", "epub", "zip"]

_SUFFIXES: dict[str, Kind] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".mdown": "markdown",
    ".mdx": "markdown",
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".log": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".ipynb": "notebook",
    ".docx": "docx",
    ".pptx": "pptx",
    ".xlsx": "xlsx",
    ".epub": "epub",
    ".zip": "zip",
}

_CONTENT_TYPES: dict[str, Kind] = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/x-ipynb+json": "notebook",
    "application/zip": "zip",
    "application/x-zip-compressed": "zip",
    "application/epub+zip": "epub",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}

# How a file is handed out. HTML is text here: no browser shall run what somebody uploaded.
MEDIA_TYPES: dict[Kind, str] = {
    "markdown": "text/markdown; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "notebook": "application/x-ipynb+json",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "epub": "application/epub+zip",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

# What servers say of a file that they do not know; then its name knows more.
_VAGUE_TYPES = frozenset({"", "text/plain", "application/octet-stream", "binary/octet-stream", "application/json"})

# Files of these kinds lie in most folders and hold no text: a walk passes over them without a word.
_WITHOUT_TEXT = """
    .png .jpg .jpeg .gif .bmp .ico .icns .svg .webp .tif .tiff .psd .heic .avif .eps
    .mp3 .wav .flac .ogg .m4a .aac .mp4 .mov .avi .mkv .webm .wmv
    .ttf .otf .woff .woff2 .eot
    .so .dylib .dll .exe .o .a .obj .lib .class .jar .war .pyc .pyo .pyd .wasm .node .bin .dat .dmg .iso .img .apk
    .gz .tgz .bz2 .xz .zst .tar .7z .rar .whl .deb .rpm
    .db .db-wal .db-shm .sqlite .sqlite3 .mdb .pkl .pickle .npy .npz .h5 .hdf5 .parquet .arrow .feather .avro
    .pt .pth .ckpt .onnx .safetensors .gguf .tflite .pb
"""


def format_of(name: str, content_type: str | None = None) -> Kind:
    """The format of a file; what is not known counts as text. A content type goes before the suffix, unless vague.

    >>> format_of("guide.MD"), format_of("page", "text/html; charset=utf-8"), format_of("a.md", "text/plain")
    ('markdown', 'html', 'markdown')
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    by_suffix = _SUFFIXES.get(suffix_of(name), "text")
    return by_suffix if media_type in _VAGUE_TYPES else _CONTENT_TYPES.get(media_type, by_suffix)


def suffix_of(name: str) -> str:
    """The last suffix of a file name in lower case, with its dot.

    >>> suffix_of("Report.PDF"), suffix_of("Makefile"), suffix_of("a.db.index")
    ('.pdf', '', '.index')
    """
    return posixpath.splitext(name)[1].lower()


def is_known(name: str) -> bool:
    """Whether the suffix of a file name stands for one of the formats."""
    return suffix_of(name) in _SUFFIXES


def is_without_text(name: str) -> bool:
    """Whether files of that name hold no text, such as images, fonts, programs and packed files."""
    return (suffix_of(name) or name) in _WITHOUT_TEXT.split()
