"""What a model endpoint answered with status 200, checked; `ValueError` says why a reply cannot be used."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from citekite.ports import Piece, Vectors
from citekite.types import Usage

if TYPE_CHECKING:
    import httpx2
    from openai.types.chat import ChatCompletionChunk


def json_of(response: httpx2.Response) -> Any:
    """The parsed body of a reply."""
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError) as error:
        start = response.content[:60].decode("utf-8", "replace")
        raise ValueError(f"no JSON ({error}): it starts with {start!r}") from None


def over_limit(reply: Any) -> bool:
    """Whether a response (or the one of a stream) says that the request was more than the limit of the account.

    Fireworks then serves others first, and refuses such requests next.
    """
    headers = getattr(reply, "response", reply).headers
    return str(headers.get("x-ratelimit-over-limit", "")).lower() in ("yes", "true")


def vectors_of(reply: Any, count: int, expected: Callable[[int], int]) -> Vectors:
    """The `count` vectors of an embeddings reply in the order of the inputs, all finite and of one dimension.

    `expected` is told that dimension, and says which it has to be.
    """
    rows = _rows(reply, "data")
    if len(rows) != count:
        raise ValueError(f"{len(rows)} vectors for {count} texts")
    if all("index" in row for row in rows):
        rows.sort(key=lambda row: _index(row, count))
        if [row["index"] for row in rows] != list(range(count)):
            raise ValueError("vectors with the same index")
    vectors = [_vector(row.get("embedding")) for row in rows]
    sizes = sorted({vector.size for vector in vectors})
    if len(sizes) > 1 or sizes[0] == 0:
        raise ValueError(f"vectors of {' and '.join(map(str, sizes))} dimensions")
    stacked = np.stack(vectors)
    if not np.isfinite(stacked).all():
        raise ValueError("vectors with infinite or missing numbers")
    if sizes[0] != (dimension := expected(sizes[0])):
        raise ValueError(f"vectors of {sizes[0]} dimensions instead of {dimension}")
    return stacked


def ranking_of(reply: Any, count: int) -> list[tuple[int, float]]:
    """The ranking of a rerank reply, best first: Fireworks and vLLM name it `data` or `results`."""
    rows = _rows(reply, "data" if isinstance(reply, dict) and "data" in reply else "results")
    ranking = [(_index(row, count), _score(row)) for row in rows]
    if len({index for index, _ in ranking}) != len(ranking):
        raise ValueError("a ranking that names a document twice")
    return sorted(ranking, key=lambda pair: (-pair[1], pair[0]))


def model_names(reply: Any) -> list[str]:
    """The names in a reply of `/models`; some endpoints send the bare list."""
    rows = _rows({"data": reply} if isinstance(reply, list) else reply, "data")
    return [str(row["id"]) for row in rows if row.get("id")]


def pieces_of(chunks: Iterable[ChatCompletionChunk], ends: float = math.inf) -> Iterator[Piece]:
    """The text of a streamed answer piece by piece, then one piece with finish reason and usage.

    Reasoning comes in a field of its own and is passed over. A stream that ends without a finish reason was cut. From
    `ends` (of `time.monotonic()`) on no more is read, and the finish reason is `time`.
    """
    import openai

    finish_reason: str | None = None
    usage: Usage | None = None
    model = ""
    try:
        for chunk in chunks:
            model = str(getattr(chunk, "model", None) or model)
            part = _part(chunk)
            if part.text:
                yield Piece(part.text)
            usage = part.usage or usage
            finish_reason = part.finish_reason or finish_reason
            if time.monotonic() >= ends:
                finish_reason = finish_reason or "time"
                break
    except RecursionError as error:
        if finish_reason is None:
            raise ValueError(f"an event that is nested too deeply ({error})") from None
    except (openai.APIError, ValueError):
        if finish_reason is None:
            raise
        # The answer is whole; a fault after it costs at most the count of its tokens.
    if finish_reason is None:
        raise ValueError("the stream ended without a finish reason")
    yield Piece(finish_reason=finish_reason, usage=usage, answered_by=model)


def _rows(reply: Any, field: str) -> list[dict[str, Any]]:
    rows = reply.get(field) if isinstance(reply, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"no list {field!r} in it: {json.dumps(reply)[:100]}")
    return rows


def _index(row: dict[str, Any], count: int) -> int:
    index = row.get("index")
    if not isinstance(index, int) or not 0 <= index < count:
        raise ValueError(f"index {index!r} for {count} texts")
    return index


def _score(row: dict[str, Any]) -> float:
    score = row.get("relevance_score", row.get("score"))
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError(f"score {score!r} in a ranking")
    return float(score)


def _vector(embedding: Any) -> Vectors:
    """A vector sent as base64 of little-endian float32, or as a list of numbers."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    if not isinstance(embedding, list):
        raise ValueError(f"{type(embedding).__name__} instead of a vector")
    try:
        vector: Vectors = np.array(embedding, dtype=np.float32)
    except TypeError:
        raise ValueError("a vector with something else than numbers in it") from None
    if vector.ndim != 1:
        raise ValueError("a nested list instead of a vector")
    return vector


def _part(chunk: ChatCompletionChunk) -> Piece:
    """What one event of a stream adds; the SDK hands on whatever was sent, in the types of what should have been."""
    try:
        choice = next(iter(getattr(chunk, "choices", None) or []), None)
        text = (choice and choice.delta and choice.delta.content) or ""
        reason = choice and choice.finish_reason
        usage = getattr(chunk, "usage", None)
        counts = [count or 0 for count in (usage.prompt_tokens, usage.completion_tokens)] if usage else []
    except (AttributeError, TypeError) as error:
        raise ValueError(f"an event of another form than a chat completion ({error})") from None
    if not isinstance(text, str) or not isinstance(reason, str | None) or not all(isinstance(n, int) for n in counts):
        raise ValueError(f"an event with something else than text in it: {chunk!r:.100}")
    return Piece(text, reason, Usage(*counts) if usage else None)
