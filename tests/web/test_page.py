"""The page's files: served as browsers want them, and asking for nothing from anywhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers

from duologue.web import routes
from duologue.web.page import STATIC

pytestmark = pytest.mark.real_clock  # files are read in threads

FILES = sorted(path.name for path in STATIC.iterdir())
IMPORTED = re.compile(r'(?:from|import|URL\() ?"(\./)?([\w.-]+\.js)"')


def text(name: str) -> str:
    return (STATIC / name).read_text()


@dataclass
class Answer:
    """A server's answer to a request."""

    status: int
    headers: Headers
    text: str


async def get(path: str, mount: str = "/voice", *, page: bool = True) -> Answer:
    """Ask an application that has the routes mounted."""
    app = Starlette()
    app.mount(mount, routes(page=page))
    sent: list[Any] = []

    async def receive() -> Any:
        await anyio.sleep_forever()  # the request has no body, and its client stays

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"host", b"localhost")]}
    await app(scope | {"server": ("server", 80), "scheme": "http", "root_path": ""}, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    body = b"".join(message.get("body", b"") for message in sent)
    return Answer(start["status"], Headers(raw=start["headers"]), body.decode())


@pytest.mark.parametrize("name", FILES)
async def test_a_file_is_served_with_its_type_and_the_headers_that_confine_it(name: str) -> None:
    response = await get(f"/voice/{name}")
    assert response.status == 200
    assert response.text == text(name)
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert response.headers["content-type"].split(";")[0] == types[Path(name).suffix]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "http" not in policy


async def test_the_page_is_at_the_root_of_the_mount_and_of_a_server() -> None:
    assert (await get("/voice/")).text == text("index.html")
    assert (await get("/", mount="/")).text == text("index.html")


async def test_the_mount_without_a_slash_leads_to_the_page_whose_addresses_are_relative() -> None:
    response = await get("/voice")
    assert response.status == 307
    assert response.headers["location"] == "http://localhost/voice/"


@pytest.mark.parametrize(
    "path", ["/voice/nothing.js", "/voice/../calls.py", "/voice/static/../../__init__.py", "/voice/.env"]
)
async def test_what_is_not_of_the_page_is_not_found(path: str) -> None:
    assert (await get(path)).status == 404


async def test_a_server_without_the_page_serves_none() -> None:
    assert (await get("/", mount="/", page=False)).status == 404


@pytest.mark.parametrize("name", FILES)
def test_a_file_names_no_other_server(name: str) -> None:
    namespaces = text(name).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(?:https?:|wss?:)?//[\w-]+\.\w", namespaces)
    assert "@import" not in namespaces


def test_the_page_has_no_inline_script_and_no_inline_style() -> None:
    page = text("index.html")
    assert "<style" not in page
    assert not re.search(r"\sstyle=|\son\w+=|javascript:", page)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page))


def test_every_file_that_is_referred_to_exists_and_every_file_is_referred_to() -> None:
    referred = {"index.html"} | set(re.findall(r'(?:src|href)="([\w.-]+)"', text("index.html")))
    for name in FILES:
        referred |= {match[1] for match in IMPORTED.findall(text(name))} if name.endswith(".js") else set()
    assert referred == set(FILES)


def test_every_element_that_a_script_looks_up_exists_once() -> None:
    ids = re.findall(r'\bid="([\w-]+)"', text("index.html"))
    assert len(ids) == len(set(ids))
    wanted = {id for name in FILES if name.endswith(".js") for id in re.findall(r'byId\("([\w-]+)"\)', text(name))}
    assert wanted <= set(ids)


def test_every_label_and_description_points_to_an_element() -> None:
    page = text("index.html")
    ids = set(re.findall(r'\bid="([\w-]+)"', page))
    for attribute in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
        assert set(re.findall(rf'\s{attribute}="([\w-]+)"', page)) <= ids
