"""What every request goes through, on a real socket: host, origin, key, scope, limits, audit, headers."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from citekite.errors import RateLimited, SettingsError, WrongHost
from citekite.serve import connections, limits
from citekite.serve.addresses import Hosts, check_address, is_loopback
from citekite.serve.app import create_app
from citekite.serve.guard import OTHER_POLICY, PAGE_POLICY
from citekite.serve.keys import KeyStore
from citekite.serve.limits import FREE_FAILURES, LONGEST_PAUSE, MOST_ADDRESSES, Buckets, Failures
from citekite.serve.run import run
from citekite.settings import Settings
from commands import citekite
from served import serving

UPLOAD_BYTES = 100_000
HOST_ALLOWED = "kites.example"
PAGE_ALLOWED = "https://page.example"


def settings_in(folder: Path, **values: Any) -> Settings:
    limits = {"max_upload_mb": UPLOAD_BYTES / 1e6, "allowed_hosts": (HOST_ALLOWED,), "cors_origins": (PAGE_ALLOWED,)}
    return Settings(**{"uri": str(folder / "kites.db"), "embedder": "static", **limits, **values})


async def _size(request: Request) -> Response:
    """How much of a body came in; what a parser makes of a body that breaks off is 400."""
    try:
        return Response(str(len(await request.body())))
    except Exception:  # noqa: BLE001 as the parsers of FastAPI do
        return Response("cannot be parsed", 400)


async def _named(request: Request) -> Response:
    request.state.target = "docs/kites.md"
    return Response(status_code=202)


async def _breaks(request: Request) -> Response:
    raise RuntimeError("a bug")


async def _waits(request: Request) -> Response:
    async def pieces() -> Any:
        yield b"first"
        while not await request.is_disconnected():
            yield b"more"

    return StreamingResponse(pieces())


def with_routes(app: FastAPI) -> FastAPI:
    """The application, and in front of its own routes some that show what reaches a route."""
    app.router.routes[:0] = [
        Route("/api/v1/documents", _size, methods=["POST"]),
        Route("/api/v1/size", _size, methods=["POST"]),
        Route("/api/v1/jobs", _named, methods=["POST"]),
        Route("/api/v1/breaks", _breaks, methods=["GET", "POST"]),
        Route("/api/v1/waits", _waits),
    ]
    return app


class Served:
    """A server, its folder and a client that reaches it."""

    def __init__(self, url: str, app: FastAPI, client: httpx2.Client) -> None:
        self.url, self.client = url, client
        self.service = app.state.service
        self.host = urlsplit(url).netloc

    def key(self, scope: str, **values: Any) -> dict[str, str]:
        """The header with a new key."""
        _, text = self.service.keys.create(f"{scope}-{time.monotonic_ns()}", scope, **values)
        return {"Authorization": f"Bearer {text}"}

    def audited(self) -> list[dict[str, Any]]:
        path = self.service.audit.path
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _served(settings: Settings) -> Iterator[Served]:
    app = with_routes(create_app(settings))
    with serving(settings, app) as url, httpx2.Client(base_url=url) as client:
        yield Served(url, app, client)


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server without keys."""
    yield from _served(settings_in(tmp_path_factory.mktemp("open")))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with keys."""
    settings = settings_in(tmp_path_factory.mktemp("keyed"))
    for served in _served(settings):
        served.key("admin")
        yield served


def stranger() -> dict[str, str]:
    """The header with which a proxy says that it asks for an address that was not seen before."""
    return {"X-Forwarded-For": f"203.0.{random.randrange(256)}.{random.randrange(1, 255)}"}


def problem_of(reply: httpx2.Response) -> tuple[int, str]:
    """Status and title of an error, which has to be problem details, or of OpenAI's form under its paths."""
    if reply.request.url.path.startswith("/v1/"):
        return reply.status_code, reply.json()["error"]["type"]
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["status"] == reply.status_code
    return reply.status_code, body["title"]


# Keys


def test_without_keys_the_own_machine_is_served_whatever_key_it_sends(open_server: Served) -> None:
    for headers in ({}, {"Authorization": "Bearer unused"}):
        assert open_server.client.get("/api/v1/me", headers=headers).json()["scope"] == "admin"


def test_without_keys_nobody_is_served_for_whom_a_proxy_asks(open_server: Served) -> None:
    for address in ("203.0.113.7", "unknown", "127.0.0.1, 203.0.113.7"):
        reply = open_server.client.get("/api/v1/me", headers={"X-Forwarded-For": address})

        assert problem_of(reply) == (401, "KeyRequired")
    assert "serves its own machine alone: citekite keys create" in reply.json()["detail"]


@pytest.mark.parametrize("path", ["/api/v1/me", "/openapi.json", "/v1/models", "/mcp", "/metrics", "/nowhere"])
@pytest.mark.parametrize("header", ["", "Bearer ck_000000000000_guessed", "Basic dXNlcjpwYXNz", "Bearer"])
def test_with_keys_every_path_needs_one(server: Served, path: str, header: str) -> None:
    reply = server.client.get(path, headers={**stranger(), **({"Authorization": header} if header else {})})

    assert problem_of(reply) == (401, "KeyRequired")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "guessed" not in reply.text


def test_the_page_needs_no_key(server: Served) -> None:
    assert server.client.get("/").status_code == 200
    assert server.client.get("/ui/index.html").status_code == 200


@pytest.mark.parametrize("path", ["/ui/../api/v1/me", "/ui/%2e%2e/api/v1/me", "//api/v1/me", "/ui//api/v1/me"])
def test_no_path_leads_past_the_key(server: Served, path: str) -> None:
    with socket.create_connection(server.host.split(":")) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode())
        reply = connection.makefile("rb").read()

    assert b'"scope"' not in reply
    assert reply.split(b" ")[1] in (b"401", b"404")


def test_a_key_says_who_the_caller_is(server: Served) -> None:
    headers = server.key("read", collections=["citekite"], groups=["hr"])
    me = server.client.get("/api/v1/me", headers=headers).json()

    assert (me["scope"], me["collections"], me["groups"]) == ("read", ["citekite"], ["hr"])


def test_a_key_for_one_collection_opens_no_other(server: Served) -> None:
    headers = server.key("read", collections=["handbook"])
    for reply in (
        server.client.get("/api/v1/status?collection=citekite", headers=headers),
        server.client.get("/api/v1/documents?collection=citekite", headers=headers),
        server.client.post("/api/v1/search", json={"question": "?", "collection": "citekite"}, headers=headers),
        server.client.post("/api/v1/ask", json={"question": "?", "collection": "citekite"}, headers=headers),
        server.client.post("/api/v1/ask/stream", json={"question": "?", "collection": "citekite"}, headers=headers),
    ):
        assert problem_of(reply) == (403, "AccessDenied")


def test_a_revoked_key_is_refused_at_the_next_request(server: Served) -> None:
    key, text = server.service.keys.create("to-be-revoked", "read")
    headers = {"Authorization": f"bearer {text}", **stranger()}
    assert server.client.get("/api/v1/me", headers=headers).status_code == 200

    KeyStore(server.service.home).revoke(key.id)
    reply = server.client.get("/api/v1/me", headers=headers)
    assert problem_of(reply) == (401, "KeyRequired")
    assert "'to-be-revoked' is revoked" in reply.json()["detail"]


def test_the_local_token_is_that_of_the_owner(server: Served) -> None:
    token = server.service.local_token
    me = server.client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}).json()

    assert (me["name"], me["scope"], me["groups"]) == ("local", "admin", None)
    wrong = server.client.get("/api/v1/me", headers={"Authorization": f"Bearer {token[:-1]}", **stranger()})
    assert problem_of(wrong) == (401, "KeyRequired")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "documents"),
        ("POST", "documents/url"),
        ("POST", "documents/sample"),
        ("DELETE", "documents/abc"),
        ("POST", "collections"),
        ("DELETE", "collections/citekite"),
        ("POST", "jobs"),
        ("POST", "jobs/abc/cancel"),
        ("PUT", "anything/that/is/added"),
        ("PATCH", "anything"),
    ],
)
def test_a_read_key_changes_nothing_and_the_attempt_is_recorded(server: Served, method: str, path: str) -> None:
    reply = server.client.request(method, f"/api/v1/{path}?collection=citekite", headers=server.key("read"))

    assert problem_of(reply) == (403, "AccessDenied")
    line = server.audited()[-1]
    assert (line["target"], line["outcome"]) == (f"{path}?collection=citekite", 403)
    assert line["request_id"] == reply.headers["x-request-id"]


def test_a_read_key_may_ask(server: Served) -> None:
    lines = len(server.audited())
    reply = server.client.post("/api/v1/search", json={"question": "?", "k": 0}, headers=server.key("read"))

    assert reply.status_code == 400
    assert len(server.audited()) == lines


# The audit log


def test_a_write_is_recorded_with_key_target_and_outcome(server: Served) -> None:
    headers = server.key("write")
    sent = server.client.post("/api/v1/documents", content=b"text of a document", headers=headers)
    synced = server.client.post("/api/v1/jobs", headers=headers)
    broken = server.client.post("/api/v1/breaks", headers=headers)
    lines = server.audited()[-3:]

    found = [(line["action"], line["target"], line["outcome"]) for line in lines]
    assert found == [
        ("upload", "documents", 200),
        ("sync", "docs/kites.md", 202),
        ("POST breaks", "breaks", 500),
    ]
    assert [line["request_id"] for line in lines] == [r.headers["x-request-id"] for r in (sent, synced, broken)]
    assert {line["key_id"] for line in lines} == {headers["Authorization"].split("_")[1]}
    content = server.service.audit.path.read_text()
    assert "text of a document" not in content
    assert headers["Authorization"].split("_", 2)[2] not in content


def test_a_request_without_a_key_leaves_no_line(server: Served) -> None:
    lines = len(server.audited())
    assert server.client.delete("/api/v1/documents/abc").status_code == 401
    assert len(server.audited()) == lines


def test_a_key_stands_in_no_log_and_no_file(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    headers = server.key("write")
    secret = headers["Authorization"].split("_", 2)[2]
    server.client.post("/api/v1/jobs", headers=headers)
    server.client.get("/api/v1/breaks", headers=headers)
    server.client.get("/api/v1/me", headers={"Authorization": f"{headers['Authorization']}x", **stranger()})

    assert "/api/v1/jobs" in caplog.text
    files = [path.read_bytes() for path in server.service.home.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert not any(secret.encode() in content for content in [caplog.text.encode(), *files])


# Host and origin


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:1", "LOCALHOST:8080", "[::1]:8080", HOST_ALLOWED, "127.0.0.9"]
)
def test_the_server_goes_by_the_names_of_its_machine_and_those_allowed(open_server: Served, host: str) -> None:
    assert open_server.client.get("/api/v1/me", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        f"{HOST_ALLOWED}.evil.example",
        "evil.example#localhost",
        "localhost@evil.example",
        "localhost:80:80",
        "10.0.0.5",
        "0.0.0.0",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/me", "/", "/mcp"])
def test_a_name_that_was_made_to_lead_here_is_refused(open_server: Served, host: str, path: str) -> None:
    assert problem_of(open_server.client.get(path, headers={"Host": host})) == (421, "WrongHost")


@given(st.from_regex(r"[a-z0-9.-]{1,20}(:[0-9]{1,6})?", fullmatch=True) | st.text(max_size=30))
def test_a_name_that_is_not_on_the_list_is_refused(host: str) -> None:
    name = re.sub(r":[0-9]{1,5}\Z", "", host).lower().rstrip(".")
    hosts = Hosts(Settings(allowed_hosts=(HOST_ALLOWED,)))
    if name in ("localhost", HOST_ALLOWED) or is_loopback(name):
        return

    with pytest.raises(WrongHost):
        hosts.check(host)


@pytest.mark.parametrize("host", ["10.0.0.5", "192.168.1.2:8080", "[2001:db8::1]:8080", "127.0.0.1"])
def test_a_server_that_others_reach_goes_by_its_addresses_and_no_other_names(host: str) -> None:
    hosts = Hosts(Settings(host="0.0.0.0"))
    hosts.check(host)
    with pytest.raises(WrongHost, match=r"'evil\.example': allow it by allowed_hosts"):
        hosts.check("evil.example")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:1",
        "http://127.0.0.1",
        "file://",
        "https://page.example.evil.example",
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_a_page_of_another_origin_can_not_write(open_server: Served, origin: str, kind: str) -> None:
    headers = {"Origin": origin, "Content-Type": kind}
    reply = open_server.client.post("/api/v1/jobs", content=b"{}", headers=headers)

    assert problem_of(reply) == (403, "AccessDenied")
    assert "access-control-allow-origin" not in reply.headers
    assert all(line["action"] != "sync" for line in open_server.audited())


def test_the_own_page_can(open_server: Served) -> None:
    assert open_server.client.post("/api/v1/size", headers={"Origin": open_server.url}).status_code == 200


def _preflight(served: Served, origin: str) -> httpx2.Response:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return served.client.options("/api/v1/search", headers={"Origin": origin, **asked})


def test_a_page_that_is_allowed_may_call_and_read_also_that_a_key_is_missing(server: Served) -> None:
    asked = _preflight(server, PAGE_ALLOWED)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == PAGE_ALLOWED
    assert "access-control-allow-credentials" not in asked.headers

    missing = server.client.get("/api/v1/me", headers={"Origin": PAGE_ALLOWED})
    assert problem_of(missing) == (401, "KeyRequired")
    assert missing.headers["access-control-allow-origin"] == PAGE_ALLOWED
    given = server.client.get("/api/v1/me", headers={"Origin": PAGE_ALLOWED, **server.key("read")})
    assert (given.status_code, given.headers["access-control-allow-origin"]) == (200, PAGE_ALLOWED)


def test_other_pages_get_no_leave_to_call(server: Served) -> None:
    reply = _preflight(server, "https://evil.example")

    assert problem_of(reply) == (403, "AccessDenied")
    assert not [name for name in reply.headers if name.startswith("access-control")]


# Limits


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/mcp", "/api/v1/search", "/", "/nowhere"])
def test_every_path_has_a_limit_on_bodies(open_server: Served, path: str) -> None:
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    reply = open_server.client.post(path, content=b'"' + b"x" * 2_000_000 + b'"', headers=headers)
    assert problem_of(reply) == (413, "TooLarge")


@pytest.mark.parametrize("sent", ["", "GET", "GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_request_that_does_not_begin_in_time_loses_its_connection(
    open_server: Served, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    host, port = open_server.host.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(sent.encode())
        began = time.monotonic()
        while time.monotonic() - began < 3:
            try:
                connection.settimeout(0.05)
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                if sent:  # drips that keep the connection busy buy no time
                    with suppress(OSError):
                        connection.sendall(b"x")
            except OSError:
                break
        assert time.monotonic() - began < 2


def test_a_body_that_falls_silent_ends_its_request(open_server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SILENCE_SECONDS", 0.2)
    host, port = open_server.host.split(":")
    with socket.create_connection((host, int(port)), timeout=3) as connection:  # less than a kept connection lives
        head = "POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        reply = connection.makefile("rb").read()  # to the end: the connection is closed
    assert reply.startswith((b"HTTP/1.1 499", b"HTTP/1.1 400"))


@pytest.mark.parametrize(("path", "limit"), [("/api/v1/size", 2_000_000), ("/api/v1/documents", UPLOAD_BYTES)])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_may_have_the_limit_of_its_path_and_no_more(
    open_server: Served, path: str, limit: int, chunked: bool
) -> None:
    def pieces(size: int) -> Iterator[bytes]:
        while size:
            yield b"x" * min(size, 50_000)
            size -= min(size, 50_000)

    def post(size: int) -> httpx2.Response:
        return open_server.client.post(path, content=pieces(size) if chunked else b"x" * size)

    assert post(limit).text == str(limit)
    assert problem_of(post(limit + 1)) == (413, "TooLarge")
    assert open_server.client.get("/api/v1/me").status_code == 200


def test_a_body_over_the_limit_is_refused_before_it_is_sent(open_server: Served) -> None:
    host, port = open_server.host.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(
            f"POST /api/v1/search HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999\r\n\r\n".encode()
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_more_requests_than_a_minute_has_are_told_when_to_come_again(tmp_path: Path) -> None:
    for served in _served(settings_in(tmp_path, requests_per_minute=2)):
        first, second = served.key("read"), served.key("read")
        get = served.client.get
        assert [get("/api/v1/me", headers=first).status_code for _ in range(2)] == [200, 200]
        reply = get("/api/v1/me", headers=first)

        assert problem_of(reply) == (429, "RateLimited")
        assert 1 <= int(reply.headers["retry-after"]) <= 30
        assert problem_of(served.client.post("/mcp", json={}, headers=first)) == (429, "RateLimited")
        assert problem_of(get("/v1/models", headers=first)) == (429, "RateLimited")
        assert get("/api/v1/me", headers=second).status_code == 200
        assert get("/").status_code == 200


def test_a_bucket_fills_up_steadily_and_not_over_its_brim() -> None:
    now = 0.0
    buckets = Buckets(60, clock=lambda: now)
    for _ in range(60):
        buckets.take("a")
    with pytest.raises(RateLimited) as refused:
        buckets.take("a")
    assert refused.value.retry_after == pytest.approx(1.0)
    buckets.take("b")

    now = 1.01
    buckets.take("a")
    with pytest.raises(RateLimited):
        buckets.take("a")

    now = 1000.0
    for _ in range(60):
        buckets.take("a")
    with pytest.raises(RateLimited):
        buckets.take("a")


def test_wrong_keys_wait_longer_and_longer_up_to_a_bound() -> None:
    now = 0.0
    failures = Failures(clock=lambda: now)
    waits = [failures.count("203.0.113.7") for _ in range(30)]

    assert waits[:6] == [0, 0, 0, 0, 0, 0.2]
    assert waits == sorted(waits)
    assert max(waits) == LONGEST_PAUSE
    assert failures.count("203.0.113.8") == 0
    now = 61.0
    assert failures.count("203.0.113.7") == 0


def test_the_addresses_of_wrong_keys_do_not_fill_the_memory() -> None:
    failures = Failures()
    for number in range(2 * MOST_ADDRESSES):
        failures.count(str(number))

    assert len(failures._seen) == MOST_ADDRESSES


def test_a_right_key_does_not_wait_for_wrong_ones(server: Served) -> None:
    right = server.key("read")
    address = {"X-Forwarded-For": "203.0.113.9"}

    def wrong(number: int) -> float:
        start = time.monotonic()
        headers = {"Authorization": f"Bearer ck_000000000000_{number}", **address}
        assert server.client.get("/api/v1/me", headers=headers).status_code == 401
        return time.monotonic() - start

    with ThreadPoolExecutor(8) as pool:
        refusals = [pool.submit(wrong, number) for number in range(8)]
        while sum(refusal.done() for refusal in refusals) < FREE_FAILURES:
            time.sleep(0.005)
        assert server.client.get("/api/v1/me", headers={**right, **address}).status_code == 200
        assert not all(refusal.done() for refusal in refusals)
        assert max(refusal.result() for refusal in refusals) >= 0.8


# Replies


def test_every_reply_has_a_number_of_its_own_and_the_headers_of_a_careful_server(open_server: Served) -> None:
    replies = [
        open_server.client.get("/"),
        open_server.client.get("/ui/index.html"),
        open_server.client.get("/api/v1/me"),
        open_server.client.get("/nowhere"),
        open_server.client.get("/api/v1/me", headers={"Host": "evil.example"}),
        open_server.client.get("/api/v1/breaks"),
        open_server.client.post("/api/v1/search", content=b"{"),
    ]

    assert len({reply.headers["x-request-id"] for reply in replies}) == len(replies)
    for reply in replies:
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    policies = [reply.headers["content-security-policy"] for reply in replies]
    assert policies == [PAGE_POLICY, PAGE_POLICY, *[OTHER_POLICY] * 5]
    assert replies[2].headers["cache-control"] == "no-store"


def test_a_bug_is_a_problem_that_says_where_to_look(open_server: Served, caplog: pytest.LogCaptureFixture) -> None:
    reply = open_server.client.get("/api/v1/breaks")

    assert problem_of(reply) == (500, "InternalError")
    assert reply.headers["x-request-id"] in reply.json()["detail"]
    assert "a bug" not in reply.text
    deadline = time.monotonic() + 5
    while "RuntimeError: a bug" not in caplog.text:  # it is written after the reply
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stream_comes_piece_by_piece(open_server: Served) -> None:
    with open_server.client.stream("GET", "/api/v1/waits") as reply:
        assert next(reply.iter_raw()).startswith(b"first")


def test_a_database_of_keys_that_cannot_be_read_opens_nothing(tmp_path: Path) -> None:
    for served in _served(settings_in(tmp_path)):
        headers = served.key("read")
        served.service.keys.path.write_bytes(b"no database, but long enough to be looked at" * 100)

        assert problem_of(served.client.get("/api/v1/me", headers=headers)) == (503, "StoreError")
        assert problem_of(served.client.get("/api/v1/me")) == (401, "KeyRequired")


# The address


def test_loopback_is_told_from_other_addresses() -> None:
    loopback = ("localhost", "Localhost", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1")
    others = ("0.0.0.0", "::", "10.0.0.1", "192.168.1.2", "kites.example", "localhost.evil.example", "", "127.1")

    assert [host for host in (*loopback, *others) if is_loopback(host)] == list(loopback)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "kites.example"])
def test_an_address_that_others_reach_is_refused_without_a_key(tmp_path: Path, host: str) -> None:
    settings = settings_in(tmp_path, host=host)
    command = f"citekite keys create --name NAME --scope read --data-dir {tmp_path}/kites.db.serve"

    with pytest.raises(SettingsError, match=f"host '{host}' can be reached from other machines.*{command}"):
        run(settings)


def test_the_command_is_refused_with_the_reason_and_the_status_of_settings(tmp_path: Path) -> None:
    refused = citekite(tmp_path, "serve", "--host", "0.0.0.0")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("citekite: host '0.0.0.0' can be reached from other machines")
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_others_reach_is_taken_with_a_key_that_is_valid(tmp_path: Path) -> None:
    settings, store = settings_in(tmp_path, host="0.0.0.0"), KeyStore(tmp_path)
    store.create("ci", "read")
    check_address(settings, store)

    store.revoke("ci")
    with pytest.raises(SettingsError):
        check_address(settings, store)


def test_every_web_page_is_not_let_in_without_a_key(tmp_path: Path) -> None:
    settings, store = settings_in(tmp_path, cors_origins=("*",)), KeyStore(tmp_path)
    with pytest.raises(SettingsError, match=r"cors_origins '\*' lets every web page"):
        check_address(settings, store)

    store.create("ci", "read")
    check_address(settings, store)


def test_a_server_that_others_reach_needs_a_key_also_when_there_is_none_left(tmp_path: Path) -> None:
    for served in _served(settings_in(tmp_path, host="0.0.0.0")):
        assert problem_of(served.client.get("/api/v1/me")) == (401, "KeyRequired")
        assert served.client.get("/api/v1/me", headers=served.key("read")).status_code == 200
        served.service.keys.path.unlink()
        assert problem_of(served.client.get("/api/v1/me")) == (401, "KeyRequired")
