"""What tokens cost, by the prices of the settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from citekite.explanation import Explanation, Purpose
from citekite.providers import PROVIDERS
from citekite.reports import UsageRow
from citekite.settings import Settings
from citekite.types import Usage


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a million tokens: embedded, read and written by the chat model, reranked; None where not known.

    They are those of the models that the settings name, `embedding_model`, `model` and `rerank_model`.
    """

    embedding: float | None = None
    prompt: float | None = None
    completion: float | None = None
    embedding_model: str = ""
    model: str = ""
    rerank: float | None = None
    rerank_model: str = ""

    @classmethod
    def from_settings(cls, settings: Settings) -> Prices:
        """The prices as the settings have them."""
        provider = PROVIDERS[settings.provider] if settings.provider else None
        return cls(
            settings.embedding_price,
            settings.prompt_price,
            settings.completion_price,
            settings.embedding_model or (provider.embedding_model if provider else ""),
            settings.model or (provider.model if provider else ""),
            settings.rerank_price,
            settings.rerank_model or (provider.rerank_model if provider else ""),
        )

    def of_embedding(self, tokens: int) -> float | None:
        return _of(tokens, self.embedding)

    def of_chat(self, usage: Usage) -> float | None:
        if self.prompt is None or self.completion is None:
            return None
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1_000_000

    def of(self, purpose: Purpose, model: str, usage: Usage) -> float | None:
        """What a call cost; None for a model that the settings name no price of, such as any other than theirs.

        >>> prices = Prices(prompt=0.5, completion=2.0, model="large")
        >>> prices.of("chat", "large", Usage(1_000_000, 500_000)), prices.of("chat", "small", Usage(10, 10))
        (1.5, None)
        """
        if purpose == "chat" and model == self.model:
            return self.of_chat(usage)
        if purpose == "embedding" and model == self.embedding_model:
            return self.of_embedding(usage.prompt_tokens)
        if purpose == "rerank" and model == self.rerank_model:
            return _of(usage.prompt_tokens, self.rerank)
        return None

    def of_rows(self, rows: Iterable[UsageRow]) -> list[UsageRow]:
        """The rows of an account with their costs."""
        return [replace(row, cost=self.of(row.purpose, row.model, row.usage)) for row in rows]

    def of_all(self, explanation: Explanation | None) -> Explanation | None:
        """The explanation with the cost of each call of a model."""
        if explanation is None:
            return None
        stages = (
            replace(
                stage, uses=tuple(replace(use, cost=self.of(use.purpose, use.model, use.usage)) for use in stage.uses)
            )
            for stage in explanation.stages
        )
        return replace(explanation, stages=tuple(stages))


def _of(tokens: int, price: float | None) -> float | None:
    return None if price is None else tokens * price / 1_000_000


def total(costs: list[float | None]) -> float | None:
    """The sum of costs; None where one of them is not known: a sum without it would look like the whole.

    >>> total([0.5, 0.25]), total([0.5, None])
    (0.75, None)
    """
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None
