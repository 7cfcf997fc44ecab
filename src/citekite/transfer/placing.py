"""Files that appear under their name when they are complete, and folders to prepare them in."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from citekite.errors import DiskFull, SettingsError
from citekite.store.durable import sync


@contextmanager
def placed(target: Path, *, replacing: bool) -> Iterator[Path]:
    """A file beside the target to write to, which takes the target's place when all went well.

    After an error it is deleted; after a kill it stays as `NAME.part`, and the next run writes it anew. Raises
    `SettingsError` where the target is there and not to be replaced, cannot be written, or is being written.
    """
    part = target.with_name(f"{target.name}.part")
    if target.is_dir():
        raise SettingsError(f"{target} is a folder: give the name of a file in it")
    if target.exists() and not replacing:
        raise SettingsError(f"{target} exists already: give another name, or --force to replace it")
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"{part} cannot be written: {error.strerror}") from None
    try:
        _claim(descriptor, part)
        os.ftruncate(descriptor, 0)
        try:
            yield part
            sync(part)
            part.replace(target)
            sync(target.parent)
        except BaseException as error:
            part.unlink(missing_ok=True)
            raise_full(error, target)
            raise
    finally:
        os.close(descriptor)


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A folder that is made empty, for this process alone, and deleted at the end; also what a killed run left of it.

    Raises `SettingsError` where it cannot be made, or another process is at work in it.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror}") from None
    try:
        _claim(descriptor, folder)
        _empty(folder)
        try:
            yield folder
        except OSError as error:
            raise_full(error, folder)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def raise_full(error: BaseException, place: Path) -> None:
    """Say of a disk that is full what is to be done; any other error is the caller's."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DiskFull(
            f"no space is left for {place}: free some, or use another disk; nothing was left there"
        ) from error


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _claim(descriptor: int, part: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SettingsError(f"another command writes {part} at the moment: wait until it is done") from None
