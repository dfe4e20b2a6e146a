"""What happens once when the server starts: choose the token, print the address, prepare the demo."""

import logging
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import streamlit as st

from shifamind_core.errors import ShifamindError
from shifamind_core.ui.site.first_run import prepare_first_run
from shifamind_core.ui.site.gate import TOKEN_PARAMETER, Access, choose_access, is_loopback

# Not beside `pages/`, or Streamlit would serve those files before any router has run.
ROUTER = Path(__file__).with_name("router.py")


def access() -> Access:
    """The token of this start; ends the process with one line where the address needs one and none was given."""
    try:
        return choose_access(st.get_option("server.address"))
    except ShifamindError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None


def address_to_open(token: str) -> str:
    """The one address to open, with the token."""
    scheme = "https" if st.get_option("server.sslCertFile") else "http"
    host = st.get_option("server.address") or "localhost"
    if not is_loopback(host) and host in ("0.0.0.0", "::"):
        host = "localhost"
    host = f"[{host}]" if ":" in host else host
    base = st.get_option("server.baseUrlPath").strip("/")
    path = f"/{base}/" if base else "/"
    return f"{scheme}://{host}:{st.get_option('server.port')}{path}?{TOKEN_PARAMETER}={quote(token, safe='')}"


def lifespan_with(access: Access) -> Any:
    """Start-up hook for `st.App`: prints the address once, and lets the demo compute itself meanwhile."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        # Uvicorn's own lines name an address without the token: one address is enough.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        print(f"\n  ShifaMind diagnostics\n\n  {address_to_open(access.token)}\n", flush=True)
        threading.Thread(target=prepare_first_run, name="first-run", daemon=True).start()
        yield

    return lifespan
