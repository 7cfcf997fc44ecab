"""From bytes to text: encodings, newlines, and what no index can store."""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass

from citekite.errors import DocumentError

# The longer marks first: the UTF-32 mark begins with the UTF-16 one.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# NUL does not survive Milvus' C strings and lone surrogates cannot be encoded as UTF-8.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# Backspace, form feed and escape stand in terminal logs and old text files; the others mean a binary file.
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b"))
_SAMPLE = 1 << 16
# Of random or compressed bytes 9.8 % are such control characters, of text practically none.
_BINARY_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Decoded:
    """Canonical text, and a remark where the encoding had to be guessed."""

    text: str
    warning: str | None = None


def canonical(text: str) -> str:
    r"""The text with `\n` newlines, without NUL, and with U+FFFD for lone surrogates; nothing else changes.

    >>> canonical("a\r\nb\rc\0")
    'a\nb\nc'
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSTORABLE.sub(lambda match: "" if match[0] == "\0" else "\ufffd", text)


def decode(data: bytes) -> Decoded:
    r"""Decode a text file: a byte order mark decides, then UTF-8, then UTF-16 by its pattern of NULs, then Latin-1.

    Raises `DocumentError` when the bytes are not text.

    >>> decode(b"caf\xc3\xa9").text, decode("café".encode("utf-16")).text, decode(b"caf\xe9").text
    ('café', 'café', 'café')
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_marked(data[len(mark) :], encoding)
    if wide := _wide_encoding(data):
        return Decoded(canonical(data.decode(wide)), f"no byte order mark; read as {wide.upper()}")
    if is_binary(data):
        raise DocumentError("it is a binary file, not text")
    try:
        return Decoded(canonical(data.decode("utf-8")))
    except UnicodeDecodeError as error:
        return _decode_damaged(data, error)


def is_binary(data: bytes) -> bool:
    """Whether more of the first 64 KiB are control characters than a text can have."""
    sample = data[:_SAMPLE]
    return len(sample) - len(sample.translate(None, _CONTROL)) > len(sample) * _BINARY_SHARE


def one_line(text: object, limit: int = 500) -> str:
    r"""A value as a title: one line, single spaces, no control or invisible format characters, at most `limit` long.

    >>> one_line(" What is\n Milvus?\u200b ")
    'What is Milvus?'
    """
    visible = "".join(" " if c.isspace() else c for c in canonical(str(text)) if c.isspace() or not _invisible(c))
    return " ".join(visible.split())[:limit].rstrip()


def title_from_name(name: str) -> str:
    """A title made from a file name, for files that have none.

    >>> title_from_name("getting_started-guide.v2.md")
    'getting started guide.v2'
    """
    stem = name.rpartition(".")[0] or name
    return one_line(re.sub(r"[_\-]+", " ", stem)) or one_line(name)


def _invisible(character: str) -> bool:
    # The joiners U+200C and U+200D carry meaning in Persian, Indic scripts and emoji.
    return unicodedata.category(character) in ("Cc", "Cf") and character not in "\u200c\u200d"


def _decode_marked(data: bytes, encoding: str) -> Decoded:
    try:
        return Decoded(canonical(data.decode(encoding)))
    except UnicodeDecodeError as error:
        text = canonical(data.decode(encoding, errors="replace"))
        if text.count("\ufffd") > len(text) * _BINARY_SHARE:
            raise DocumentError(f"it begins with the mark of {encoding.upper()} but is not: {error.reason}") from None
        return Decoded(text, f"broken {encoding.upper()} at byte {error.start}; what is broken was replaced")


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 without a mark: in most scripts every second byte of the first kilobytes is (almost) always NUL."""
    sample = data[: min(_SAMPLE, len(data) // 2 * 2)]
    if len(sample) < 4 or len(data) % 2:
        return None
    for encoding, high, low in (("utf-16-le", sample[1::2], sample[::2]), ("utf-16-be", sample[::2], sample[1::2])):
        if high.count(0) > 0.7 * len(high) and not low.count(0) and not is_binary(low):
            try:
                data.decode(encoding)
            except UnicodeDecodeError:
                return None
            return encoding
    return None


def _decode_damaged(data: bytes, error: UnicodeDecodeError) -> Decoded:
    """UTF-8 with a few broken bytes stays UTF-8; anything else is Latin-1.

    Windows-1252 comes first because it is what files called Latin-1 mostly are: the two differ only at 0x80 to 0x9F,
    where Latin-1 has control characters.
    """
    text = data.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    if len(text) - len(text.encode("ascii", "ignore")) > 2 * broken:
        return Decoded(canonical(text), f"broken UTF-8 at byte {error.start}; what is broken was replaced by U+FFFD")
    warning = f"not UTF-8 (byte {error.start} is {data[error.start]:#04x}); read as Latin-1"
    try:
        return Decoded(canonical(data.decode("cp1252")), warning)
    except UnicodeDecodeError:
        return Decoded(canonical(data.decode("latin-1")), warning)
