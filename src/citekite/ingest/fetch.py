"""Fetch a page or an archive over http(s), by default from public addresses only, within limits on time and size.

Every connection resolves its host itself, checks all the addresses, and connects to the very address that was
checked: what a second look-up would say does not matter (DNS rebinding). Each redirect goes the same way. Proxies of
the environment are not used, because a proxy would resolve the host again.
"""

from __future__ import annotations

import ipaddress
import posixpath
import socket
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from citekite.errors import SourceError
from citekite.ingest.base import MEGABYTE, LoadOptions, megabytes
from citekite.ingest.formats import format_of

if TYPE_CHECKING:
    import ssl

    import httpcore2
    import httpx2

MAX_REDIRECTS = 5
# `timeout` bounds each silence; this many times of it bounds the whole, also against a server that drips bytes.
_TOTAL_TIMEOUTS = 10
_PIECE = 1 << 16
_IN_MEMORY = 4 * MEGABYTE
_REDIRECTS = (301, 302, 303, 307, 308)
# https://www.rfc-editor.org/rfc/rfc6052: IPv4 addresses as an IPv6-only network sees them
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a URL gave: the address after redirects, the name its path ends with, the body (at its start, seekable)."""

    url: str
    name: str
    content: IO[bytes]
    content_type: str | None


def fetch(url: str, options: LoadOptions) -> Fetched:
    """Fetch a URL into a temporary file, which the caller closes; raises `SourceError`.

    The body may have `max_archive_bytes` if it is a zip archive, else `max_file_bytes`, counted after decompression.
    """
    import httpcore2

    deadline = _Deadline(url, options.timeout)
    # Structurally a network backend: to inherit from httpcore's class, it would have to be imported with this module.
    backend = cast("httpcore2.NetworkBackend", _CheckedBackend(deadline, options.allow_private_urls))
    current = parse_url(url)
    for _ in range(MAX_REDIRECTS + 1):
        try:
            with httpcore2.ConnectionPool(network_backend=backend) as pool:
                answer = _exchange(pool, current, options)
        except httpcore2.TimeoutException:
            deadline.bound(None)  # the last wait before the deadline is shorter, and says nothing of a silence
            raise SourceError(f"{current} sent nothing for {options.timeout:g} s") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, zlib.error) as error:
            raise SourceError(f"{current} cannot be fetched: {error}") from error
        if isinstance(answer, Fetched):
            return answer
        current = _redirected(current, answer)
    raise SourceError(f"{url} redirects more than {MAX_REDIRECTS} times; give the address of the page itself")


def parse_url(url: str) -> httpx2.URL:
    """A URL in its parts; raises `SourceError` unless it is http(s), with a host and without a password in it."""
    import httpx2

    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise SourceError(f"not a URL that can be fetched: {error}") from None
    if parsed.userinfo:
        raise SourceError(
            f"the URL of host {parsed.host!r} has a user name or password in it; citekite keeps sources as they are "
            "given, so download the file yourself and sync that"
        )
    if parsed.scheme not in ("http", "https"):
        raise SourceError(f"{url!r} is not fetched: only http and https URLs are")
    if not parsed.host:
        raise SourceError(f"{url!r} names no host")
    return parsed.copy_with(fragment=None)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also where it wraps an IPv4 address.

    >>> [is_public(a) for a in ("8.8.8.8", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::7f00:1")]
    [True, False, False, False, False]
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.sixtofour and not is_public(str(ip.sixtofour)):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _exchange(pool: httpcore2.ConnectionPool, url: httpx2.URL, options: LoadOptions) -> Fetched | str:
    """One request: what came, or the address to which it redirects."""
    import httpcore2
    import httpx2

    target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    headers = [("User-Agent", "citekite"), ("Accept", "*/*"), ("Accept-Encoding", "gzip")]
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), options.timeout)
    with pool.stream("GET", target, headers=headers, extensions={"timeout": timeout}) as response:
        got = httpx2.Headers(response.headers)
        if response.status in _REDIRECTS and "location" in got:
            return got["location"]
        if response.status != 200:
            raise SourceError(f"{url} answered {_status(response.status)}")
        content_type = got.get("content-type")
        name = unquote(posixpath.basename(url.path.rstrip("/"))) or url.host
        limit = options.max_archive_bytes if format_of(name, content_type) == "zip" else options.max_file_bytes
        if got.get("content-length", "").isdecimal() and int(got["content-length"]) > limit:
            raise SourceError(_too_large(url, limit))
        pieces = _decoded(response.iter_stream(), got.get("content-encoding", "identity"), url)
        return Fetched(str(url), name, _spool(pieces, limit, url), content_type)


def _redirected(url: httpx2.URL, location: str) -> httpx2.URL:
    import httpx2

    try:
        target = parse_url(str(url.join(location)))
    except (SourceError, httpx2.InvalidURL) as error:
        raise SourceError(f"{url} redirects to where citekite does not follow: {error}") from None
    if url.scheme == "https" and target.scheme == "http":
        raise SourceError(f"{url} redirects from https to http, to {target}; give that address if you trust it")
    return target


def _decoded(pieces: Iterable[bytes], encoding: str, url: httpx2.URL) -> Iterator[bytes]:
    """The body as it was before compression, in pieces of bounded size however far they inflate."""
    if encoding.lower() == "identity":
        yield from pieces
        return
    if encoding.lower() not in ("gzip", "x-gzip", "deflate"):
        raise SourceError(f"{url} sent content encoding {encoding!r}, which was not asked for")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header, gzip or zlib
    for piece in pieces:
        while piece:
            yield inflater.decompress(piece, _PIECE)
            piece = inflater.unconsumed_tail
    yield inflater.flush()
    if not inflater.eof:
        raise SourceError(f"{url} ended before its compressed body was complete")


def _spool(pieces: Iterable[bytes], limit: int, url: httpx2.URL) -> IO[bytes]:
    content = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    try:
        for piece in pieces:
            content.write(piece)
            if content.tell() > limit:
                raise SourceError(_too_large(url, limit))
    except BaseException:
        content.close()
        raise
    content.seek(0)
    return cast("IO[bytes]", content)


def _too_large(url: httpx2.URL, limit: int) -> str:
    return f"{url} has more than the limit of {megabytes(limit)}; raise max_file_mb or max_archive_mb to take it in"


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


class _Deadline:
    """The end of one fetch, and what is left until then."""

    def __init__(self, url: str, timeout: float) -> None:
        self._seconds = timeout * _TOTAL_TIMEOUTS
        self._end = time.monotonic() + self._seconds
        self._url = url

    def bound(self, timeout: float | None) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise SourceError(f"{self._url} was not fetched within {self._seconds:g} s; a higher timeout gives it more")
        return left if timeout is None else min(timeout, left)


class _CheckedBackend:
    """Connects to addresses that it has checked itself."""

    def __init__(self, deadline: _Deadline, allow_private: bool) -> None:
        self._deadline = deadline
        self._allow_private = allow_private

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **more: Any) -> _BoundedStream:
        import httpcore2

        addresses = self._addresses(host, port)
        for address in addresses:
            try:
                stream = httpcore2.SyncBackend().connect_tcp(address, port, self._deadline.bound(timeout), **more)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if address == addresses[-1]:
                    raise
            else:
                return _BoundedStream(stream, self._deadline)
        raise SourceError(f"host {host!r} has no address")

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SourceError(f"host {host!r} cannot be found: {error}") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        private = [address for address in addresses if not is_public(address)]
        if private and not self._allow_private:
            raise SourceError(
                f"host {host!r} has the address {private[0]}, which is not public; set allow_private_urls to fetch it"
            )
        return addresses


class _BoundedStream:
    """A connection on which no wait outlasts the deadline."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.bound(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.bound(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _BoundedStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.bound(timeout))
        return _BoundedStream(stream, self._deadline)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
