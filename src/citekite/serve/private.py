"""Files that only the user who runs the server may read."""

from __future__ import annotations

import os
from pathlib import Path

from citekite.errors import SettingsError


def make_private(file: Path) -> Path:
    """The file, made where it is missing, with mode 600 in a folder that is made with mode 700.

    A folder that was there before keeps its mode: it may be one that `data_dir` names. Raises `SettingsError` where
    they cannot be made.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}; choose another folder by data_dir") from None
    return file
