"""Commands that move collections and keep databases: copy, export, import, backup, restore."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citekite.cli.options import BULK, ORIGIN, SERVER, STORE, takes_settings
from citekite.cli.progress import reporting
from citekite.cli.show import counted
from citekite.cli.target import open_knowledge_base, open_store, require_no_server
from citekite.errors import ServerBusy
from citekite.wellformed import printable

if TYPE_CHECKING:
    from citekite.remote import RemoteKnowledgeBase
    from citekite.reports import FileReport, TransferReport

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a collection of that name; it serves until then.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
ToFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)]

TARGET = ("token", "database", "collection", "consistency", "store_seconds")
HOME = ("uri", "data_dir")


@takes_settings(*TARGET, *BULK, *ORIGIN)
def copy(
    arguments: dict[str, Any],
    source: Annotated[str, typer.Argument(metavar="SOURCE_URI", help="Where the collection is: a .db path or a URI.")],
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION_URI", help="Where it goes; --token and --database are for it.")
    ],
    to_collection: Annotated[
        str | None, typer.Option("--to-collection", help="Name of the copy; by default that of the collection.")
    ] = None,
    replace: Replace = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Copy a collection to another database with its vectors: nothing is embedded; a killed copy is continued."""
    from citekite.settings import load_settings
    from citekite.transfer.copying import copy_collection

    settings = load_settings({**arguments, "uri": destination}).settings
    with reporting(quiet=quiet) as report, _continued():
        done = copy_collection(settings, source, to_collection or settings.collection, replacing=replace, report=report)
    _show(done, "copied", as_json=as_json)


@takes_settings(*STORE)
def export(
    arguments: dict[str, Any], file: ToFile, force: Force = False, quiet: Quiet = False, as_json: AsJson = False
) -> None:
    """Write a collection with its vectors to a Parquet file."""
    from citekite.transfer.origin import open_origin
    from citekite.transfer.parquet import export as write

    with open_store(arguments, "export") as (store, settings), reporting(quiet=quiet) as report:
        origin = open_origin(store, settings.collection)
        done = write(origin, settings.collection, file, replacing=force, report=report)
    _show_file(done, f"exported {counted(done.content, 'chunk')}", as_json=as_json)


@takes_settings(*STORE, *BULK)
def import_(
    arguments: dict[str, Any],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `citekite export` wrote.")],
    replace: Replace = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make a collection from an exported file: every row is checked, nothing is embedded."""
    from citekite.transfer.fill import fill
    from citekite.transfer.parquet_origin import ParquetOrigin

    origin = ParquetOrigin(file)
    with open_store(arguments, "import") as (store, settings), reporting(quiet=quiet) as report, _continued():
        done = fill(origin, store, settings.collection, replacing=replace, report=report)
    _show(done, "imported", as_json=as_json)


@takes_settings(*HOME, *SERVER)
def backup(
    arguments: dict[str, Any], file: ToFile, force: Force = False, quiet: Quiet = False, as_json: AsJson = False
) -> None:
    """Write an embedded database, keys, uploads and reports to a .tar.gz file; also while a server has it open."""
    from citekite.remote import RemoteKnowledgeBase
    from citekite.transfer.backup import blocks, write_backup

    with open_knowledge_base(arguments) as kb, reporting(quiet=quiet) as report:
        pieces = _when_idle(kb) if isinstance(kb, RemoteKnowledgeBase) else blocks(kb.settings)
        done = write_backup(pieces, file, replacing=force, report=report)
    _show_file(done, f"backed up {counted(done.content, 'file')}", as_json=as_json)


@takes_settings(*HOME)
def restore(
    arguments: dict[str, Any],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `citekite backup` wrote.")],
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Put a backup in place; every file in it is checked before anything is replaced."""
    from citekite.settings import load_settings
    from citekite.store.milvus import MilvusStore
    from citekite.transfer.backup import restore as put

    settings = load_settings(arguments).settings
    require_no_server(settings, arguments, "restore")
    with reporting(quiet=quiet) as report:
        facts = put(file, settings, replacing=force, report=report)
    with MilvusStore.from_settings(settings) as store:
        names = store.names()
    print(printable(f"restored {settings.uri} as of {facts['created']}: {', '.join(names) or 'no collection'}"))


def _when_idle(kb: RemoteKnowledgeBase) -> Iterator[bytes]:
    """The pieces of a server's backup, as soon as no sync is at work there."""
    told = False
    while True:
        try:
            yield from kb.backup()
        except ServerBusy as busy:  # which comes before the first piece
            if not told:
                print("The server is busy, with a sync or too many requests: waiting; Ctrl-C ends it.", file=sys.stderr)
            told = True
            time.sleep(busy.retry_after)
        else:
            return


@contextmanager
def _continued() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("Stopped. What was sent is stored; the same command goes on from here.", file=sys.stderr)
        raise


def _show(done: TransferReport, verb: str, *, as_json: bool) -> None:
    if as_json:
        _show_json(done)
        return
    kept = f", {done.kept:,} were there already" if done.kept else ""
    kept += f", {done.removed:,} that are gone deleted" if done.removed else ""
    print(
        f"{verb} {counted(done.chunks, 'chunk')} to collection {done.collection!r} at {done.uri}: {done.sent:,} sent"
        f"{kept}, in {done.seconds:.1f} s"
    )
    print(
        f"checked: {counted(done.chunks, 'chunk')} on both sides, {done.compared:,} compared and equal, "
        f"searches agree to {done.recall:.1%}"
    )
    if not done.has_lexical:
        print("The server has no full text search (Milvus 2.5 or newer): search it with --mode dense.", file=sys.stderr)


def _show_file(done: FileReport, what: str, *, as_json: bool) -> None:
    if as_json:
        _show_json(done)
    else:
        size = f"{done.size / 1e6:,.1f} MB" if done.size >= 1e6 else f"{done.size / 1e3:,.1f} kB"
        print(printable(f"{what} to {done.path}, {size} in {done.seconds:.1f} s"))


def _show_json(done: Any) -> None:
    from dataclasses import asdict

    print(json.dumps(asdict(done), ensure_ascii=False, indent=2))
