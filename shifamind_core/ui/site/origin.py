"""Which names the dashboard answers to, and which pages may send to it.

Browsers share cookies among the ports of a host, and `SameSite` knows no ports either: a page of another program
on this machine's loopback would be let in with the person's cookie. So before the cookie is looked at, the name
asked for has to be one of ours, and what a page sends has to come from a page of ours, its port included.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
SAFE_METHODS = ("GET", "HEAD")


@dataclass(frozen=True)
class Names:
    """What the server's settings allow.

    Attributes
    ----------
    hosts : tuple of str
        `server.allowedHosts`: names, `*.name` for all below it, `*` for any. Empty means any, as in Streamlit.
    origins : tuple of str
        `server.corsAllowedOrigins`: pages elsewhere that a person allowed, e.g. a tunnel that rewrites the name.
    """

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def answers_to(self, host: str) -> bool:
        """Whether a `Host` header names this dashboard. The port is not looked at: tunnels change it.

        >>> Names(("localhost", "*.example.org")).answers_to("localhost:8501")
        True
        >>> Names(("localhost", "*.example.org")).answers_to("localhost.evil.example:8501")
        False
        """
        found = _split(f"//{host}")
        if found is None or not found.hostname or found.netloc != host or "@" in host:
            return False
        name = found.hostname.rstrip(".")
        patterns = [pattern.strip().lower().strip("[]").rstrip(".") for pattern in self.hosts]
        return not patterns or any(
            pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))
            for pattern in patterns
        )

    def lets_send(self, origin: str, host: str, secure: bool) -> bool:
        """Whether a page of `origin` may send to `host`: scheme, name and port are the dashboard's own.

        Parameters
        ----------
        secure : bool
            The request came over TLS; then a page without TLS is another page.

        Examples
        --------
        >>> Names().lets_send("http://127.0.0.1:8501", "127.0.0.1:8501", secure=False)
        True
        >>> Names().lets_send("http://127.0.0.1:9000", "127.0.0.1:8501", secure=False)
        False
        """
        page = _split(origin)
        if page is None or page.scheme not in ("http", "https"):
            return False
        if _place(page) in (_place(allowed) for allowed in _splits(self.origins)):
            return True
        if secure and page.scheme != "https":
            return False
        own = _split(f"{page.scheme}://{host}")
        return own is not None and _place(page) == _place(own)


def comes_from_elsewhere(fetch: dict[str, str]) -> bool:
    """Whether the browser says (`Sec-Fetch-*`) that another page loads this as its own part, without an `Origin`.

    Following a link from elsewhere is no part of that page.

    >>> comes_from_elsewhere({"site": "same-site", "mode": "no-cors", "dest": "image"})
    True
    >>> comes_from_elsewhere({"site": "cross-site", "mode": "navigate", "dest": "document"})
    False
    """
    followed = fetch.get("mode") == "navigate" and fetch.get("dest") == "document"
    return fetch.get("site", "none") not in ("none", "same-origin") and not followed


def _place(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or DEFAULT_PORTS.get(url.scheme)


def _splits(urls: Iterable[str]) -> list[SplitResult]:
    return [found for url in urls if (found := _split(url)) is not None and found.scheme]


def _split(url: str) -> SplitResult | None:
    """The parts of an address; `None` where its brackets or its port are none."""
    try:
        found = urlsplit(url)
        _ = found.port
    except ValueError:
        return None
    return found
