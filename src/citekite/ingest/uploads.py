"""Uploaded files as sources: `upload://<space>/<name>` is a file in the folder that a server keeps for them.

A space is `shared`, or stands for the groups that may see its documents: the files of two tenants never meet. What a
client calls a file is made a plain name first, and no source but one with such a name reaches the disk.
"""

from __future__ import annotations

import json
import posixpath
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from citekite.errors import SourceError

SHARED = "shared"
# A file system takes 255 bytes; a name for the time being, made of this one, has to fit as well.
LONGEST_NAME = 200
_LONGEST_SUFFIX = 16
_SOURCE = re.compile(r"upload://(?P<space>[a-z0-9]{1,40})(?:/(?P<name>[^/#]+?)(?P<inside>(?:!/|#).+)?)?", re.DOTALL)
# Not allowed on some systems; `#` parts a table from its row in a source.
_RESERVED = re.compile(r'[<>:"|?*#]')
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


def plain_name(name: str) -> str:
    """What a client calls a file, as a plain file name: one that is hidden, reserved or a path is made harmless.

    >>> [plain_name(name) for name in ("../../etc/passwd", "C:\\\\docs\\\\Müller: 1.pdf", ".ssh", "nul.txt")]
    ['passwd', 'Müller_ 1.pdf', 'ssh', '_nul.txt']
    """
    name = re.split(r"[/\\]", name)[-1]
    # Without control characters, marks that turn the direction of writing, and halves of surrogate pairs.
    name = "".join(character for character in name if character.isspace() or unicodedata.category(character)[0] != "C")
    name = _RESERVED.sub("_", unicodedata.normalize("NFC", " ".join(name.split())))
    name = _shortened(name.strip(" .")) or "document"
    return f"_{name}" if _DEVICE.fullmatch(name) else name


def _shortened(name: str) -> str:
    """The name within the limit on bytes, with its suffix."""
    if len(name.encode()) <= LONGEST_NAME:
        return name
    suffix = posixpath.splitext(name)[1]
    if len(suffix.encode()) > _LONGEST_SUFFIX:
        suffix = ""
    stem = name.removesuffix(suffix).encode()[: LONGEST_NAME - len(suffix.encode())].decode(errors="ignore")
    return stem.rstrip(" .") + suffix


def space_of(access: Iterable[str]) -> str:
    """The space of the documents that these groups may see; without groups, that of the documents for everyone."""
    groups = sorted(set(access))
    return f"g{blake2b(json.dumps(groups).encode(), digest_size=8).hexdigest()}" if groups else SHARED


def upload_source(space: str, name: str) -> str:
    """The source of an uploaded file."""
    return f"upload://{space}/{name}"


def parse_upload(source: str) -> tuple[str, str, str]:
    """Space, file name and what follows it (`!/member`, `#row`) of a source; raises `SourceError`.

    >>> parse_upload("upload://shared/a.zip!/b.md"), parse_upload("upload://shared")
    (('shared', 'a.zip', '!/b.md'), ('shared', '', ''))
    """
    found = _SOURCE.fullmatch(source)
    name = found["name"] or "" if found else ""
    if found is None or "\0" in source or (name and plain_name(name) != name):
        raise SourceError(
            f"{source!r} is no uploaded file: those are upload://<space>/<name>, as `documents` lists them"
        )
    return found["space"], name, found["inside"] or ""


def upload_path(source: str, uploads: Path | None) -> Path:
    """The file, or the folder of a space, that a source stands for; raises `SourceError` where it is none of `uploads`.

    Links are not followed: nothing outside the folder is ever reached.
    """
    space, name, inside = parse_upload(source)
    if inside or uploads is None:
        reason = "name the archive or table itself" if inside else "no server's uploads are known here"
        raise SourceError(f"{source!r} cannot be read: {reason}")
    path = uploads / space / name if name else uploads / space
    try:
        kinds = [each.lstat().st_mode for each in (uploads / space, path)]
    except OSError:
        raise SourceError(f"{source!r} is not there: it was deleted, or never uploaded") from None
    if not stat.S_ISDIR(kinds[0]) or (name and not stat.S_ISREG(kinds[1])):
        raise SourceError(f"{source!r} is no regular file")
    return path


def forget_files(removed: Iterable[str], stored_below: Callable[[Sequence[str]], Iterable[str]], uploads: Path) -> None:
    """Delete the files of uploads whose documents were removed, but not one of which others are still stored.

    `stored_below` gives the stored sources that start with one of some roots.
    """
    for file in sorted({_file_of(source) for source in removed if source.startswith("upload://")}):
        if not any(source == file or source.startswith((f"{file}!/", f"{file}#")) for source in stored_below([file])):
            with suppress(SourceError):  # it is gone already
                upload_path(file, uploads).unlink(missing_ok=True)


def _file_of(source: str) -> str:
    space, name, _ = parse_upload(source)
    return upload_source(space, name)
