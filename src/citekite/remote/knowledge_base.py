"""A knowledge base on a citekite server: the methods of `KnowledgeBase` that a server offers, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from citekite.errors import CitekiteError, ServerError, SettingsError, StoreError, UnknownDocument
from citekite.events import Delta, Done, Event, Failed, answer_of
from citekite.parse import parse_document, parse_event, parse_retrieval, parse_status, parse_summary, parse_usage_row
from citekite.remote.client import ServerClient
from citekite.reports import CollectionStatus, DocumentSummary, Progress, SyncReport, UsageRow
from citekite.settings import Settings
from citekite.types import Answer, Hit, Mode, Retrieval, StoredDocument, Turn

if TYPE_CHECKING:
    from citekite.retrieve.filter import Filter

# Rows of the document list in one request; the server gives no more.
PAGE = 1000
# Passages of one question; the server gives no more.
MOST_HITS = 100


def _no_report(progress: Progress) -> None:
    pass


def _never() -> bool:
    return False


class RemoteKnowledgeBase:
    """Documents in a collection of a citekite server, searched and asked; of a `KnowledgeBase`, what a server offers.

    `server` is its address, `key` an API key of it where it wants one, `collection` one of its collections, by default
    the server's own. `k` and `mode` are used where a call gives none. Of the `settings`, `timeout` and `retry_seconds`
    say how patient it is, and those of loading which files of a folder are uploaded. With `same_machine` the server
    reads local files itself.

    >>> with RemoteKnowledgeBase("https://docs.example.org", key="...") as kb:  # doctest: +SKIP
    ...     print(kb.ask("How is data stored in Milvus?"))
    """

    def __init__(
        self,
        server: str,
        key: str = "",
        collection: str | None = None,
        *,
        k: int | None = None,
        mode: Mode | None = None,
        settings: Settings | None = None,
        same_machine: bool = False,
    ) -> None:
        self.settings = settings or Settings.model_validate({})
        self._collection = collection
        self._k = k
        self._mode = mode
        self._same_machine = same_machine
        # The server may be silent for as long as it waits for its own model, and asks that again.
        silence = self.settings.timeout + self.settings.retry_seconds
        self._client = ServerClient(
            server, key, silence=silence, retry_seconds=self.settings.retry_seconds, direct=same_machine
        )

    def sync(
        self,
        *sources: str | Path,
        prune: bool = False,
        access: str | Iterable[str] | None = None,
        report: Callable[[Progress], None] = _no_report,
        stopped: Callable[[], bool] = _never,
    ) -> SyncReport:
        """Bring the collection to the state of the sources; returns when the server is done.

        A server on the same machine reads the files itself. Another one is sent those that a sync would read, as
        uploads, and fetches web addresses itself; `prune` is then a `SettingsError`, as it does not see what is gone.
        `access` names the groups that may see the documents, by default the server's choice for the key. When `stopped`
        returns True the job is cancelled and `KeyboardInterrupt` raised.
        """
        from citekite.ingest.base import LoadOptions
        from citekite.ingest.sources import normalise_source
        from citekite.remote.jobs import NOTHING_DONE, Follower, Upload, merged

        follower = Follower(self._client, report, stopped)
        roots = [normalise_source(str(source)) for source in sources]
        fields: dict[str, Any] = self._where()
        if access is not None:
            fields["access"] = [access] if isinstance(access, str) else list(access)
        if self._same_machine:
            body = {"sources": roots, "prune": prune, **fields}
            globs = {name: list(getattr(self.settings, name)) or None for name in ("include", "exclude")}
            return follower.follow(self._client.post("jobs", dict, {**body, **globs}))
        if prune:
            raise SettingsError(
                "--prune cannot go to a server on another machine, which does not see the files that are gone: "
                "`citekite remove SOURCE` deletes a document"
            )
        upload = Upload(follower, LoadOptions.from_settings(self.settings), fields)
        done = NOTHING_DONE
        for root in roots:
            if root.startswith(("http://", "https://")):
                job = self._client.post("documents/url", dict, {"url": root, **fields})
                done = merged(done, follower.follow(job))
            else:
                done = merged(done, upload.send(root))
        return done

    def search(
        self, question: str, *, k: int | None = None, filter: str | Filter = "", mode: Mode | None = None
    ) -> list[Hit]:
        """The `k` best chunks for a question, best first, of the documents that the filter admits."""
        return list(self.retrieve(question, k=k, filter=filter, mode=mode).hits)

    def retrieve(
        self,
        question: str,
        *,
        k: int | None = None,
        filter: str | Filter = "",
        mode: Mode | None = None,
        explain: bool = False,
    ) -> Retrieval:
        """What `search` returns, with the queries, the time of each stage and remarks; with `explain` how it came."""
        body = {**self._question(question, k, filter, mode), **_explain(explain)}
        return self._client.post("search", parse_retrieval, body)

    def ask(
        self,
        question: str,
        *,
        k: int | None = None,
        filter: str | Filter = "",
        mode: Mode | None = None,
        history: Sequence[Turn] = (),
        deep: bool = False,
        explain: bool = False,
    ) -> Answer:
        """The answer to a question from the documents, with citations; see `ask_stream` for the events of it."""
        options: dict[str, Any] = {"k": k, "filter": filter, "mode": mode, "history": history}
        return answer_of(self.ask_stream(question, **options, deep=deep, explain=explain))

    def ask_stream(
        self,
        question: str,
        *,
        k: int | None = None,
        filter: str | Filter = "",
        mode: Mode | None = None,
        history: Sequence[Turn] = (),
        deep: bool = False,
        explain: bool = False,
    ) -> Iterator[Event]:
        """The events of an answer: Step (when `deep`), Retrieved, then Delta and Cited, then Done or Failed.

        A connection that breaks is a `Failed` with what had come. Closing the iterator ends the server's work on it.
        """
        turns = [asdict(turn) for turn in history]
        body = {**self._question(question, k, filter, mode), "history": turns, "deep": deep, **_explain(explain)}
        partial = ""
        try:
            for event in self._client.events("POST", "ask/stream", parse_event, body):
                if isinstance(event, Delta):
                    partial += event.text
                yield event
                if isinstance(event, Done | Failed):
                    return
        except CitekiteError as error:
            yield Failed(error, partial)
            return
        yield Failed(ServerError(f"{self._client.server} ended the answer before it was complete: ask again"), partial)

    def usage(self, since: str = "", until: str = "") -> list[UsageRow]:
        """What models took at the server, by day, key, purpose and model: of every key for an admin, else of this one.

        The days (ISO 8601, UTC) are both included, and left open where they are empty.
        """
        return self._client.get("usage", _usage_rows, since=since or None, until=until or None)

    def documents(self) -> list[DocumentSummary]:
        """All documents of the collection that the key may see, sorted by source."""
        found: list[DocumentSummary] = []
        while True:
            rows, total = self._client.get("documents", _page, offset=len(found), limit=PAGE, **self._where())
            found += rows
            if not rows or len(found) >= total:
                return found

    def document(self, id_or_source: str) -> StoredDocument:
        """A document with its text, by its id or its source; raises `UnknownDocument`."""
        id = id_or_source
        if "/" in id:  # a source, which cannot stand in the path of an address
            id = next((one.id for one in self.documents() if one.source == id_or_source), "")
        if not id:
            raise UnknownDocument(f"there is no document {id_or_source!r}: `citekite documents` lists what is")
        return self._client.get(f"documents/{quote(id, safe='')}", parse_document, **self._where())

    def status(self) -> CollectionStatus:
        """What the collection holds and how it was made; its `uri` is that of the server's database."""
        return self._client.get("status", parse_status, **self._where())

    def count(self) -> int:
        """The number of chunks in the collection."""
        return self.status().chunks

    def remove(self, source: str | Path) -> int:
        """Delete a document, or all documents below a folder or archive; returns how many chunks there were.

        Raises `StoreError` where nothing of that source is stored.
        """
        from citekite.ingest.sources import is_under, normalise_source

        stored = self.documents()
        # An upload is named as `documents` shows it; a file of the same machine by any path that leads there.
        roots = {str(source), normalise_source(str(source))} if self._same_machine else {str(source)}
        found = [one.id for one in stored if any(is_under(one.source, root) for root in roots)]
        if not found:
            raise StoreError(f"nothing of {max(roots, key=len)!r} is stored: `citekite documents` lists what is")
        return sum(self._client.delete(f"documents/{quote(id, safe='')}", _chunks, **self._where()) for id in found)

    def backup(self) -> Iterator[bytes]:
        """A backup of the server's whole database, as a gzipped tar archive that comes in pieces; for admins.

        Raises `ServerBusy` while a sync is at work on the server, or all its places are taken: ask again.
        """
        return self._client.download("backup")

    def close(self) -> None:
        """Close the connections to the server."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _where(self) -> dict[str, str | None]:
        return {"collection": self._collection}

    def _question(self, question: str, k: int | None, filter: str | Filter, mode: Mode | None) -> dict[str, Any]:
        wanted = k or self._k
        if wanted and wanted > MOST_HITS:
            raise SettingsError(f"k={wanted} is too many: a server gives {MOST_HITS} passages for a question at most")
        return {
            "question": question,
            "k": wanted,
            "mode": mode or self._mode,
            "filter": {"expression": filter} if isinstance(filter, str) else self._filter(filter),
            **self._where(),
        }

    def _filter(self, filter: Filter) -> dict[str, Any]:
        """A filter as the body of a request; a path of this machine is told as the server would find it."""
        from citekite.ingest.sources import normalise_source
        from citekite.retrieve.filter import texts

        sources = texts(filter.sources)
        return {
            "sources": list(map(normalise_source, sources)) if self._same_machine else list(sources),
            "paths": list(texts(filter.paths)),
            "where": {key: _plain(value) for key, value in filter.where.items()},
            "after": _plain(filter.after),
            "before": _plain(filter.before),
            "date_key": filter.date_key,
            "expression": filter.expression,
        }


def _explain(wanted: bool) -> dict[str, bool]:
    """What asks for an explanation; where none is wanted it is left out, so that an older server takes the request."""
    return {"explain": True} if wanted else {}


def _usage_rows(values: Mapping[str, Any]) -> list[UsageRow]:
    return list(map(parse_usage_row, values["rows"]))


def _plain(value: object) -> Any:
    """A value of a filter for JSON: dates as ISO writes them, which is how they are stored."""
    if isinstance(value, date):
        return value.isoformat()
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def _page(values: Mapping[str, Any]) -> tuple[list[DocumentSummary], int]:
    return [parse_summary(one) for one in values["documents"]], values["total"]


def _chunks(values: Mapping[str, Any]) -> int:
    return int(values["chunks"])
