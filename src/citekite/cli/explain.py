"""Printing how a search or an answer came about: a line for each stage, then how each passage got its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from citekite.cli.show import bold, counted, dim, near
from citekite.explanation import Explanation, ModelUse, Placed, Stage
from citekite.wellformed import printable

# What ranks, in the order in which it does.
_LEGS = ("dense", "lexical", "fused", "rerank")
# Details that are put into words; any other is shown as `name value`.
_WORDS: dict[str, Callable[[Any], str]] = {
    "budget": lambda tokens: f"of {tokens:,} allowed",
    "confidence": lambda value: f"{value:.2f}",
    "dense_weight": lambda weight: f"dense {weight:g}",
    "embedder": str,
    "expansion": str,
    "failed": lambda failed: "failed",
    "first_seconds": lambda seconds: f"first text after {milliseconds(seconds)}",
    "fusion": str,
    "left_out": lambda count: f"{counted(count, 'hit')} left out" if count else "",
    "lexical_weight": lambda weight: f"lexical {weight:g}",
    "passages": lambda count: counted(count, "passage"),
    "queries": lambda count: f"{counted(count, 'text')} searched for",
    "repeated": lambda count: counted(count, "near-duplicate") if count else "",
    "reranker": str,
    "sentences": lambda count: f"of {counted(count, 'sentence')} supported",
    "supported": lambda count: f"{count:,}",
    "tokens": lambda tokens: f"{tokens:,} tokens",
}
# Details that read as one phrase, in this order.
_PHRASES = (("tokens", "budget"), ("supported", "sentences"))


def show_explanation(explanation: Explanation) -> str:
    """The stages with time, candidates, best scores and what else there is to say, and the table of the passages."""
    lines = [bold(f"How this was found, in {milliseconds(explanation.seconds)}")]
    for stage in explanation.stages:
        said = "; ".join(filter(None, (_found(stage), "; ".join(_details(stage)))))
        lines.append(f"  {stage.name:<11}{milliseconds(stage.seconds):>9}  {said}".rstrip())
        lines += [dim(f"{'':<24}{show_use(use)}") for use in stage.uses]
    if explanation.hits:
        lines += ["", *_table(explanation.hits)]
    return "\n".join(lines)


def show_use(use: ModelUse) -> str:
    """A call of a model: its tokens, and what they cost."""
    tokens = f"{use.usage.prompt_tokens:,}"
    if use.purpose == "chat":
        tokens += f" + {use.usage.completion_tokens:,}"
    about = "about " if use.estimated else ""
    return printable(f"{use.model}: {about}{tokens} tokens, {show_cost(use.cost)}")


def show_cost(cost: float | None) -> str:
    """A cost in the currency of the prices; unknown is not nothing.

    >>> show_cost(0.0012), show_cost(None)
    ('cost 0.0012', 'cost unknown')
    """
    return "cost unknown" if cost is None else f"cost {cost:.4f}"


def milliseconds(seconds: float) -> str:
    """A time to read: milliseconds up to a second, then seconds.

    >>> milliseconds(0.00042), milliseconds(0.0421), milliseconds(2.5)
    ('0.4 ms', '42 ms', '2.50 s')
    """
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def _found(stage: Stage) -> str:
    if stage.candidates is None:
        return ""
    best = ", ".join(f"{score:.3f}" for score in stage.scores)
    return counted(stage.candidates, "candidate") + (f", best {best}" if best else "")


def _details(stage: Stage) -> list[str]:
    """What else there is to say; what embeds or reranks at an endpoint is named by its call."""
    details = {
        name: value for name, value in stage.details.items() if not (stage.uses and name in ("embedder", "reranker"))
    }
    joined = {second: first for first, second in _PHRASES if first in details and second in details}
    words = []
    for name, value in details.items():
        if name in joined.values():
            continue
        word = _word(name, value)
        words.append(f"{_word(joined[name], details[joined[name]])} {word}" if name in joined else word)
    return [word for word in words if word]


def _word(name: str, value: Any) -> str:
    return printable(_WORDS[name](value)) if name in _WORDS else printable(f"{name} {value}")


def _table(hits: Sequence[Placed]) -> list[str]:
    """For each passage the rank and score that each stage gave it; where it stands is below."""
    legs = [leg for leg in _LEGS if any(leg in hit.legs for hit in hits)]
    answered = any(hit.passage for hit in hits)
    head = ["rank", *legs, *(["in the prompt"] if answered else [])]
    rows = [[str(hit.rank), *(_cell(hit, leg) for leg in legs), *([_role(hit)] if answered else [])] for hit in hits]
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return ("  " + "   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))).rstrip()

    lines = [dim(line(head))]
    for hit, cells in zip(hits, rows, strict=True):
        lines += [line(cells), dim(f"         {near(hit.place, hit.source)}")]
    return lines


def _cell(hit: Placed, leg: str) -> str:
    if leg not in hit.legs:
        return "-"
    placed = hit.legs[leg]
    share = f" (+{hit.parts[leg]:.2f})" if leg in hit.parts else ""
    return f"#{placed.rank} {placed.score:.3f}{share}"


def _role(hit: Placed) -> str:
    if hit.passage is None:
        return "left out"
    return f"[{hit.passage}]" + (" cited" if hit.cited else "")
