"""Commands that write: sync, remove, reindex."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from citekite.cli.options import (
    BATCH,
    BULK,
    CHAT,
    CONTEXT,
    EMBED,
    ENDPOINT,
    ENGINE,
    LOAD,
    PRICE,
    SERVER,
    STORE,
    WATCH,
    takes_settings,
)
from citekite.cli.progress import reporting
from citekite.cli.show import counted
from citekite.cli.target import open_directly, open_knowledge_base
from citekite.errors import STATUS, SourceError
from citekite.reports import Failure, SyncPlan, SyncReport
from citekite.wellformed import printable

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@takes_settings(*LOAD, *ENGINE, *EMBED, *BATCH, *CONTEXT, *CHAT, *PRICE, *ENDPOINT, *STORE, *BULK, *SERVER, *WATCH)
def sync(
    arguments: dict[str, Any],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, folders, .zip archives, http(s) URLs of a page or a zip, or object stores (s3://bucket/docs).",
        ),
    ],
    prune: Annotated[bool, typer.Option("--prune", help="Delete documents that left the sources.")] = False,
    access: Annotated[
        list[str] | None,
        typer.Option("--access", metavar="GROUP", help="Let only this group see them (repeatable), or everyone."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Bring the collection to the state of the sources; what did not change costs nothing."""
    result: SyncPlan | SyncReport
    if dry_run:
        with open_directly(arguments, "sync --dry-run") as kb, reporting(quiet=quiet) as report:
            result = kb.plan(*sources, prune=prune, access=access or None, report=report)
    else:
        result = _sync(arguments, sources, prune=prune, access=access or None, quiet=quiet)
    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(result), ensure_ascii=False, indent=2))
    else:
        print(describe_plan(result) if isinstance(result, SyncPlan) else describe_report(result))
    if not (result.new or result.changed or result.unchanged or result.failures):
        print(f"no documents found in {', '.join(sources)}", file=sys.stderr)
    _show(result.warnings, "warning")
    _show(result.failures, "failed")
    if result.failures:
        raise typer.Exit(STATUS[SourceError].exit_code)


def _sync(
    arguments: dict[str, Any], sources: list[str], *, prune: bool, access: list[str] | None, quiet: bool
) -> SyncReport:
    with (
        open_knowledge_base(arguments) as kb,
        reporting(quiet=quiet) as report,
        _stop_on_interrupt() as stopped,
    ):
        try:
            return kb.sync(*sources, prune=prune, access=access, report=report, stopped=stopped.is_set)
        except KeyboardInterrupt:
            print("Stopped. What was embedded is stored; the same command goes on from here.", file=sys.stderr)
            raise


@takes_settings(*STORE, *SERVER)
def remove(
    arguments: dict[str, Any],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Documents, or folders of documents, to delete from the index."),
    ],
) -> None:
    """Delete documents from the collection; the files themselves stay, except uploaded ones."""
    with open_knowledge_base(arguments) as kb:
        for source in sources:
            print(f"removed {source}: {counted(kb.remove(source), 'chunk')}")


@takes_settings(*EMBED, *BATCH, *ENDPOINT, *STORE, *BULK, *WATCH)
def reindex(arguments: dict[str, Any], quiet: Quiet = False) -> None:
    """Embed every chunk anew, with another embedder; the old index serves until the new one is complete."""
    with open_directly(arguments, "reindex") as kb, reporting(quiet=quiet) as report:
        count = kb.reindex(report=report)
    print(f"reindexed {counted(count, 'chunk')}")


def describe_plan(plan: SyncPlan) -> str:
    """What a dry run prints."""
    contexts = ""
    if plan.contexts:
        contexts = (
            f"\ncontexts   {counted(plan.contexts, 'request')}, about {plan.context_usage.prompt_tokens:,} prompt and "
            f"{plan.context_usage.completion_tokens:,} completion tokens{_cost(plan.context_cost)}"
        )
    lines = "\n".join(
        (
            f"documents  {plan.new:,} new, {plan.changed:,} changed, {plan.unchanged:,} unchanged, "
            f"{plan.pruned:,} to prune",
            f"chunks     {plan.add:,} to add, {plan.update:,} to update, {plan.keep:,} to keep, "
            f"{plan.delete:,} to delete",
            f"embedding  {counted(plan.texts, 'text')}, about {counted(plan.tokens, 'token')}{_cost(plan.cost)}",
        )
    )
    return lines + contexts


def describe_report(report: SyncReport) -> str:
    """What a sync prints when it is done."""
    documents = f"{report.new:,} new, {report.changed:,} changed, {counted(report.unchanged, 'unchanged document')}"
    if report.pruned:
        documents += f", {report.pruned:,} pruned"
    chunks = f"{counted(report.added, 'chunk')} added, {report.updated:,} updated, {report.deleted:,} deleted"
    if report.contexts:
        usage = report.context_usage
        chunks += (
            f"; {counted(report.contexts, 'context')} written with {usage.prompt_tokens:,} prompt and "
            f"{usage.completion_tokens:,} completion tokens"
        )
    return f"{documents}: {chunks}; {counted(report.texts, 'text')} embedded in {report.seconds:.1f} s"


def _cost(cost: float | None) -> str:
    return "" if cost is None else f", cost {cost:.6f}"


def _show(items: tuple[Failure, ...], word: str) -> None:
    for item in items:
        print(printable(f"{word}: {item.source}: {item.reason}"), file=sys.stderr)


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """The first Ctrl-C (or SIGTERM) asks the sync to stop after what is in flight, a second one stops at once."""
    stopped = threading.Event()

    def stop(number: int, frame: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()
        print("\nStopping after the batch in flight; Ctrl-C again stops at once.", file=sys.stderr)

    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
