"""A model endpoint on a real socket that does what a test scripts: embeddings, chat, rerank and the list of models.

    with ScriptedEndpoint(dimension=64) as endpoint:
        endpoint.script("/embeddings", Fault(429, headers={"Retry-After": "1"}), Fault(kind="reset"))
        ...  # a client of endpoint.base_url

Also a program, for benchmarks and for trying things by hand:

    python tests/scripted_endpoint.py --port 8000 --latency-ms 150 --per-text-ms 2 --dimension 768 --concurrency 32
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import select
import socket
import struct
import threading
import time
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import numpy as np

Messages = Sequence[Mapping[str, str]]
Kind = Literal[
    "status",  # answer with `status`, `headers` and `message`
    "reset",  # close the connection with RST instead of an answer
    "slow",  # wait `seconds`, then answer as usual
    "cut",  # announce the whole body, send half; a stream: stop after `after` pieces
    "malformed",  # 200 with JSON that breaks off
    "wrong_dimension",  # vectors with one component less
    "uneven",  # the last vector with one component less
    "missing",  # the last vector is missing
    "repeated_index",  # all vectors with index 0
    "not_finite",  # NaN in the first vector
    "error_event",  # a stream: an error as an event after `after` pieces
    "unfinished",  # a stream: end after `after` pieces, cleanly, without finish reason
]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request."""

    status: int = 500
    message: str = "scripted fault"
    kind: Kind = "status"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    seconds: float = 0.0
    after: int = 1


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def texts(self) -> list[str]:
        """The texts of a request for embeddings."""
        return list(self.body.get("input", ()))


class ScriptedEndpoint:
    """An OpenAI-style endpoint in a thread of this process; use it in a `with` statement."""

    def __init__(
        self,
        *,
        dimension: int = 64,
        port: int = 0,
        latency: float = 0.0,
        per_text: float = 0.0,
        concurrency: int = 256,
        key: str = "",
        models: Sequence[str] = (),
        max_batch: int = 2048,
        batch_status: int = 400,
        refused_fields: Sequence[str] = (),
        refused_text: str = "",
        ignores_base64: bool = False,
        rates: Mapping[int | Kind, float] | None = None,
        seed: int = 0,
        takes_at_once: int | None = None,
        takes_a_second: float | None = None,
        over_limit: int | None = None,
        pieces: Sequence[str] | Callable[[Messages], Sequence[str] | str] | None = None,
        piece_seconds: float = 0.0,
        rerank_field: str = "data",
    ) -> None:
        self.dimension, self.latency, self.per_text = dimension, latency, per_text
        self.key, self.models, self.max_batch, self.batch_status = key, list(models), max_batch, batch_status
        self.refused_fields, self.refused_text, self.ignores_base64 = refused_fields, refused_text, ignores_base64
        self.rates, self.pieces, self.piece_seconds = dict(rates or {}), pieces, piece_seconds
        self.rerank_field = rerank_field
        # Of embeddings, refused with 429: more requests at once, or in a second, than that; taken, and told of by a
        # header: more than that at once.
        self.takes_at_once, self.takes_a_second, self.over_limit = takes_at_once, takes_a_second, over_limit
        self.outage: Fault | None = None  # while set, what becomes of every request
        self.failing: dict[str, Fault] = {}  # the same by model
        self.embedded: list[str] = []  # texts whose vectors were sent
        self.at_once: list[int] = []  # for each request for embeddings that was taken, how many were in work with it
        self._in_work = 0
        self._taken_at: deque[float] = deque()
        self.received: list[Received] = []
        self.most_at_once = 0
        self.closed_early = threading.Event()
        self._random = random.Random(seed)
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._slots = threading.Semaphore(concurrency)
        self._lock = threading.Lock()
        self._at_once = 0
        self._server = _Server(("127.0.0.1", port), self)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ScriptedEndpoint:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def script(self, path: str, *faults: Fault) -> None:
        """The next requests of `path` go wrong like this, one after the other; then all is well again."""
        self._faults[path].extend(faults)

    def requests(self, path: str) -> list[Received]:
        return [request for request in self.received if request.path == path]

    def texts(self) -> list[str]:
        """All texts that were sent for embedding, in the order of the requests."""
        return [text for request in self.requests("/embeddings") for text in request.texts]

    def embed(self, text: str, dimension: int | None = None) -> np.ndarray:
        """The vector of a text: its words hashed to components, so texts that share words are near each other."""
        vector = np.zeros(self.dimension, dtype=np.float32)
        for word in re.findall(r"\w+", text.lower()):
            code = zlib.crc32(word.encode())
            vector[code % self.dimension] += 1.0 if code & 0x80000000 else -1.0
        vector[zlib.crc32(text.encode()) % self.dimension] += 0.1
        return vector[:dimension]

    def next_fault(self, path: str) -> Fault | None:
        """The fault that is due, by outage, script or rate."""
        if self.outage:
            return self.outage
        with self._lock:
            if self._faults[path]:
                return self._faults[path].popleft()
            chance = self._random.random()
        for what, rate in self.rates.items():
            if chance < rate:
                if isinstance(what, int):
                    return Fault(what, headers={"Retry-After": "0.05"} if what == 429 else {})
                return Fault(kind=what)
            chance -= rate
        return None

    def take(self) -> Fault | None:
        """Begin a request for embeddings, or refuse it as one too many."""
        with self._lock:
            now = time.monotonic()
            while self._taken_at and self._taken_at[0] < now - 1:
                self._taken_at.popleft()
            if self.takes_at_once is not None and self._in_work >= self.takes_at_once:
                return Fault(429, "too many requests at once")
            if self.takes_a_second is not None and len(self._taken_at) >= self.takes_a_second:
                pause = self._taken_at[0] + 1 - now
                return Fault(429, "too many requests a second", headers={"Retry-After": f"{pause:.3f}"})
            self._taken_at.append(now)
            self._in_work += 1
            self.at_once.append(self._in_work)
            return None

    def finish(self) -> dict[str, str]:
        """End a request for embeddings; returns headers of the reply."""
        with self._lock:
            over = self.over_limit is not None and self._in_work > self.over_limit
            self._in_work -= 1
        return {"x-ratelimit-over-limit": "yes"} if over else {}

    def enter_request(self, request: Received) -> None:
        with self._lock:
            self.received.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)

    def leave_request(self) -> None:
        with self._lock:
            self._at_once -= 1

    def work(self, texts: int, wait: Callable[[float], None]) -> None:
        """Take the time that so many texts take, a slot of the endpoint's concurrency held."""
        if self.latency or self.per_text:
            with self._slots:
                wait(self.latency + self.per_text * texts)

    def refusal(self, path: str, body: Mapping[str, Any], authorization: str) -> Fault | None:
        """Why the endpoint does not accept a request, if it does not."""
        texts = body.get("input", [])
        if failing := self.failing.get(body.get("model", "")):
            return failing
        if self.key and authorization != f"Bearer {self.key}":
            return Fault(401, f"Incorrect API key provided: {authorization.removeprefix('Bearer ')}")
        if path != "/models" and self.models and body.get("model") not in self.models:
            return Fault(404, "Model not found, inaccessible, and/or not deployed")
        for name in self.refused_fields:
            if name in body:
                return Fault(400, f"Extra inputs are not permitted, field: '{name}', value: {body[name]!r}")
        if len(texts) > self.max_batch:
            return Fault(self.batch_status, f"too many inputs: {len(texts)} > {self.max_batch}")
        if self.refused_text and any(self.refused_text in text for text in texts):
            return Fault(400, "input is not acceptable")
        return None

    def embeddings(self, body: Mapping[str, Any], kind: str) -> dict[str, Any]:
        texts = body["input"]
        vectors = [self.embed(text, body.get("dimensions")) for text in texts]
        if kind == "wrong_dimension":
            vectors = [vector[:-1] for vector in vectors]
        if kind == "uneven":
            vectors[-1] = vectors[-1][:-1]
        if kind == "not_finite":
            vectors[0][0] = np.nan
        packed = body.get("encoding_format") == "base64" and not self.ignores_base64
        rows = [
            {
                "object": "embedding",
                "index": 0 if kind == "repeated_index" else index,
                "embedding": base64.b64encode(vector.tobytes()).decode() if packed else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]
        rows = rows[:-1] if kind == "missing" else rows
        tokens = sum(len(text) // 4 for text in texts)
        # Not in the order of the inputs: a client has to go by the index.
        return {
            "object": "list",
            "model": body["model"],
            "data": rows[::-1],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def rerank(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Documents by the share of the query's words that they have."""
        query = set(re.findall(r"\w+", body["query"].lower()))
        scores = [len(query & set(re.findall(r"\w+", text.lower()))) / len(query) for text in body["documents"]]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.get("top_n")]
        return {self.rerank_field: [{"index": index, "relevance_score": scores[index]} for index in order]}

    def answer(self, messages: Messages) -> list[str]:
        """The scripted pieces, or what the script makes of the messages (a text comes in words); else the beginnings of
        the first two passages of the prompt, cited, and a question that is to be rewritten as it is."""
        if callable(self.pieces):
            made = self.pieces(messages)
            return re.findall(r"\s*\S+", made) if isinstance(made, str) else list(made)
        if self.pieces is not None:
            return list(self.pieces)
        prompt = messages[-1]["content"]
        passages = re.findall(r'<passage number="(\d+)"[^>]*>\s*(.*?)\s*</passage>', prompt, re.DOTALL)[:2]
        question = re.search(r"<question>\s*(.*?)\s*</question>\s*\Z", prompt, re.DOTALL)
        if passages:
            text = " ".join(f"{_first_sentence(passage)} [{number}]." for number, passage in passages)
        else:
            text = question[1] if question else "There are no passages to answer from."
        return re.findall(r"\S+\s*", text)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], endpoint: ScriptedEndpoint) -> None:
        self.endpoint = endpoint
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet where the client went away; a fault of ours shows."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits up to 40 ms for the acknowledgement of its head
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:
        """No access log."""

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        content = self.rfile.read(length)
        if len(content) < length:
            raise ConnectionResetError  # the client left before it had sent all
        self._serve(json.loads(content))

    def _serve(self, body: dict[str, Any]) -> None:
        endpoint = self.server.endpoint
        path = self.path.removeprefix("/v1")
        if isinstance(body.get("input"), str):
            body["input"] = [body["input"]]
        endpoint.enter_request(Received(path, body, dict(self.headers)))
        try:
            fault = endpoint.next_fault(path)
            if fault is None or fault.kind != "status":
                fault = endpoint.refusal(path, body, self.headers.get("Authorization", "")) or fault
            self._answer(path, body, fault)
        except ConnectionError:
            endpoint.closed_early.set()
            raise
        finally:
            endpoint.leave_request()

    def _answer(self, path: str, body: dict[str, Any], fault: Fault | None) -> None:
        endpoint = self.server.endpoint
        kind = fault.kind if fault else ""
        if fault and kind == "slow":
            self._wait(fault.seconds)
        if fault and kind == "status":
            error = {"error": {"message": fault.message, "type": "error", "code": None}}
            self._send(fault.status, fault.body or error, headers=fault.headers)
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.rfile.close()  # the socket stays open as long as a file of it is
            self.connection.close()
        elif path == "/models":
            rows = [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in endpoint.models]
            self._send(200, {"object": "list", "data": rows}, kind)
        elif path == "/embeddings" and (refused := endpoint.take()):
            self._send(refused.status, {"error": {"message": refused.message}}, headers=refused.headers)
        elif path == "/embeddings":
            try:
                endpoint.work(len(body["input"]), self._wait)
                reply = endpoint.embeddings(body, kind)
            finally:
                headers = endpoint.finish()
            self._send(200, reply, kind, headers)
            endpoint.embedded += [] if kind else body["input"]
        elif path == "/rerank":
            endpoint.work(len(body["documents"]), self._wait)
            self._send(200, endpoint.rerank(body), kind)
        elif path == "/chat/completions":
            endpoint.work(1, self._wait)
            self._stream(body, fault)
        else:
            self._send(404, {"error": {"message": f"no such path: {path}"}})

    def _wait(self, seconds: float) -> None:
        """Sleep; a client that closes the connection meanwhile ends it at once."""
        readable = seconds and select.select([self.connection], [], [], seconds)[0]
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError

    def _send(
        self, status: int, body: Mapping[str, Any], kind: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        content = json.dumps(body).encode()
        if kind == "malformed":
            content = content[: len(content) // 2]
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if kind == "cut" else content)
        if kind == "cut":
            self.close_connection = True

    def _stream(self, body: Mapping[str, Any], fault: Fault | None) -> None:
        """The answer as server-sent events in chunked encoding, as long as the client listens."""
        endpoint = self.server.endpoint
        pieces = endpoint.answer(body["messages"])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number, event in enumerate(_events(body, pieces)):
                if fault and number == fault.after + 1 and kind_ends_stream(fault.kind):
                    return self._break_off(fault)
                self._chunk(f"data: {event}\n\n")
                self._wait(endpoint.piece_seconds)
            self._chunk("data: [DONE]\n\n")
            self._chunk("")
        except ConnectionError:
            endpoint.closed_early.set()
            self.close_connection = True

    def _break_off(self, fault: Fault) -> None:
        if fault.kind == "error_event":
            self._chunk(f"data: {json.dumps({'error': {'message': fault.message}})}\n\n")
        if fault.kind == "malformed":
            self._chunk('data: {"id": "1", "choi\n\n')
        if fault.kind != "cut":
            self._chunk("")
        self.close_connection = True

    def _chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")


def kind_ends_stream(kind: Kind) -> bool:
    return kind in ("cut", "malformed", "error_event", "unfinished")


def _events(body: Mapping[str, Any], pieces: Sequence[str]) -> Iterator[str]:
    """The chunks of a chat completion: role, text, finish reason, and usage where it is asked for."""
    limit = body.get("max_completion_tokens", body.get("max_tokens", 1_000_000))
    frame = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}

    def event(delta: Mapping[str, str], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return json.dumps({**frame, "choices": [choice]}, ensure_ascii=False)

    yield event({"role": "assistant", "content": ""})
    for piece in pieces[:limit]:
        name = "reasoning_content" if piece.startswith("(thinks)") else "content"
        yield event({name: piece})
    yield event({}, "length" if len(pieces) > limit else "stop")
    if body.get("stream_options", {}).get("include_usage"):
        prompt = sum(len(message["content"]) // 4 for message in body["messages"])
        done = min(len(pieces), limit)
        usage = {"prompt_tokens": prompt, "completion_tokens": done, "total_tokens": prompt + done}
        yield json.dumps({**frame, "choices": [], "usage": usage})


def _first_sentence(passage: str) -> str:
    prose = [line.strip() for line in passage.splitlines() if line.strip() and not line.startswith("#")]
    return re.split(r"(?<=\w)[.!?](?:\s|$)", " ".join(prose) or passage, maxsplit=1)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="a scripted model endpoint")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="time of a request")
    parser.add_argument("--per-text-ms", type=float, default=0.0, help="further time of each text in it")
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--concurrency", type=int, default=32, help="requests worked on at once")
    parser.add_argument("--rate", action="append", default=[], metavar="STATUS=SHARE", help="such as 429=0.1")
    parser.add_argument("--pieces", type=int, default=0, help="words of a chat answer (0: of the passages)")
    parser.add_argument("--piece-ms", type=float, default=0.0, help="time between two of them")
    arguments = parser.parse_args()
    endpoint = ScriptedEndpoint(
        port=arguments.port,
        latency=arguments.latency_ms / 1000,
        per_text=arguments.per_text_ms / 1000,
        dimension=arguments.dimension,
        concurrency=arguments.concurrency,
        pieces=[f"word{number} " for number in range(arguments.pieces)] or None,
        piece_seconds=arguments.piece_ms / 1000,
        rates={int(status): float(share) for status, _, share in (rate.partition("=") for rate in arguments.rate)},
    )
    with endpoint:
        print(endpoint.base_url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"{len(endpoint.received)} requests, {len(endpoint.texts())} texts", flush=True)


if __name__ == "__main__":
    main()
