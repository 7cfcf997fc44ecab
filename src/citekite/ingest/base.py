"""What finding and loading share: the options, a file that was found, and what a format module makes of its bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from citekite.settings import Settings

MEGABYTE = 1_000_000
_PAGE_BREAK = "\n\n"
# To be raised when the same bytes come to give another text, title or metadata: every file is then loaded again.
_LOADER_VERSION = 1

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The settings that finding and loading depend on; sizes in bytes, `timeout` and `parse_seconds` in seconds.

    `uploads` is the folder behind sources of the form `upload://<space>/<name>`, None where there is none.
    `max_archive_ratio` bounds unpacked size over packed size: text packs about 5 to 1 and rarely beyond 20 to 1, a
    bomb about 1,000 to 1.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    text_column: str | None = None
    max_file_bytes: int = 50 * MEGABYTE
    max_archive_bytes: int = 1000 * MEGABYTE
    max_archive_ratio: int = 100
    allow_private_urls: bool = False
    timeout: float = 60
    parse_seconds: float = 120
    uploads: Path | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> LoadOptions:
        """The options as the settings have them."""
        from citekite.home import uploads_of

        return cls(
            include=settings.include,
            exclude=settings.exclude,
            text_column=settings.text_column,
            max_file_bytes=int(settings.max_file_mb * MEGABYTE),
            max_archive_bytes=int(settings.max_archive_mb * MEGABYTE),
            allow_private_urls=settings.allow_private_urls,
            timeout=settings.timeout,
            parse_seconds=settings.parse_seconds,
            uploads=uploads_of(settings),
        )


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was found and not read yet.

    `source` is an absolute POSIX path, a URL, `upload://<space>/<name>`, or `<archive>!/<member path>`; `name` is the
    base name, whose suffix gives the format; `content_type` is what a web server said. `read()` raises `DocumentError`
    when the file is unreadable, empty or too large; of one that `is_remote` it sends a request. A file can be pickled,
    and then read where its path leads to the same file; not so a member of an archive that was fetched.
    """

    source: str
    name: str
    read: Callable[[], bytes]
    content_type: str | None = None
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a format module makes of one file; `title` is empty where the file has none, the rest as in `Document`."""

    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    body: int = 0
    pages: tuple[int, ...] = ()


def join_pages(pages: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """The text of pages, two newlines apart, and the offset at which each one starts.

    >>> join_pages(["First", "", "Third"])
    ('First\\n\\n\\n\\nThird', (0, 7, 9))
    """
    starts = itertools.accumulate((len(page) + len(_PAGE_BREAK) for page in pages[:-1]), initial=0)
    return _PAGE_BREAK.join(pages), tuple(starts) if pages else ()


def digest_of(data: bytes, options: LoadOptions) -> str:
    """32 hex digits over all that decides what loading gives: the bytes, the options, the version of the loaders."""
    given = f"{_LOADER_VERSION} {options.text_column!r}\n".encode("utf-8", "backslashreplace")
    return blake2b(given + data, digest_size=16).hexdigest()


def megabytes(size: int) -> str:
    """A size in bytes for a message.

    >>> megabytes(52_400_000), megabytes(1_500), megabytes(20)
    ('52.4 MB', '1.5 kB', '20 bytes')
    """
    if size >= MEGABYTE:
        return f"{size / MEGABYTE:.1f} MB"
    return f"{size / 1000:.1f} kB" if size >= 1000 else f"{size} bytes"
