"""The bodies of requests, checked; the bodies of replies are those of `citekite.render`."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from citekite.retrieve.filter import Filter
from citekite.settings import COLLECTION_NAME
from citekite.types import Mode, Turn

LONGEST_QUESTION = 20_000


class FilterBody(BaseModel):
    """Which documents may be found; every condition that is given has to hold."""

    model_config = ConfigDict(extra="forbid")

    sources: Annotated[list[str], Field(description="Documents, or all below a folder or URL; one of these.")] = []
    paths: Annotated[list[str], Field(description="Globs of the path, such as *.md or handbook/*; one of these.")] = []
    where: Annotated[dict[str, Any], Field(description="Metadata by key; of a list, one of its values.")] = {}
    after: Annotated[date | None, Field(description="Dated on this day or later.")] = None
    before: Annotated[date | None, Field(description="Dated before this day.")] = None
    date_key: Annotated[str, Field(description="The metadata key that after and before look at.")] = "date"
    expression: Annotated[str, Field(description='A Milvus expression: source like "%faq%", page > 3.')] = ""

    def to_filter(self) -> Filter:
        return Filter(**dict(self))


class SearchBody(BaseModel):
    """A question, and how to search for it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"question": "How is data stored?", "k": 3}]},
    )

    question: str = Field(max_length=LONGEST_QUESTION)
    collection: str | None = Field(None, pattern=COLLECTION_NAME)
    k: int | None = Field(None, ge=1, le=100)
    mode: Mode | None = None
    explain: bool = Field(False, description="Also say how it came about: stages, times, candidates, scores.")
    filter: FilterBody = FilterBody()


class TurnBody(BaseModel):
    """An earlier question and its answer."""

    model_config = ConfigDict(extra="forbid")

    question: str
    answer: str


class AskBody(SearchBody):
    """A question to be answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "question": "And the metadata?",
                    "history": [{"question": "How is data stored?", "answer": "In object storage."}],
                    "filter": {"paths": ["docs/*"], "after": "2025-01-01"},
                }
            ]
        }
    )

    history: list[TurnBody] = Field([], max_length=50)
    deep: bool = False

    def turns(self) -> list[Turn]:
        return [Turn(turn.question, turn.answer) for turn in self.history]


class UrlBody(BaseModel):
    """A page or file on the web to be taken in."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"url": "https://milvus.io/docs/overview.md"}]},
    )

    url: str = Field(max_length=4096, pattern=r"^https?://")
    collection: str | None = Field(None, pattern=COLLECTION_NAME)
    access: list[str] = Field([], max_length=64)


class SampleBody(BaseModel):
    """Where the sample library goes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})

    collection: str | None = Field(None, pattern=COLLECTION_NAME)


class JobBody(BaseModel):
    """Sources to be synced: URLs, uploads that are there, and paths of the server's machine."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"sources": ["/srv/handbook"], "prune": True, "include": ["*.md"]}]},
    )

    sources: list[str] = Field(min_length=1, max_length=1000)
    prune: bool = False
    include: list[str] | None = Field(None, max_length=100)
    exclude: list[str] | None = Field(None, max_length=100)
    access: list[str] = Field([], max_length=64)
    collection: str | None = Field(None, pattern=COLLECTION_NAME)


class CollectionBody(BaseModel):
    """A collection to be made."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "handbook"}]})

    name: str = Field(pattern=COLLECTION_NAME)
