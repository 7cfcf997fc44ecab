"""Commands that look: documents, status, config, doctor."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from citekite.cli.options import (
    ANSWER,
    BATCH,
    BULK,
    CHAT,
    CONTEXT,
    DEEP,
    EMBED,
    ENDPOINT,
    LOAD,
    LOG,
    MCP,
    OPTIONS,
    ORIGIN,
    PRICE,
    RETRIEVE,
    SERVE,
    SERVER,
    STORE,
    WATCH,
    takes_settings,
)
from citekite.cli.show import bold, counted, dim, near
from citekite.cli.target import open_knowledge_base
from citekite.errors import STATUS, CitekiteError
from citekite.wellformed import printable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@takes_settings(*STORE, *SERVER)
def documents(arguments: dict[str, Any], as_json: AsJson = False) -> None:
    """List the documents of the collection."""
    from dataclasses import asdict

    with open_knowledge_base(arguments) as kb:
        found = kb.documents()
    if as_json:
        print(json.dumps([asdict(document) for document in found], ensure_ascii=False, indent=2))
        return
    for document in found:
        print(f"{document.chunks:>6,}  {printable(near(document.source, document.source))}  {dim(document.title)}")
    print(counted(len(found), "document"))


@takes_settings(*STORE, *SERVER)
def status(arguments: dict[str, Any], as_json: AsJson = False) -> None:
    """Show what the collection holds and how it was made."""
    from dataclasses import asdict

    with open_knowledge_base(arguments) as kb:
        found = kb.status()
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False, indent=2))
        return
    tuned = ", ".join(f"{name} {value:g}" for name, value in found.tuned.items()) or "nothing"
    for name, value in {**asdict(found), "contextual": found.contextual or "no", "tuned": tuned}.items():
        shown = ", ".join(value) if isinstance(value, tuple | list) else f"{value:,}" if type(value) is int else value
        print(printable(f"{name.replace('_', ' '):<14} {shown}"))


@takes_settings(
    *LOAD,
    *RETRIEVE,
    *ANSWER,
    *DEEP,
    *EMBED,
    *BATCH,
    *CONTEXT,
    *CHAT,
    *PRICE,
    *ENDPOINT,
    *STORE,
    *ORIGIN,
    *BULK,
    *SERVE,
    *MCP,
    *SERVER,
    *WATCH,
    *LOG,
)
def config(arguments: dict[str, Any], as_json: AsJson = False) -> None:
    """Show each setting, its effective value and where it came from; secrets are masked."""
    from citekite.settings import load_settings, without_password

    loaded = load_settings(arguments)
    values = {
        name: without_password(value) if isinstance(value, str) else value
        for name, value in loaded.settings.model_dump(mode="json").items()
    }
    if as_json:
        rows = {name: {"value": values[name], "origin": loaded.origins[name]} for name in OPTIONS}
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for name in OPTIONS:
        value = "" if values[name] is None else json.dumps(values[name], ensure_ascii=False)
        print(f"{bold(f'{name:<20}')} {value:<28} {dim(loaded.origins[name])}")


@takes_settings(*RETRIEVE, *EMBED, *CHAT, *ENDPOINT, *STORE)
def doctor(arguments: dict[str, Any], as_json: AsJson = False) -> None:
    """Check database, collection, embedder, reranker, model endpoint and disk, and say how to mend what is wrong."""
    from dataclasses import asdict

    from citekite.doctor import examine
    from citekite.settings import load_settings

    checks = []
    for check in examine(load_settings(arguments).settings):
        checks.append(check)
        if as_json:
            continue
        print(f"{check.state:<7} {bold(check.name)}: {check.message}")
        if check.remedy:
            print(f"        → {check.remedy}")
    if as_json:
        print(json.dumps([asdict(check) for check in checks], ensure_ascii=False, indent=2))
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(STATUS[CitekiteError].exit_code)
