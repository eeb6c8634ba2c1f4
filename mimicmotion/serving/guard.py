"""Who may speak to the server, and how much: names, origins, the token, rates.

A page from elsewhere that runs in the player's own browser can reach a server on his machine. It is kept out by its
`Origin`, which a browser always tells of sockets and POSTs, and a foreign name that was made to lead here by `Host`.
"""

import hmac
import ipaddress
import secrets
import socket
from collections import Counter
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from mimicmotion.errors import InputError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
MOST_SOCKETS, MOST_SOCKETS_OF_ADDRESS = 64, 32
# Messages a second and at once: a display of 240 Hz tells of the mouse, and of each frame.
MESSAGE_RATE, MESSAGE_BURST = 400.0, 800.0
FILES_A_MINUTE = 30.0
MOST_FAULTS = 20  # bad messages of a socket before it is closed
MOST_ADDRESSES = 1000  # whose rates are remembered


def is_loopback(host: str) -> bool:
    """Whether only this machine itself can reach a server at `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def new_token() -> str:
    """A secret that nobody guesses, fit for a link."""
    return secrets.token_urlsafe(24)


class Guard:
    """Of a server at `host`; `token` is None where none is needed, `names` are further names of this machine."""

    def __init__(self, host: str, token: str | None, names: frozenset[str] = frozenset()) -> None:
        self.token = token
        self._given = {name.lower() for name in names}
        own = {host.lower(), *self._given}
        self._any_number = not is_loopback(host)
        if self._any_number:
            own |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self._names = LOOPBACK_NAMES | own

    def refusal(self, kind: str, method: str, headers: Mapping[str, str], query: str, public: bool) -> str | None:
        """Why a request is not answered, in a sentence; None where it is.

        Args:
            kind: "http" or "websocket".
            public: whether it asks for what is in the package for everybody, and needs no token.
        """
        host = headers.get("host", "")
        if not self._is_own(host):
            return "this server is not known by that name; open the link that it printed, or name it with --names"
        sends = kind == "websocket" or method not in ("GET", "HEAD")
        if sends and not self._is_own_page(headers.get("origin", "").lower(), host.lower()):
            return "the request came from a page of another server"
        if self.token is None or public:
            return None
        given = headers.get("x-token") or next(iter(parse_qs(query).get("token", [])), "")
        if not hmac.compare_digest(given.encode(errors="replace"), self.token.encode()):
            return "the token is missing or wrong; open the link that the server printed"
        return None

    def _is_own_page(self, origin: str, host: str) -> bool:
        scheme, _, place = origin.partition("://")
        # A proxy may ask for another name than the browser did: then one that was given will do.
        return scheme in ("http", "https") and (place == host or place.partition(":")[0] in self._given)

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            _ = urlsplit(f"//{host}").port
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # A number cannot be made to lead elsewhere, as names can.
        return self._any_number or address.is_loopback


class Rate:
    """So many a second, and so many at once. Whoever asks says when it is, in seconds."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._rate, self._burst = per_second, burst
        self._left, self._at = burst, float("-inf")

    def take(self, now: float) -> bool:
        """Whether there may be one more now."""
        if now > self._at:
            self._left = min(self._burst, self._left + (now - max(self._at, -1e18)) * self._rate)
            self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Files:
    """Files sent, and states fetched, by address."""

    def __init__(self) -> None:
        self._rates: dict[str, Rate] = {}

    def take(self, address: str, now: float) -> bool:
        """Whether `address` may send one more now."""
        if address not in self._rates and len(self._rates) >= MOST_ADDRESSES:
            self._rates.pop(next(iter(self._rates)))
        rate = self._rates.setdefault(address, Rate(FILES_A_MINUTE / 60, FILES_A_MINUTE))
        return rate.take(now)


class Sockets:
    """How many are open, in all and by address."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> None:
        """Counts one more. Raises: InputError where there are too many."""
        if self._open.total() >= MOST_SOCKETS or self._open[address] >= MOST_SOCKETS_OF_ADDRESS:
            raise InputError("too many windows are open here; close some")
        self._open[address] += 1

    def leave(self, address: str) -> None:
        """Counts one less."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]
