"""The folder in which a server keeps what is not in Milvus: keys, uploads, jobs, reports, its address."""

from __future__ import annotations

from pathlib import Path

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
