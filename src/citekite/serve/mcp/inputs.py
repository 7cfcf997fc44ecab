"""What the tools take, checked; the descriptions are for the model that calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from citekite.serve.schemas import LONGEST_QUESTION, FilterBody, TurnBody
from citekite.settings import COLLECTION_NAME
from citekite.types import Mode, Turn


class Input(BaseModel):
    """What every tool takes."""

    model_config = ConfigDict(extra="forbid")

    collection: str | None = Field(
        None, pattern=COLLECTION_NAME, description="The collection; leave it out for the usual one."
    )

    @property
    def targets(self) -> Sequence[str]:
        """What a tool that writes is told to read."""
        return ()


class SearchInput(Input):
    question: str = Field(
        min_length=1,
        max_length=LONGEST_QUESTION,
        description="What to look for, as a whole question or sentence in the language of the documents.",
    )
    k: int | None = Field(None, ge=1, le=50, description="How many passages; by default as the collection was tuned.")
    mode: Mode | None = Field(
        None, description="By meaning (dense), by words (lexical), or both (hybrid, the default)."
    )
    filter: FilterBody = Field(
        FilterBody(),
        description="Only documents for which every condition that is given holds; leave it out to search all.",
    )


class AskInput(SearchInput):
    history: list[TurnBody] = Field(
        [], max_length=50, description="Earlier questions with their answers, where the question follows up on them."
    )
    deep: bool = Field(
        False, description="Split a many-sided question and search in rounds: slower, and more thorough."
    )

    def turns(self) -> list[Turn]:
        return [Turn(turn.question, turn.answer) for turn in self.history]


class GetDocumentInput(Input):
    document: str = Field(
        min_length=1, max_length=4000, description="Its id or its source, as the other tools tell them."
    )
    first_line: int = Field(1, ge=1, description="The first line to read, from 1.")
    last_line: int | None = Field(
        None, ge=1, description="The last line to read; by default as many as one call gives."
    )


class ListDocumentsInput(Input):
    query: str = Field("", max_length=1000, description="Only documents whose source or title contains this text.")
    offset: int = Field(0, ge=0, description="How many documents to skip.")
    limit: int = Field(50, ge=1, le=500, description="Most documents to list.")


class SyncInput(Input):
    sources: list[Annotated[str, Field(min_length=1, max_length=4000)]] = Field(
        min_length=1, max_length=100, description="Files, folders or zip archives of the server's machine, or URLs."
    )
    prune: bool = Field(False, description="Delete documents that are no longer there below these sources.")

    @property
    def targets(self) -> Sequence[str]:
        return self.sources
