"""Printing answers and passages for people; JSON for programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from citekite.types import Answer, Chunk, Claim, Hit, Step, describe_location
from citekite.wellformed import printable


def show_hit(hit: Hit) -> str:
    """A passage: where it stands, then its text."""
    legs = ", ".join(f"{name} #{leg.rank} ({leg.score:.3f})" for name, leg in hit.legs.items())
    head = f"{hit.rank}. {near(describe_location(hit.chunk), hit.chunk.source)}"
    also = "".join(f"{_also(other, other.line)}\n" for other in hit.others)
    return f"{bold(head)}\n{also}{dim(f'score {hit.score:.3f}: {legs}')}\n{printable(hit.chunk.text.strip())}\n"


def show_sources(answer: Answer) -> str:
    """The list of sources under an answer, each with the quoted span."""
    lines = []
    for citation in answer.citations:
        place = near(describe_location(citation.hit.chunk, citation.line), citation.hit.chunk.source)
        lines.append(bold(f"[{citation.number}] {place}"))
        lines += [_also(one.hit.chunk, one.line) for one in citation.also]
        lines.append(dim(f"    “{one_line(citation.quote)}”" + ("" if citation.verified else " (unverified quote)")))
    return "\n".join(lines)


def _also(chunk: Chunk, line: int) -> str:
    return dim(f"    also in {near(describe_location(chunk, line), chunk.source)}")


def show_step(step: Step) -> str:
    """A step of a deep answer in a line; empty where there is nothing to say."""
    queries = " | ".join(step.queries)
    if step.kind == "search":
        return (
            f"round {step.round}: {counted(len(step.queries), 'question')} searched, {counted(step.new, 'new passage')}"
        )
    if step.kind == "plan":
        return f"plan: {queries}"
    if step.kind == "assess":
        return "; ".join(filter(None, (step.text and f"missing: {step.text}", queries and f"to search: {queries}")))
    return step.text


def show_claims(answer: Answer) -> str:
    """The sentences that are not fully supported by what they cite, and with a model how many are; may be empty."""
    doubtful = [claim for claim in answer.claims if claim.verdict != "supported"]
    lines = [
        f"{'partly' if claim.verdict == 'partly' else 'not'} supported{_by(claim)}: "
        f"“{one_line(answer.text[claim.start : claim.end], 80)}” ({claim.reason})"
        for claim in doubtful
    ]
    if answer.model and answer.claims:
        lines.append(f"{len(answer.claims) - len(doubtful)} of {counted(len(answer.claims), 'sentence')} supported.")
    return "\n".join(map(dim, lines))


def _by(claim: Claim) -> str:
    return f" by {''.join(f'[{number}]' for number in claim.numbers)}" if claim.numbers else ""


def counted(count: int, noun: str) -> str:
    """A number and what it counts.

    >>> counted(1, "chunk"), counted(1200, "chunk")
    ('1 chunk', '1,200 chunks')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def near(text: str, source: str) -> str:
    """The text with a path under the working directory made relative, as an editor or a person would write it."""
    here = f"{Path.cwd().as_posix()}/"
    return text.replace(source, source.removeprefix(here)) if source.startswith(here) else text


def bold(text: str) -> str:
    """The text in bold where the output is a terminal, free of control characters of its own."""
    return _styled(text, "1")


def dim(text: str, stream: TextIO | None = None) -> str:
    """The text dimmed where the output is a terminal, free of control characters of its own."""
    return _styled(text, "2", stream)


def _styled(text: str, code: str, stream: TextIO | None = None) -> str:
    plain = not (stream or sys.stdout).isatty() or "NO_COLOR" in os.environ
    text = printable(text)
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def one_line(text: str, limit: int = 240) -> str:
    """The text on one line, cut to at most `limit` characters."""
    joined = " ".join(text.split())
    return joined if len(joined) <= limit else f"{joined[: limit - 1]}…"
