"""Requests to a citekite server: its problems as our errors, its streams as events, patience where it is busy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from citekite import __version__
from citekite.cancel import check
from citekite.errors import CitekiteError, KeyRequired, RateLimited, ServerBusy, ServerError, SettingsError
from citekite.parse import parse_problem
from citekite.retry import Transient, call_with_retries, retry_after
from citekite.settings import without_password
from citekite.telemetry import propagated

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

# A server that is there accepts a connection at once; one that is not should not be waited for.
CONNECT_SECONDS = 5.0
# What comes of reading values that have another form than a server of this version gives them.
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, RecursionError)


class ServerClient:
    """A connection to `<server>/api/v1`; threads may share it. Every method raises the error that the server names.

    `silence` is how many seconds the server may say nothing. A server that is busy, or a key that has used up its
    share, is asked again for up to `retry_seconds`. `direct` passes by the proxies of the environment.
    """

    def __init__(
        self, server: str, key: str = "", *, silence: float = 180.0, retry_seconds: float = 120.0, direct: bool = False
    ) -> None:
        import httpx2

        address = server.rstrip("/")
        self.server = without_password(address)  # as messages name it
        self._has_key = bool(key)
        self._retry_seconds = retry_seconds
        if not key.isascii():
            raise SettingsError("the key of the server (--key, CITEKITE_KEY) has characters that no key has")
        try:
            self._http = httpx2.Client(
                base_url=f"{address}/api/v1/",
                headers={
                    "User-Agent": f"citekite/{__version__}",
                    **({"Authorization": f"Bearer {key}"} if key else {}),
                },
                timeout=httpx2.Timeout(silence, connect=min(silence, CONNECT_SECONDS), pool=None),
                trust_env=not direct,
            )
        except httpx2.InvalidURL as error:
            raise SettingsError(f"the address of the server cannot be {self.server!r}: {error}") from None

    def get(self, path: str, read: Callable[[Any], T], **parameters: object) -> T:
        """What `read` makes of the JSON that a path gives; parameters that are None are left out."""
        return self._send("GET", path, read, params=_given(parameters))

    def post(self, path: str, read: Callable[[Any], T], body: Mapping[str, Any] | None = None) -> T:
        """What `read` makes of the reply to a JSON body; values that are None are left out."""
        return self._send("POST", path, read, **_json(body or {}))

    def delete(self, path: str, read: Callable[[Any], T], **parameters: object) -> T:
        """What `read` makes of the reply to a deletion."""
        return self._send("DELETE", path, read, params=_given(parameters))

    def upload(self, path: str, read: Callable[[Any], T], files: Sequence[tuple[str, bytes]], **fields: object) -> T:
        """What `read` makes of the reply to files, given by name and content, with form fields beside them."""
        parts = [("files", (name, content)) for name, content in files]
        return self._send("POST", path, read, files=parts, data=_given(fields))

    def events(
        self, method: str, path: str, read: Callable[[str, Any], T], body: Mapping[str, Any] | None = None
    ) -> Iterator[T]:
        """What `read` makes of the name and values of each server-sent event of a path.

        Closing the iterator closes the connection; so does `citekite.cancel`, at the next event.
        """
        import httpx2

        response = self._open(method, path, **({} if body is None else _json(body)))
        try:
            for event in httpx2.EventSource(response, max_event_size=None):
                check()
                yield read(event.event, json.loads(event.data))
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise self._broken(error) from None
        except _UNREADABLE as error:
            raise self._unreadable(error) from None
        finally:
            response.close()

    def download(self, path: str) -> Iterator[bytes]:
        """The bytes of the reply to a request, as they come; closing the iterator closes the connection.

        A server that is busy is not asked again.
        """
        import httpx2

        response = self._open("POST", path, retry_seconds=0)
        try:
            for piece in response.iter_bytes():
                check()
                yield piece
        except httpx2.RequestError as error:
            raise self._broken(error) from None
        finally:
            response.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used again."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, method: str, path: str, read: Callable[[Any], T], **request: Any) -> T:
        import httpx2

        response = self._open(method, path, **request)
        try:
            body = json.loads(response.read() or b"null")
            return read(body)
        except httpx2.RequestError as error:
            raise self._broken(error) from None
        except _UNREADABLE as error:
            raise self._unreadable(error) from None
        finally:
            response.close()

    def _open(self, method: str, path: str, *, retry_seconds: float | None = None, **request: Any) -> httpx2.Response:
        """The response to a request, with its body still to come; asked again while the server is busy."""

        def attempt() -> httpx2.Response:
            import httpx2

            try:
                asked = self._http.build_request(method, path.lstrip("/"), **request)
                asked.headers.update(propagated())
                response = self._http.send(asked, stream=True)
            except httpx2.ConnectError as error:
                raise ServerError(
                    f"no citekite server answers at {self.server} ({error}): is it running, and is the address right?"
                ) from None
            except httpx2.RequestError as error:
                raise self._broken(error) from None
            if response.is_success:
                return response
            try:
                response.read()
            except httpx2.RequestError as error:
                raise self._broken(error) from None
            finally:
                response.close()
            problem = self._problem(response)
            if isinstance(problem, RateLimited | ServerBusy):
                advice = "Try again later, or have the server's limits raised."
                raise Transient(problem, advice, retry_after=problem.retry_after)
            raise problem

        return call_with_retries(attempt, self._retry_seconds if retry_seconds is None else retry_seconds)

    def _problem(self, response: httpx2.Response) -> CitekiteError:
        """The error that a reply stands for, also one that some other server sent."""
        delay = retry_after(response.headers) or 1.0
        try:
            values = response.json()
        except ValueError:
            values = None
        if isinstance(values, dict) and "title" in values:
            problem = parse_problem(values, delay)
            if isinstance(problem, KeyRequired) and not self._has_key:
                return KeyRequired(f"{self.server} needs an API key: give it by --key, or set CITEKITE_KEY")
            if type(problem) is ServerError and response.status_code == HTTPStatus.NOT_FOUND:
                return ServerError(
                    f"{response.url} is not there: give the address of a citekite server, without a path"
                )
            return problem
        status = f"{response.status_code} {_reason(response.status_code)}".strip()
        if response.is_redirect:
            where = response.headers.get("location", "nowhere")
            return ServerError(f"{self.server} redirects to {where}: give that address")
        return ServerError(f"{self.server} answered {status}, and not as a citekite server does: is the address right?")

    def _unreadable(self, error: Exception) -> ServerError:
        return ServerError(
            f"{self.server} answered in a form that citekite {__version__} cannot read ({error!r}): "
            "is it a citekite server of this version?"
        )

    def _broken(self, error: Exception) -> ServerError:
        reason = str(error) or type(error).__name__
        return ServerError(f"the connection to {self.server} broke ({reason}): is the server still running?")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _json(body: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a request with that body; what a terminal gave and is no Unicode becomes `?`."""
    text = json.dumps(_given(body), ensure_ascii=False)
    return {"content": text.encode("utf-8", "replace"), "headers": {"Content-Type": "application/json"}}


def _reason(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
