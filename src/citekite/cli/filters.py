"""The options that narrow a search down, as one filter: a decorator for the commands that search."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from citekite.retrieve.filter import Filter, parse_date, parse_where

# Name of the option -> type, help; the values become those of `Filter`.
_OPTIONS: dict[str, tuple[Any, str]] = {
    "source": (list[str], "Only this document, or what is below this folder or in this archive (repeatable)."),
    "path": (list[str], "Only sources that match this glob, such as '*.md' or 'docs/**' (repeatable)."),
    "where": (list[str], "Only documents with this metadata: KEY=VALUE (repeatable; one key again: either value)."),
    "after": (str, "Only documents dated on or after this day, such as 2024-01-31."),
    "before": (str, "Only documents dated before this day."),
    "filter": (str, "Milvus expression, such as 'source like \"%faq%\"' or 'page > 3'."),
}


def takes_filter(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that narrow a search; it gets them as `filter`."""
    own = [name for name in inspect.signature(function, eval_str=True).parameters.values() if name.name != "filter"]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name))
        for name in _OPTIONS
    ]

    @functools.wraps(function)
    def command(*arguments: Any, **values: Any) -> None:
        given = {name: values.pop(name) for name in _OPTIONS}
        function(*arguments, filter=_filter(**given), **values)

    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    return command


def _filter(
    source: list[str] | None,
    path: list[str] | None,
    where: list[str] | None,
    after: str | None,
    before: str | None,
    filter: str | None,
) -> Filter:
    return Filter(
        sources=source or (),
        paths=path or (),
        where=parse_where(where or ()),
        after=parse_date(after) if after else None,
        before=parse_date(before) if before else None,
        expression=filter or "",
    )


def _annotation(name: str) -> Any:
    kind, text = _OPTIONS[name]
    option = typer.Option(f"--{name}", help=text, rich_help_panel="Narrow down", show_default=False)
    return Annotated[kind | None, option]
