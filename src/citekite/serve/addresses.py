"""Which address is this machine alone, which host names are the server's, and when it may listen."""

from __future__ import annotations

import ipaddress
import re
import shlex

from citekite.errors import AccessDenied, SettingsError, WrongHost
from citekite.serve.keys import CREATE, KeyStore
from citekite.settings import Settings

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/?#@\s\[\]]+)(?::\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; `0.0.0.0` and `::` are all addresses, and no loopback.

    >>> [host for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "::", "kites.example") if is_loopback(host)]
    ['localhost', '127.0.0.2', '::1']
    """
    if host.lower() == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def check_address(settings: Settings, keys: KeyStore) -> None:
    """Raise `SettingsError` where the server would be open to others than its own machine."""
    create = f"{CREATE} --data-dir {shlex.quote(str(keys.path.parent))}"
    if not is_loopback(settings.host) and not keys.active():
        raise SettingsError(
            f"host {settings.host!r} can be reached from other machines, and without a key it would be open to all "
            f"of them: create a key first ({create}), or listen on 127.0.0.1"
        )
    if "*" in settings.cors_origins and not keys.exist():
        raise SettingsError(
            f"cors_origins '*' lets every web page that you open read the documents, as there is no API key: "
            f"name the origins, or create a key first ({create})"
        )


def is_foreign(client: str) -> bool:
    """Whether a request comes from another machine, or may do so, by the address of its sender.

    A proxy on this machine says for whom it asks (`X-Forwarded-For`), and uvicorn has put that in the place of the
    proxy's own address. A Unix socket has none.
    """
    return bool(client) and not is_loopback(client)


class Hosts:
    """The names by which the server may be called.

    A web page of an attacker can let its own name lead to 127.0.0.1 (DNS rebinding); the browser then takes what the
    server says for that page's own. But it sends the page's name as `Host`.
    """

    def __init__(self, settings: Settings) -> None:
        self._names = {"localhost", *(name.lower().rstrip(".") for name in (settings.host, *settings.allowed_hosts))}
        self._origins = frozenset(settings.cors_origins)
        self._loopback = is_loopback(settings.host)

    def check(self, host: str) -> None:
        """Raise `WrongHost` for a `Host` header that does not name this server."""
        match = _HOST.fullmatch(host)
        name = match[1].lower().rstrip(".") if match else ""
        address = _address(name)
        # An address cannot be rebound: a page has it as its own only when it came from there.
        if address is None:
            known = name in self._names
        else:
            known = name.strip("[]") in self._names or address.is_loopback or not self._loopback
        if not name or not known:
            raise WrongHost(f"this server does not go by the host {host!r}: allow it by allowed_hosts if it should")

    def check_origin(self, origin: str, host: str) -> None:
        """Raise `AccessDenied` for a request that a browser sends for a page of another origin.

        Host and port are compared, not the scheme: behind a proxy the server does not see which one the page has.
        """
        own = origin.partition("://")[2].lower() == host.lower()
        if not own and origin not in self._origins and "*" not in self._origins:
            raise AccessDenied(
                f"a page of {origin!r} may not use this server: allow it by cors_origins if it should; "
                "a proxy has to pass the Host header on"
            )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
