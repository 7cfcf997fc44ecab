"""Backups of an embedded database: writing one, and putting one in place."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from citekite.errors import DatabaseLocked, SettingsError
from citekite.home import claim, home_of, make_home
from citekite.ports import Reporter
from citekite.reports import FileReport, Progress
from citekite.settings import Settings, without_password
from citekite.store.durable import sync, sync_tree
from citekite.store.embedded import check, database_path, is_embedded, is_held, kept_away
from citekite.transfer.archive import pack, read
from citekite.transfer.placing import placed, workspace
from citekite.transfer.snapshot import DATABASE, SERVER, SERVER_PARTS, snapshot

_MEGABYTE = 1_000_000


def blocks(settings: Settings, *, seconds: float | None = None) -> Iterator[bytes]:
    """A backup of the embedded database and the server's folder, piece by piece; raises what `snapshot` raises."""
    with snapshot(settings, seconds=seconds) as folder:
        yield from pack(folder)


def write_backup(pieces: Iterable[bytes], target: Path, *, replacing: bool, report: Reporter) -> FileReport:
    """Write a backup that comes in pieces to a file, and read it back; it is there when it was found to be whole.

    Raises `SettingsError` where the file exists and is not to be replaced.
    """
    started = time.monotonic()
    with placed(target, replacing=replacing) as part:
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                report(Progress("writing", file.tell() // _MEGABYTE, None, "MB"))
        facts = read(part, None, _counting("checking", report))
        size = part.stat().st_size
    return FileReport(str(target), facts["files"], size, time.monotonic() - started)


def restore(path: Path, settings: Settings, *, replacing: bool, report: Reporter) -> Mapping[str, Any]:
    """Put a backup in place: the database at the URI of the settings, keys, uploads and reports in the server's folder.

    Everything is unpacked and checked beside it first. What is replaced is kept until all is in place. Returns what
    the backup says about itself. Raises `SettingsError` where something is there and not to be replaced,
    `DatabaseLocked` and `ServerError` where it is in use, and `ArchiveError` for a file that is no whole backup.
    """
    database, home = _targets(settings, replacing=replacing)
    with workspace(database.with_name(f"{database.name}.restoring")) as folder:
        facts = read(path, folder, _counting("restoring", report))
        made = folder / DATABASE
        made.mkdir(exist_ok=True)
        moves = {made: database}
        moves |= {folder / SERVER / name: home / name for name in SERVER_PARTS if (folder / SERVER / name).exists()}
        sync_tree(folder)
        with ExitStack() as stack:
            if database.exists():
                stack.enter_context(kept_away(database))
            if len(moves) > 1:
                stack.callback(os.close, claim(make_home(home)))
            _put(moves, replacing=replacing)
            shutil.rmtree(database.with_name(f"{database.name}.index"), ignore_errors=True)  # of what was there before
    return facts


def _targets(settings: Settings, *, replacing: bool) -> tuple[Path, Path]:
    """The folders of the database and of its server, if a backup can be put there."""
    if not is_embedded(settings.uri):
        raise SettingsError(
            f"a backup is of an embedded database, and {without_password(settings.uri)} is a server: restore it to a "
            "local one (--uri ./restored.db), then `citekite copy` its collections"
        )
    database, home = database_path(settings.uri), home_of(settings)
    check(database)
    if is_held(database):
        raise DatabaseLocked(f"{database} is open in this process: close it first")
    _require_free(database, replacing=replacing)
    return database, home


def _require_free(target: Path, *, replacing: bool) -> None:
    if target.exists() and not replacing:
        raise SettingsError(f"{target} exists already: restore to another place (--uri), or --force to replace it")
    if (aside := _aside(target)).exists():
        raise SettingsError(
            f"{aside} is there, put aside by a restore that was killed: move it back to {target.name}, or delete it"
        )


def _put(moves: Mapping[Path, Path], *, replacing: bool) -> None:
    """Move all into place, or none; what was there is put aside until then."""
    for target in moves.values():
        _require_free(target, replacing=replacing)
    with ExitStack() as undo:
        for made, target in moves.items():
            if target.exists():
                target.replace(_aside(target))
                undo.callback(_aside(target).replace, target)
            made.replace(target)
            undo.callback(target.replace, made)
        undo.pop_all()
    for target in moves.values():
        sync(target.parent)  # a power cut must not find both gone
    for target in moves.values():
        _delete(_aside(target))


def _aside(target: Path) -> Path:
    return target.with_name(f"{target.name}.replaced")


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _counting(stage: str, report: Reporter) -> Callable[[int], None]:
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        report(Progress(stage, done // _MEGABYTE, None, "MB"))

    return count
