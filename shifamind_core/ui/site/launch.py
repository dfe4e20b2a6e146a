"""What happens once when the server starts: choose the token, print the address, prepare the demo."""

import logging
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import scipy.linalg  # noqa: F401 - it brings a BLAS of its own, whose threads are limited with NumPy's
import streamlit as st
from starlette.middleware import Middleware
from threadpoolctl import threadpool_limits
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from shifamind_core.errors import ShifamindError
from shifamind_core.jobs import spare
from shifamind_core.logs import write_places_only
from shifamind_core.settings import cache_limit_bytes
from shifamind_core.ui.site import half_open
from shifamind_core.ui.site.compressed import Compressed
from shifamind_core.ui.site.first_run import prepare_first_run
from shifamind_core.ui.site.gate import ACCESS_PATH, TOKEN_PARAMETER, Access, Gate, choose_access, is_loopback
from shifamind_core.ui.site.origin import Names
from shifamind_core.ui.site.ready import get_ready

# Not beside `pages/`, or Streamlit would serve those files before any router has run.
ROUTER = Path(__file__).with_name("router.py")


def access() -> Access:
    """The token of this start, after which no value is logged; ends the process with one line where the address needs one, or a setting cannot be read."""
    write_places_only()
    try:
        cache_limit_bytes()
        return choose_access(st.get_option("server.address"))
    except ShifamindError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None


def gate(access: Access) -> Middleware:
    """The gate of this start, as the server's settings have it; connections that never ask are limited, too."""
    half_open.limit(AutoHTTPProtocol, half_open.HalfOpen())
    names = Names(
        tuple(st.get_option("server.allowedHosts") or ()),
        tuple(st.get_option("server.corsAllowedOrigins") or ()),
    )
    return Middleware(Gate, access=access, names=names, base=_base(), announce=announce)


def compressed() -> Middleware:
    """Behind the gate: scripts and styles leave gzipped."""
    return Middleware(Compressed, base=_base())


def announce(token: str) -> None:
    """Print the one address to open."""
    print(f"\n  ShifaMind diagnostics\n\n  {address_to_open(token)}\n", flush=True)


def access_page() -> str:
    """Where to sign out or to draw a new token, as a path."""
    return _base() + ACCESS_PATH


def _base() -> str:
    """`server.baseUrlPath` with a leading slash and none behind; empty at the root."""
    base = st.get_option("server.baseUrlPath").strip("/")
    return f"/{base}" if base else ""


def address_to_open(token: str) -> str:
    """The one address to open, with the token."""
    scheme = "https" if st.get_option("server.sslCertFile") else "http"
    host = st.get_option("server.address") or "localhost"
    if not is_loopback(host) and host in ("0.0.0.0", "::"):
        host = "localhost"
    host = f"[{host}]" if ":" in host else host
    port = st.get_option("server.port")
    return f"{scheme}://{host}:{port}{_base()}/?{TOKEN_PARAMETER}={quote(token, safe='')}"


def lifespan_with(access: Access) -> Any:
    """Start-up hook for `st.App`: prints the address once, and lets the demo compute itself meanwhile."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        # Uvicorn's own lines name an address without the token: one address is enough.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        # Sessions share the cores: with a thread for each core in each of them, their matrix products wait for each other.
        threadpool_limits(1, user_api="blas")
        announce(access.token)
        for work in (get_ready, prepare_first_run):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        spare.allow()
        yield
        spare.end()

    return lifespan
