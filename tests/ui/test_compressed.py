"""Scripts and styles leave compressed, and are the same when they are unpacked."""

import asyncio
import gzip
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from streamlit.file_util import get_static_dir
from streamlit.web.server.starlette.starlette_static_routes import create_streamlit_static_handler

from shifamind_core.ui.site.compressed import Compressed

FILES = Path(get_static_dir()) / "static"


class Asked:
    """Streamlit's own file handler behind the middleware, and how often it was asked."""

    def __init__(self) -> None:
        self.times = 0
        files = Starlette(routes=[Mount("/", create_streamlit_static_handler(get_static_dir(), None))])

        async def counting(scope, receive, send) -> None:
            self.times += 1
            await files(scope, receive, send)

        self.app = Compressed(counting)

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body as they leave."""
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
        sent: list = []

        async def receive() -> dict:
            await asyncio.Event().wait()  # nothing more comes
            return {}

        async def send(message) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, body


@pytest.fixture
def site() -> Asked:
    return Asked()


def largest(kind: str) -> Path:
    return max(FILES.rglob(f"*.{kind}"), key=lambda path: path.stat().st_size)


def test_the_largest_script_is_a_third_and_is_compressed_once(site: Asked) -> None:
    path = largest("js")
    first, second = (site.get(f"/static/js/{path.name}", accept_encoding="gzip, br") for _ in range(2))
    assert site.times == 1 and first == second
    status, headers, body = first
    assert status == 200 and headers["content-encoding"] == "gzip" and headers["vary"] == "Accept-Encoding"
    assert "immutable" in headers["cache-control"] and int(headers["content-length"]) == len(body)
    assert gzip.decompress(body) == path.read_bytes() and len(body) < path.stat().st_size / 3


@pytest.mark.parametrize("headers", [{}, {"accept_encoding": "gzip", "range": "bytes=0-99"}])
def test_who_takes_no_gzip_or_wants_a_part_gets_the_file_itself(site: Asked, headers: dict[str, str]) -> None:
    path = largest("js")
    _, sent, body = site.get(f"/static/js/{path.name}", **headers)
    assert "content-encoding" not in sent and path.read_bytes().startswith(body)


def test_fonts_unknown_names_and_unchanged_files_pass_and_nothing_of_them_is_kept(site: Asked) -> None:
    font = largest("woff2")
    assert site.get(f"/static/media/{font.name}", accept_encoding="gzip")[2] == font.read_bytes()
    for name in ("a", "b"):  # Streamlit answers with its first page, whatever the name
        assert "content-encoding" not in site.get(f"/static/js/{name}.js", accept_encoding="gzip")[1]
    path = f"/static/js/{largest('js').name}"
    etag = site.get(path)[1]["etag"]
    assert site.get(path, accept_encoding="gzip", if_none_match=f"W/{etag}")[0] == 304
    assert site.app._kept == {}


def test_what_a_browser_that_left_did_not_get_is_not_kept_for_others(site):
    """Streamlit's handler sends no more to it: an empty script would stand for the file until the server ends."""
    path = next(f"/static/js/{one.name}" for one in sorted((FILES / "js").glob("serialization*.js")))
    whole = FILES / path.removeprefix("/static/")
    complete, app = True, site.app._app

    async def leaving(scope, receive, send) -> None:
        async def some(message) -> None:
            if complete or message["type"] == "http.response.start":
                await send(message)

        await app(scope, receive, some)

    site.app._app = leaving
    complete = False
    site.get(path, accept_encoding="gzip")
    complete = True
    for times in (2, 2):
        assert gzip.decompress(site.get(path, accept_encoding="gzip")[2]) == whole.read_bytes()
        assert site.times == times
