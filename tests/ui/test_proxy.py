"""The dashboard behind Debian's nginx with TLS, as docs/nginx.conf has it, in a real browser."""

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser

from tests.support.browser import PATIENCE_MS, SETTLED
from tests.support.server import ROOT, free_port
from tests.support.serving import serving

pytestmark = pytest.mark.browser
NGINX = next(
    filter(
        None,
        map(
            shutil.which,
            (
                "nginx",
                "/usr/sbin/nginx",
                ROOT / ".venv/nginx/usr/sbin/nginx",  # by `make test`
            ),
        ),
    ),
    None,
)
OPENSSL = shutil.which("openssl")
NAME = "dashboard.localhost"  # browsers know that it is this machine


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[str, Path, subprocess.Popen[str]]]:
    """The address to open, through the documented configuration with a certificate made here; the proxy's log, and the server."""
    if NGINX is None or OPENSSL is None:
        pytest.skip("no nginx or openssl on this machine: apt-get install nginx openssl")
    folder = tmp_path / "nginx"
    folder.mkdir()
    made = [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={NAME}"]
    subprocess.run(
        [*made, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True
    )
    outside, inside, log = free_port(), free_port(), folder / "error.log"
    text = (ROOT / "docs" / "nginx.conf").read_text()
    for documented, here in {
        "listen 443 ssl": f"listen 127.0.0.1:{outside} ssl",
        "server_name dashboard.example.org": f"server_name {NAME}",
        "/etc/ssl/dashboard/fullchain.pem": str(folder / "cert.pem"),
        "/etc/ssl/dashboard/privkey.pem": str(folder / "key.pem"),
        "/var/log/nginx/shifamind.log": str(log),
        "127.0.0.1:8501": f"127.0.0.1:{inside}",
    }.items():
        assert text.count(documented) == 1, documented
        text = text.replace(documented, here)
    (folder / "site.conf").write_text(text)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/pid;\nevents {{}}\nhttp {{\n{temporary}access_log off;\ninclude {folder}/site.conf;\n}}\n"
    )
    address = f"https://{NAME}:{outside}"
    with serving(tmp_path, "--address", address, port=inside) as (server, link):
        proxy = subprocess.Popen(
            [NGINX, "-p", folder, "-e", log, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL
        )
        try:
            yield link, log, server
        finally:
            proxy.terminate()
            proxy.communicate(timeout=20)


def test_the_printed_link_opens_every_part_of_the_dashboard_through_nginx(proxied, chromium: Browser) -> None:
    link, log, server = proxied
    place = urlsplit(link)
    assert (place.scheme, place.hostname) == ("https", NAME)
    context = chromium.new_context(ignore_https_errors=True)
    page, sockets = context.new_page(), []
    page.set_default_timeout(PATIENCE_MS)
    page.on("websocket", lambda socket: sockets.append(socket))
    page.goto(link)
    page.wait_for_selector(SETTLED)
    assert "token" not in page.url
    assert [cookie["secure"] for cookie in context.cookies() if "shifamind" in cookie["name"]] == [True]
    assert [urlsplit(socket.url).scheme for socket in sockets] == ["wss"]

    page.get_by_text("Bring a run from another machine").click()
    upload = {"name": "scores.npy", "mimeType": "application/octet-stream", "buffer": scores()}
    page.locator("input[type=file]").first.set_input_files([upload])
    page.get_by_text("is kept in the cache").wait_for(state="attached")
    page.get_by_role("link", name="Report", exact=True).click()
    page.get_by_role("heading", level=1, name="Report").wait_for()
    page.wait_for_selector(SETTLED)
    assert len(sockets) == 1 and not sockets[0].is_closed(), "one websocket carries the page and its change"

    server.terminate()
    server.wait(timeout=20)
    answer = page.goto(link)
    assert answer is not None and answer.status == 502
    assert "token=" not in log.read_text(), "though it is in the address that failed"
    context.close()


def scores() -> bytes:
    """Logits of 8,000 notes and 50 codes: more than the 1 MB that nginx lets through by itself."""
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).normal(size=(8000, 50)).astype(np.float32))
    return file.getvalue()
