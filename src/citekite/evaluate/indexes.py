"""The index that a configuration searches: the user's own collection, or one made for the evaluation.

A BEIR folder brings its documents, so its index is made from them, apart from any collection of the user's. A question
file is about a collection that is there; a configuration that changes how an index is made gets one of its own from
the same documents. Configurations that differ in the search alone share an index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from citekite.errors import SourceError
from citekite.evaluate.dataset import Dataset
from citekite.evaluate.masked import masked
from citekite.knowledge_base import KnowledgeBase
from citekite.reports import Progress
from citekite.settings import Settings

_EMBEDDER_SETTINGS = ("provider", "base_url", "embedder", "embedding_model", "embedding_base_url", "dimensions")
# The settings that change what an index holds.
INDEX_SETTINGS = (
    "splitter",
    "separator",
    "chunk_characters",
    *_EMBEDDER_SETTINGS,
    "document_prefix",
    "contextual",
)
_RECORDED = re.compile(r"(?P<kind>[\w-]+):(?P<model>.+?)(?:@(?P<dimensions>\d+))?")


class Indexes:
    """Opens the index of each configuration for one question set; `base` are the settings in force.

    Indexes that are made lie in `folder`, one for the same documents and way of making, and serve again when the folder
    is kept. `warnings` collects what could not be read.
    """

    def __init__(self, dataset: Dataset, base: Settings, folder: Path, report: Callable[[Progress], None]) -> None:
        self._dataset = dataset
        self._base = base
        self._folder = folder
        self._report = report
        self._made: set[str] = set()
        self.warnings: list[str] = []

    @contextmanager
    def open(self, settings: Settings) -> Iterator[KnowledgeBase]:
        """The knowledge base that answers under these settings, with the headings of questions hidden."""
        with self._opened(settings) as kb, masked(kb, self._dataset.questions) as shown:
            yield shown

    def _opened(self, settings: Settings) -> KnowledgeBase:
        if self._dataset.corpus:
            # The corpus is one file of rows in BEIR's own form, whatever the settings for the user's documents say.
            size = self._dataset.corpus.stat().st_size / 1e6
            values = {"include": (), "exclude": (), "text_column": None, "max_file_mb": max(50, 2 * size)}
            return self._make(settings.model_copy(update=values), [str(self._dataset.corpus.absolute())])
        if _index_values(settings) == _index_values(self._base):
            return KnowledgeBase(settings=settings)
        as_built = settings.model_copy(update={name: getattr(self._base, name) for name in INDEX_SETTINGS})
        with KnowledgeBase(settings=as_built) as kb:
            sources = [document.source for document in kb.documents()]
            embedder = kb.status().embedder
        if all(getattr(settings, name) == getattr(self._base, name) for name in _EMBEDDER_SETTINGS):
            settings = settings.model_copy(update=recorded_settings(embedder))
        return self._make(settings, files_of(sources))

    def _make(self, settings: Settings, sources: list[str]) -> KnowledgeBase:
        key = _key(settings, sources)
        values = {
            "uri": str(self._folder / f"{key}.db"),
            "token": None,
            "database": "default",
            "collection": "citekite",
        }
        kb = KnowledgeBase(settings=settings.model_copy(update=values))
        if key not in self._made:
            done = kb.sync(*sources, prune=True, report=self._report)
            self._made.add(key)
            self.warnings += [f"{failure.source}: {failure.reason}" for failure in done.failures]
        return kb


def recorded_settings(embedder: str) -> dict[str, Any]:
    """The settings that name the embedder which a collection was built with.

    >>> recorded_settings("api:nomic-ai/nomic-embed-text-v1.5@256")
    {'embedder': 'api', 'embedding_model': 'nomic-ai/nomic-embed-text-v1.5', 'dimensions': 256}
    >>> recorded_settings("static:wordllama-l2-supercat-256")
    {'embedder': 'static', 'embedding_model': None, 'dimensions': 256}
    """
    match = _RECORDED.fullmatch(embedder)
    if match is None:
        raise SourceError(f"the collection was built with an embedder {embedder!r} that this version does not have")
    if match["kind"] == "static":
        return {
            "embedder": "static",
            "embedding_model": None,
            "dimensions": int(match["model"].rpartition("-")[2]),
        }
    dimensions = int(match["dimensions"]) if match["dimensions"] else None
    return {"embedder": match["kind"], "embedding_model": match["model"], "dimensions": dimensions}


def files_of(sources: Iterable[str]) -> list[str]:
    """The files and addresses that stored sources came from: without the row or the member of an archive.

    Raises `SourceError` for a file that is gone.

    >>> files_of(["https://example.org/a.zip!/x.md", "https://example.org/a.zip!/y.md"])
    ['https://example.org/a.zip']
    """
    found: dict[str, None] = {}
    for source in sources:
        name = source.partition("!/")[0]
        if "://" in name:
            found[name.partition("#")[0]] = None
            continue
        # A name may hold a `#` itself: what is there decides.
        while name not in found and not Path(name).exists():
            name, mark, _ = name.rpartition("#")
            if not mark:
                raise SourceError(
                    f"{source} is no longer there, and an index with other settings is made from the files: "
                    "put it back, or `citekite remove` it from the collection"
                )
        found[name] = None
    return list(found)


def _index_values(settings: Settings) -> dict[str, Any]:
    values = {name: getattr(settings, name) for name in INDEX_SETTINGS}
    # With context, the chat model writes a part of what is indexed.
    return {**values, "model": settings.model if settings.contextual else None}


def _key(settings: Settings, sources: list[str]) -> str:
    """A short name for what is indexed, and how."""
    return blake2b(repr((_index_values(settings), sources)).encode(), digest_size=6).hexdigest()
