"""Fetching: real servers on the loopback, their faults, and addresses that are not public."""

from __future__ import annotations

import gzip
import io
import pickle
import shutil
import socket
import ssl
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.errors import DocumentError, SourceError
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.fetch import MAX_REDIRECTS, fetch, is_public
from citekite.ingest.load import load
from citekite.ingest.sources import find_files
from citekite.reports import Failure
from citekite.types import Document

OPTIONS = LoadOptions(allow_private_urls=True, timeout=5)

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer, certificate: Path | None = None) -> Iterator[str]:
    """The address of a server on the loopback that answers each GET so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # in some tests the client goes away
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # of a handshake that the client broke off

    server = Server(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sending(body: bytes, status: int = 200, **headers: str) -> Answer:
    """Answers with these; an underscore in a header's name stands for a dash."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def redirecting(target: str, status: int = 302) -> Answer:
    return sending(b"", status, Location=target)


def refusal(url: str, options: LoadOptions = OPTIONS) -> str:
    with pytest.raises(SourceError) as raised:
        fetch(url, options)
    return str(raised.value)


def test_a_page_comes_with_its_name_and_type() -> None:
    with serving(sending(b"<p>text", Content_Type="text/html; charset=utf-8")) as server:
        fetched = fetch(f"{server}/docs/start%20here.html?x=1#part", OPTIONS)
    with fetched.content:
        assert fetched.content.read() == b"<p>text"
    assert (fetched.name, fetched.content_type) == ("start here.html", "text/html; charset=utf-8")
    assert fetched.url.endswith("?x=1")


@pytest.mark.parametrize(
    ("path", "content_type", "body", "expected"),
    [
        ("/page", "text/html", b"<h1>T</h1>", "html"),
        ("/raw/a.md", "text/plain", b"# T", "markdown"),
        ("/a.md", "application/octet-stream", b"# T", "markdown"),
        ("/rows.jsonl", "application/json", b'{"text": "x"}', "row"),
        ("/", "text/plain", b"text", "text"),
    ],
)
def test_the_content_type_decides_the_format_and_the_suffix_where_that_is_vague(
    path: str, content_type: str, body: bytes, expected: str
) -> None:
    with serving(sending(body, Content_Type=content_type)) as server:
        [file] = find_files(server + path, OPTIONS)
        assert isinstance(file, SourceFile)
        [document] = load(file, OPTIONS, print)
    assert isinstance(document, Document)
    assert document.format == expected
    assert document.source.startswith(server + path)


def test_an_archive_is_fetched_and_opened() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("docs/a.md", "text")
        archive.writestr("../b.md", "evil")
    # Over the limit for one file, which does not hold for an archive.
    options = replace(OPTIONS, max_file_bytes=100)
    with serving(sending(content.getvalue(), Content_Type="application/zip")) as server:
        failure, file = find_files(f"{server}/archive/main", options)
    assert isinstance(failure, Failure)
    assert isinstance(file, SourceFile)
    assert file.source == f"{server}/archive/main!/docs/a.md"
    assert file.read() == b"text"
    with pytest.raises(TypeError, match="a temporary file of this process"):
        pickle.dumps(file)


def test_what_calls_itself_an_archive_and_is_none_is_refused() -> None:
    with serving(sending(b"<p>Sign in")) as server, pytest.raises(SourceError, match="not a zip archive"):
        list(find_files(f"{server}/a.zip", OPTIONS))


def test_an_empty_page_is_refused_when_it_is_read() -> None:
    with serving(sending(b"")) as server:
        [file] = find_files(f"{server}/a.md", OPTIONS)
    assert isinstance(file, SourceFile)
    with pytest.raises(DocumentError, match="empty"):
        file.read()


# Redirects


def test_redirects_are_followed_relative_ones_too() -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path.startswith("/step"):
            number = int(request.path.removeprefix("/step"))
            redirecting(f"step{number + 1}" if number < MAX_REDIRECTS else "end.md", 301 + number % 2)(request)
        else:
            sending(b"text")(request)

    with serving(answer) as server:
        with fetch(f"{server}/step1", OPTIONS).content as content:
            assert content.read() == b"text"
        assert "more than 5 times" in refusal(f"{server}/step0")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.com/", "http://a:hunter2@example.com/"])
def test_redirects_to_what_is_no_plain_web_address_are_refused(target: str) -> None:
    with serving(redirecting(target)) as server:
        message = refusal(server)
    assert "redirects to where" in message
    assert "hunter2" not in message


def test_a_loop_of_redirects_ends() -> None:
    with serving(redirecting("/")) as server:
        assert "redirects more than" in refusal(server)


# Addresses


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "127.1", "169.254.169.254"]
)
def test_private_addresses_are_refused_however_written(host: str) -> None:
    message = refusal(f"http://{host}:9/", LoadOptions())
    assert "not public" in message
    assert "allow_private_urls" in message


def resolving(monkeypatch: pytest.MonkeyPatch, answers: list[list[str]]) -> list[str]:
    """Let the system's resolver give these addresses, one list after the other; returns the names asked for."""
    real = socket.getaddrinfo
    asked: list[str] = []

    def getaddrinfo(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host[0].isdigit():
            return real(host, port, *more, **options)
        asked.append(host)
        found = answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_host_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, [["8.8.8.8", "10.0.0.7"]])
    assert "10.0.0.7" in refusal("http://example.com/", LoadOptions())


def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        hosts.append(request.headers["Host"])
        sending(b"text")(request)

    with serving(answer) as server:
        port = server.rpartition(":")[2]
        # A second look-up would find the list empty.
        asked = resolving(monkeypatch, [["127.0.0.1"]])
        fetch(f"http://docs.example:{port}/", OPTIONS).content.close()
    assert (asked, hosts) == (["docs.example"], [f"docs.example:{port}"])


def test_the_next_address_is_tried_when_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sending(b"text")) as server:
        resolving(monkeypatch, [["127.0.0.2", "127.0.0.1"]])
        fetch(f"http://docs.example:{server.rpartition(':')[2]}/", OPTIONS).content.close()


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(sending(b"text")) as server:
        fetch(server, OPTIONS).content.close()


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{}", "64:ff9b::{}", "2002:{}::"]))
def test_an_address_that_wraps_a_private_one_is_not_public(address: Any, form: str) -> None:
    packed = address.packed.hex()
    wrapped = form.format(f"{packed[:4]}:{packed[4:]}")
    if not is_public(str(address)):
        assert not is_public(wrapped)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fc00::1",
        "fe80::1",
        "ff02::1",
        "2001:db8::1",
    ],
)
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


# Faults and limits


@pytest.mark.parametrize(("status", "shown"), [(404, "404 Not Found"), (500, "500"), (204, "204"), (799, "799")])
def test_another_status_than_200_is_an_error(status: int, shown: str) -> None:
    with serving(sending(b"", status)) as server:
        assert f"answered {shown}" in refusal(server)


def test_a_declared_size_over_the_limit_is_refused_before_the_body() -> None:
    started = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        sending(b"", Content_Length="101")(request)
        started.wait(5)

    with serving(answer) as server:
        try:
            assert "100 bytes" in refusal(server, replace(OPTIONS, max_file_bytes=100))
        finally:
            started.set()


def test_a_body_over_the_limit_is_cut_off() -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        sending(b"")(request)
        for _ in range(100_000):
            request.wfile.write(b"x" * 1000)

    with serving(answer) as server:
        assert "max_file_mb" in refusal(server, replace(OPTIONS, max_file_bytes=100_000))


def test_a_compressed_body_counts_unpacked() -> None:
    body = gzip.compress(b" " * 2_000_000)
    with serving(sending(body, Content_Encoding="gzip")) as server:
        assert "limit" in refusal(server, replace(OPTIONS, max_file_bytes=1_999_999))
        with fetch(server, replace(OPTIONS, max_file_bytes=2_000_000)).content as content:
            assert len(content.read()) == 2_000_000


@pytest.mark.parametrize(
    ("body", "encoding"), [(b"not gzip", "gzip"), (gzip.compress(b"text" * 99, mtime=0)[:-9], "gzip"), (b"text", "br")]
)
def test_a_broken_or_unknown_compression_is_an_error(body: bytes, encoding: str) -> None:
    with serving(sending(body, Content_Encoding=encoding)) as server:
        assert server in refusal(server)


def test_a_body_that_ends_early_is_an_error() -> None:
    with serving(sending(b"short", Content_Length="100")) as server:
        assert "cannot be fetched" in refusal(server)


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n"])
def test_a_server_that_does_not_speak_http_is_an_error(reply: bytes) -> None:
    with serving(lambda request: request.wfile.write(reply) and None) as server:
        assert "cannot be fetched" in refusal(server)


def test_a_port_that_nobody_listens_on_is_an_error() -> None:
    with serving(sending(b"")) as server:
        pass
    assert "cannot be fetched" in refusal(server)


def test_a_silent_server_is_given_up() -> None:
    done = threading.Event()
    with serving(lambda request: done.wait(5) and None) as server:
        try:
            assert "sent nothing for 0.1 s" in refusal(server, replace(OPTIONS, timeout=0.1))
        finally:
            done.set()


def test_a_server_that_drips_is_given_up() -> None:
    done = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        sending(b"")(request)
        while not done.wait(0.01):
            request.wfile.write(b"x")

    with serving(answer) as server:
        try:
            start = time.monotonic()
            assert "higher timeout" in refusal(server, replace(OPTIONS, timeout=0.05))
            assert time.monotonic() - start < 3
        finally:
            done.set()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of the host docs.example, signed by itself, with its key."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("openssl makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    files = [
        "-subj",
        "/CN=docs.example",
        "-addext",
        "subjectAltName=DNS:docs.example",
        "-keyout",
        str(path),
        "-out",
        f"{path}.crt",
    ]
    subprocess.run([openssl, *new, *files], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    with serving(sending(b"text"), certificate) as server:
        assert "CERTIFICATE_VERIFY_FAILED" in refusal(server)


def test_the_certificate_is_checked_for_the_name_of_the_host(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    resolving(monkeypatch, [["127.0.0.1"], ["127.0.0.1"]])
    with serving(sending(b"text"), certificate) as server:
        port = server.rpartition(":")[2]
        fetch(f"https://docs.example:{port}/", OPTIONS).content.close()
        assert "other.example" in refusal(f"https://other.example:{port}/")


def test_a_redirect_from_https_to_http_is_refused(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    resolving(monkeypatch, [["127.0.0.1"]])
    with serving(redirecting("http://127.0.0.1:9/"), certificate) as server:
        assert "from https to http" in refusal(f"https://docs.example:{server.rpartition(':')[2]}/")
