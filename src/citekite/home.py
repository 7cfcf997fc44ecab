"""The folder in which a server keeps what is not in Milvus: keys, uploads, jobs, reports, its address."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from citekite.errors import ServerError, SettingsError
from citekite.settings import Settings
from citekite.store.embedded import database_path, is_embedded


def home_of(settings: Settings) -> Path:
    """The folder that `data_dir` names, else `<database>.serve` beside an embedded database or in the working folder.

    It is not made here.
    """
    if settings.data_dir:
        return Path(settings.data_dir).expanduser().resolve()
    if is_embedded(settings.uri):
        path = database_path(settings.uri)
        return path.with_name(f"{path.name}.serve")
    return Path("citekite.serve").resolve()


def uploads_of(settings: Settings) -> Path:
    """The folder with the files that were uploaded to the collection of these settings."""
    return home_of(settings) / "uploads" / settings.collection


def make_home(home: Path) -> Path:
    """The server's folder, made where it is missing: for its owner alone, and passed over by every sync.

    A folder that somebody else made, and `data_dir` names, is left as it is.
    """
    ours = home.suffix == ".serve" or not home.exists()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = home / ".gitignore"
        if ours and not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(home, error) from None
    return home


def claim(home: Path) -> int:
    """Take the folder for this process; it is free again when the descriptor that is returned is closed.

    Raises `ServerError` while another server has it: that one's jobs and uploads are not ours to clear away.
    """
    try:
        descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(home, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 20).decode(errors="replace")
        os.close(descriptor)
        raise ServerError(
            f"the folder {home} is in use by another server (process {holder}): give this one its own (--data-dir)"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _unwritable(home: Path, error: OSError) -> SettingsError:
    return SettingsError(f"{home} cannot be written: {error.strerror}; choose another folder by data_dir")
