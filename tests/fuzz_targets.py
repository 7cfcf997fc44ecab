"""What is done with an input of fuzzing, and what holds of any: a fault that is told, or a result within its laws.

A target is a function of bytes that raises where a law is broken. `test_fuzz.py` gives them inputs of hypothesis, and
`python -m bench fuzz` those of a fuzzer that watches which code they reach.
"""

from __future__ import annotations

import atexit
import io
import json
import posixpath
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise, zip_longest
from typing import Any

import numpy as np

from citekite.answer.cite import CitationStream, resolve
from citekite.endpoint.client import Endpoint
from citekite.errors import DocumentError, EndpointError, FilterError
from citekite.events import Cited, Delta, Done, Failed
from citekite.ingest.archive import Archive
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.encoding import canonical, one_line
from citekite.ingest.load import load
from citekite.ingest.metadata import MAX_BYTES
from citekite.ingest.sniff import checked_name, media_type
from citekite.ingest.split import SectionSplitter, SeparatorSplitter
from citekite.ports import Message
from citekite.remote import RemoteKnowledgeBase
from citekite.reports import Failure
from citekite.retrieve.filter import Filter
from citekite.settings import Settings
from citekite.store.collection import Collection
from citekite.store.milvus import MilvusStore
from citekite.store.record import CollectionRecord
from citekite.store.writer import Entry
from citekite.types import Chunk, Document
from passages import make_hits
from sample_files import make_docx, make_epub, make_pdf, make_pptx, make_xlsx, zipped

OPTIONS = LoadOptions(max_file_bytes=1_000_000, max_archive_bytes=4_000_000)
SPLITTERS = (SectionSplitter(chunk_characters=200), SeparatorSplitter("\n# "))
MARKDOWN = (
    "---\ntitle: Kites\ntags: [red, black]\ndate: 2024-05-01\n---\n# Kites\n\n- a `b`\n\n```\ncode\n```\n| a |\n|---|\n"
)
HTML = (
    "<!doctype html><html lang=en><head><meta charset=utf-8><title>Kites</title></head><body><main><h1>Kites</h1>"
    "<p>Red &amp; <b>black</b>.<ul><li>one<ol><li>two</ol></ul><table><tr><th>a<th>b<tr><td>1<td>2</table>"
    "<pre><code class=language-py>x = 1</code></pre><blockquote>said</blockquote></main></body></html>"
)
NOTEBOOK = '{"cells": [{"cell_type": "markdown", "source": ["# T\\n", "x"]}, {"cell_type": "code", "source": "y"}]}'
EVENTS = (
    'event: Delta\ndata: {"text": "Kites "}\n\n: keep-alive\n\nevent: Cited\ndata: {"number": 1, "position": 6}\n\n'
    'event: Failed\ndata: {"problem": {"title": "ServerBusy", "detail": "busy"}, "partial": ""}\n\n'
)
PIECES = (
    'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Kites "}, "finish_reason": null}]}\n\n'
    'data: {"choices": [{"index": 0, "delta": {"content": "soar é."}, "finish_reason": "stop"}]}\n\n'
    'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}\n\n'
    "data: [DONE]\n\n"
)


@dataclass(frozen=True, slots=True)
class Target:
    """What is tried, and inputs to begin with."""

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


# Loaders


def loading(name: str) -> Callable[[bytes], None]:
    """Loads a file of that name: its documents and failures are sound, and there is no error but a `DocumentError`."""

    def check(data: bytes) -> None:
        with suppress(DocumentError):
            checked_name(name, io.BytesIO(data))
        media_type(name, io.BytesIO(data))
        check_loaded(SourceFile(f"/fuzz/{name}", name, lambda: data))

    return check


def check_loaded(file: SourceFile) -> None:
    with suppress(DocumentError):
        for loaded in load(file, OPTIONS, lambda failure: check_storable(failure.reason)):
            if isinstance(loaded, Failure):
                check_storable(loaded.source + loaded.reason)
            else:
                check_document(loaded)


def check_document(document: Document) -> None:
    text = document.text
    assert text == canonical(text) != ""
    assert document.title == one_line(document.title)
    stored = json.dumps(dict(document.metadata), allow_nan=False, ensure_ascii=False)
    assert json.loads(stored) == document.metadata
    assert len(stored.encode()) <= MAX_BYTES
    assert 0 <= document.body <= len(text)
    assert list(document.pages) == sorted(document.pages)
    assert all(0 <= page <= len(text) for page in document.pages)
    for splitter in SPLITTERS:
        chunks = splitter.split(document)
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
        assert all(one.end <= other.start for one, other in pairwise(chunks))
        assert len({chunk.id for chunk in chunks}) == len(chunks)


def check_storable(words: str) -> None:
    assert words
    words.encode()


def check_archive(data: bytes) -> None:
    """No member of an archive has a path that leads outside, and each is loaded or says why not."""
    with suppress(DocumentError):
        for found in Archive(io.BytesIO(data), "/fuzz/a.zip", OPTIONS).find_files(lambda path: True):
            if isinstance(found, Failure):
                check_storable(found.source + found.reason)
            else:
                archive, _, path = found.source.partition("!/")
                assert archive == "/fuzz/a.zip"
                assert posixpath.normpath(f"/x/{path}") == f"/x/{path}"
                check_loaded(found)


# Filters


@cache
def rows() -> Collection:
    """A small collection in an embedded database, for expressions to be evaluated on."""
    folder = tempfile.mkdtemp(prefix="citekite-fuzz-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = MilvusStore(f"{folder}/rows.db")
    made = store.create("rows", CollectionRecord(embedder="e", dimension=2, english_only=True, splitter="s"))
    chunks = [Chunk(f"{n}-0", f"/d/{n}.md", "t", 0, 0, 1, "x", metadata={"n": n, "lang": "en"}) for n in range(3)]
    with made.writing() as writer:
        writer.upsert([Entry(chunk, "d", 1) for chunk in chunks], np.ones((3, 2), dtype=np.float32))
    return made


def check_expression(data: bytes) -> None:
    """Any text is an expression that selects rows, or a `FilterError`; what stands beside it holds all the same."""
    expression = data.decode(errors="replace")
    with suppress(FilterError):
        ids = {row["id"] for row in rows().scan(expression, ("id",), asked=True)}
        assert ids <= {"0-0", "1-0", "2-0"}
    with suppress(FilterError):
        beside = Filter(sources="/d/1.md", expression=expression).to_expression(list)
        assert {row["id"] for row in rows().scan(beside, ("id",), asked=True)} <= {"1-0"}


def check_value(data: bytes) -> None:
    """Any value and key are read by Milvus Lite's own parser as that text, and change nothing around them."""
    from milvus_lite.search.filter.parser import parse_expr

    def read(text: str) -> Any:
        return parse_expr(Filter(where={text: text}, date_key=text, after=date(2024, 5, 1)).to_expression(list))

    text = data.decode(errors="surrogateescape")
    try:
        found = read(text)
    except FilterError:
        assert not text.isascii()
        return
    assert renamed(found, {}) == renamed(read("word"), {"word": text})


def renamed(node: Any, names: dict[str, str]) -> Any:
    """A parsed expression without the places of its parts, and with other texts in it."""
    if is_dataclass(node):
        parts = [(field.name, getattr(node, field.name)) for field in fields(node) if field.name != "pos"]
        return type(node).__name__, [(name, renamed(part, names)) for name, part in parts]
    if isinstance(node, tuple | list):
        return [renamed(part, names) for part in node]
    return names.get(node, node) if isinstance(node, str) else node


# Streams


def cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """A content, and the same in pieces: the first bytes say where the others are cut."""
    count = data[0] % 8 if data else 0
    places, content = data[1 : 1 + count], data[1 + count :]
    edges = sorted({0, len(content), *(place * len(content) // 256 for place in places)})
    return content, [content[start:end] for start, end in pairwise(edges)]


def check_citations(data: bytes) -> None:
    """However an answer is cut, its text and citations are the same, and no citation points outside."""
    text = cut(data)[0].decode(errors="replace")
    places = [place * len(text) // 256 for place in data[1 : 1 + data[0] % 8]] if data else []
    pieces = [text[start:end] for start, end in pairwise(sorted({0, len(text), *places}))]
    hits = make_hits("Kites soar.", "Owls hunt voles. They hoot.", "数据 é 𝕏")
    whole, events = read_answer([text], len(hits))
    parts, _ = read_answer(pieces, len(hits))
    assert (parts.text, parts.cited, parts.dropped) == (whole.text, whole.cited, whole.dropped)
    so_far = ""
    for event, following in zip_longest(events, events[1:]):
        if isinstance(event, Delta):
            so_far += event.text
        else:
            assert 1 <= event.number <= len(hits)
            assert (event.position, following) == (len(so_far), Delta(f"[{event.number}]"))
    assert so_far == whole.text
    for citation in resolve(whole.text, hits, whole.cited):
        passage = hits[citation.number - 1].chunk
        assert citation.quote == passage.text[citation.start - passage.start : citation.end - passage.start] != ""


def read_answer(pieces: Sequence[str], passages: int) -> tuple[CitationStream, list[Delta | Cited]]:
    stream = CitationStream(passages)
    events = [event for piece in pieces for event in stream.feed(piece)]
    return stream, events + stream.finish()


class Replies(ThreadingHTTPServer):
    """Answers every request with the pieces of an event stream that it holds, each as a chunk of its own."""

    pieces: Sequence[bytes] = ()
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.address = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Reply(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Replies

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in self.server.pieces]
        with suppress(OSError):  # a client that has read enough leaves
            self.wfile.write(b"".join([*chunks, b"0\r\n\r\n"]))

    def log_message(self, *_: Any) -> None:
        pass


@cache
def replies() -> Replies:
    return Replies()


@cache
def remote() -> RemoteKnowledgeBase:
    return RemoteKnowledgeBase(replies().address, settings=Settings(timeout=10, retry_seconds=0))


@cache
def endpoint() -> Endpoint:
    return Endpoint(f"{replies().address}/v1", timeout=10, retry_seconds=0)


def check_answer_events(data: bytes) -> None:
    """Whatever a citekite server sends, an answer ends with `Done` or `Failed`, and its cuts make no difference."""

    def outcome(pieces: Sequence[bytes]) -> list[str]:
        replies().pieces = pieces
        events = list(remote().ask_stream("Which birds soar?"))
        assert [isinstance(event, Done | Failed) for event in events] == [False] * (len(events) - 1) + [True]
        last = events[-1]
        end = [str(last.error), last.partial] if isinstance(last, Failed) else []
        return [*map(repr, events[:-1]), type(last).__name__, *end]

    content, pieces = cut(data)
    assert outcome(pieces) == outcome([content] if content else [])


def check_chat_events(data: bytes) -> None:
    """Whatever a model endpoint sends is pieces of text or an `EndpointError`, and its cuts make no difference."""

    def outcome(pieces: Sequence[bytes]) -> list[str]:
        replies().pieces = pieces
        texts = []
        try:
            # By a name of its own, so that no reply is judged by those before it.
            for piece in endpoint().chat(f"model-{next(MODELS)}", ASKED, max_tokens=9, temperature=0):
                piece.text.encode()
                texts.append(piece.text)
                assert piece.usage is None or piece.usage.prompt_tokens + piece.usage.completion_tokens >= 0
        except EndpointError as error:
            texts.append(type(error).__name__)
        return ["".join(texts)]

    content, pieces = cut(data)
    assert outcome(pieces) == outcome([content] if content else [])


ASKED = [Message("user", "?")]
MODELS = count()


# All of them


def whole(name: str, *seeds: bytes) -> Callable[[], Target]:
    """A file of that name."""
    return lambda: Target(loading(name), seeds)


def made(name: str, make: Callable[[], bytes]) -> Callable[[], Target]:
    """A file of that name, from one that takes a moment to make."""
    return lambda: Target(loading(name), (make(),))


def part_of(name: str, make: Callable[[], bytes], part: str) -> Callable[[], Target]:
    """An office file whose parts are sound but one, which is the input."""

    def target() -> Target:
        with zipfile.ZipFile(io.BytesIO(make())) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        load = loading(name)
        return Target(lambda data: load(zipped({**parts, part: data})), (parts[part],))

    return target


def archives() -> Target:
    methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    members = {"kites.md": MARKDOWN, "owls/a.html": HTML, "mimetype": "text/plain"}
    return Target(check_archive, tuple(zipped(members, method) for method in methods))


def of(check: Callable[[bytes], None], *seeds: bytes) -> Callable[[], Target]:
    return lambda: Target(check, seeds)


CUTS = b"\2\x40\x80"
CITING = "Kites [1, 2]. `a[1]`\n```\n[2]\n```\n【3†x】 [^9] [1-3]"
# Every target by its name; made when it is used.
TARGETS = {
    "front matter": whole("a.md", MARKDOWN.encode()),
    "text": whole("a.txt", "é 数".encode(), "é".encode("utf-16"), b"caf\xe9", "ab".encode("utf-16-le")),
    "HTML": whole("a.html", HTML.encode()),
    "PDF": whole("a.pdf", make_pdf("Some text", "More", info="/Title (T)")),
    "CSV": whole("a.csv", b'id,text\n1,"one"\n2,two\n'),
    "JSON Lines": whole("a.jsonl", b'{"id": 1, "text": "one"}\n'),
    "notebook": whole("a.ipynb", NOTEBOOK.encode()),
    "zip": archives,
    "docx": made("a.docx", make_docx),
    "docx, XML": part_of("a.docx", make_docx, "word/document.xml"),
    "pptx": made("a.pptx", make_pptx),
    "pptx, XML": part_of("a.pptx", make_pptx, "ppt/slides/slide1.xml"),
    "xlsx": made("a.xlsx", make_xlsx),
    "xlsx, XML": part_of("a.xlsx", make_xlsx, "xl/worksheets/sheet1.xml"),
    "epub": made("a.epub", make_epub),
    "epub, XML": part_of("a.epub", make_epub, "OEBPS/book.opf"),
    "filter value": of(check_value, b'a"b\\', "é".encode(), b"docs/"),
    "filter expression": of(check_expression, b'n > 1 and source like "/d%"', b'metadata["n"] in [1, 2]'),
    "citations": of(check_citations, CUTS + CITING.encode()),
    "answer events": of(check_answer_events, CUTS + EVENTS.encode()),
    "chat events": of(check_chat_events, CUTS + PIECES.encode()),
}
