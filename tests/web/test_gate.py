"""Pages of other origins, other names for the server, and tokens in addresses, at every door."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from duologue import Cascade, Pipeline, Tools
from duologue.errors import ConfigurationError
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.websocket import serving
from duologue.transports.client import ClientTransport
from duologue.web import ClientRefused, RealtimeTransport, listen, openai_realtime_app, routes, token_auth
from duologue.web.gate import Admission, take_token

EVIL = "http://evil.example"
SOCKETS = ("/ws", "/ws/protobuf", "/websocket/offer", "/v1/realtime", "/realtime", "/listen/c1")
REQUESTS = (
    ("POST", "/start"),
    ("POST", "/api/offer"),
    ("PATCH", "/api/offer"),
    ("POST", "/sessions/s1/api/offer"),
    ("PATCH", "/sessions/s1/api/offer"),
    ("POST", "/webrtc/offer"),
)


def make_session(transport: ClientTransport) -> Pipeline:
    return Pipeline([transport.input(), Cascade(MockSTT(), MockLLM(), MockTTS()), transport.output()])


def make_call(transport: RealtimeTransport) -> Pipeline:
    engine = Cascade(MockSTT(), MockLLM(), MockTTS())
    return Pipeline(
        [transport.input(), transport.turns(), engine, transport.client_tools(), Tools(), transport.output()]
    )


@asynccontextmanager
async def served(log: Any = None, **options: Any) -> AsyncIterator[str]:
    """Serve every door. Yields the address."""
    voice = routes(make_session, openai_realtime=make_call, **options)
    app = Starlette(routes=[*listen.routes(voice.calls), Mount("/", voice)], lifespan=voice.lifespan)
    uvicorn: Any = {"log_level": "info", "access_log": True, "log_config": None} if log is not None else {}
    async with serving(app, lifespan="on", **uvicorn) as address:
        yield address


async def handshake(address: str, path: str, **headers: str) -> int:
    """The status of the answer to a request for a WebSocket."""
    host = headers.pop("host", address)
    try:
        connection = connect(
            f"ws://{host}{path}",
            host="127.0.0.1",
            port=int(address.split(":")[1]),
            additional_headers=headers,
            compression=None,
        )
        async with connection:
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def request(address: str, method: str, path: str, body: str = "", **headers: str) -> int:
    """The status of the answer to a request."""
    lines = {"Host": address, "Connection": "close", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    async with await anyio.connect_tcp("127.0.0.1", int(address.split(":")[1])) as stream:
        await stream.send(f"{head}\r\n{body}".encode())
        return int((await stream.receive()).split(b" ")[1])


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_page_of_another_origin_opens_no_websocket(path: str) -> None:
    async with served() as address:
        known = 404 if path.startswith("/listen") else 101
        assert await handshake(address, path, origin=EVIL) == 403
        assert await handshake(address, path, origin="null") == 403
        assert await handshake(address, path, origin=f"http://{address}") == known
        assert await handshake(address, path) == known


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_a_page_of_another_origin_sends_no_request(method: str, path: str) -> None:
    async with served() as address:
        for content in ("application/json", "text/plain"):
            assert await request(address, method, path, "{}", Origin=EVIL, Content_Type=content) == 403
        assert await request(address, method, path, "{}", Content_Type="text/plain") == 415
        assert await request(address, method, path, "{}") == 415
        own = f"http://{address}"
        assert await request(address, method, path, "{}", Origin=own, Content_Type="Application/JSON; x=y") != 415


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_name_that_leads_to_the_server_is_not_enough(path: str) -> None:
    async with served() as address:
        port = address.split(":")[1]
        assert await handshake(address, path, host=f"evil.example:{port}", origin=f"{EVIL}:{port}") == 421


@pytest.mark.parametrize(("method", "path"), [*REQUESTS, ("GET", "/")])
async def test_nor_is_it_for_a_request(method: str, path: str) -> None:
    async with served() as address:
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil.example", "a, b"):
            assert await request(address, method, path, "{}", Host=host, Content_Type="application/json") == 421
    async with served(allowed_hosts=["voice.example"]) as address:
        for host in (
            "voice.example",
            "VOICE.example:443",
            "[::1]:80",
            "localhost:80",
            "a.localhost",
            "server",
            "10.0.0.1",
        ):
            assert await request(address, method, path, "{}", Host=host, Content_Type="application/json") != 421
        assert await request(address, method, path, "{}", Host="a.example", Content_Type="application/json") == 421


async def test_origins_that_are_allowed_may_call() -> None:
    async with served(allowed_origins=["https://shop.example"]) as address:
        assert await handshake(address, "/ws", origin="https://shop.example") == 101
        assert await handshake(address, "/ws", origin="https://shop.example:8443") == 403
        assert await handshake(address, "/ws", origin="http://shop.example") == 403
    async with served(allowed_origins=["*"]) as address:
        assert await handshake(address, "/ws", origin=EVIL) == 101


async def test_with_a_key_any_name_will_do_because_the_browser_does_not_send_the_key_by_itself() -> None:
    async with served(auth=token_auth("k")) as address:
        assert await handshake(address, "/ws?token=k", host="voice.example") == 101
        assert await handshake(address, "/ws?token=k", host="voice.example", origin=EVIL) == 403


async def test_the_realtime_endpoint_alone_checks_as_well() -> None:
    app = openai_realtime_app(make_call, allowed_origins=["https://shop.example"])
    async with serving(app) as address:
        assert await handshake(address, "/v1/realtime", origin=EVIL) == 403
        assert await handshake(address, "/v1/realtime", origin="https://shop.example") == 101


@pytest.mark.parametrize(
    "options",
    [
        {"allowed_origins": "https://shop.example"},
        {"allowed_origins": ["shop.example"]},
        {"allowed_origins": ["https://shop.example/"]},
        {"allowed_hosts": "shop.example"},
        {"allowed_hosts": ["shop.example:80"]},
        {"allowed_hosts": ["https://shop.example"]},
        {"allowed_hosts": [""]},
    ],
)
def test_a_malformed_origin_or_host_is_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"shop\.example|''"):
        routes(make_session, **options)


# -- what servers log --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["right-SECRET", "wrong-SECRET"])
async def test_no_token_is_in_an_address_that_a_server_logs(token: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with served(caplog, auth=token_auth("right-SECRET")) as address:
        for path in SOCKETS:
            await handshake(address, f"{path}?token={token}&mode=live")
        for method, path in (*REQUESTS, ("GET", "/"), ("GET", "/nothing"), ("DELETE", "/start")):
            await request(address, method, f"{path}?a=b&token={token}", "{}", Content_Type="application/json")
            await request(address, method, f"{path}?a=b&token={token}", "{}", Origin=EVIL)
    lines = [record.getMessage() for record in caplog.records]
    assert sum(path in line for line in lines for path in SOCKETS) >= len(SOCKETS)
    assert any("a=b" in line for line in lines)
    assert not any("SECRET" in line for line in lines)


async def test_a_refused_websocket_leaves_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with served(auth=token_auth("k")) as address:
        for path in SOCKETS:
            assert await handshake(address, path) == 401
            assert await handshake(address, path, origin=EVIL) == 403
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@given(st.lists(st.tuples(st.sampled_from(["token", "a", "tok en", "TOKEN", "é"]), st.text(max_size=8)), max_size=6))
def test_a_token_is_taken_out_and_everything_else_stays(parameters: list[tuple[str, str]]) -> None:
    parameters = [(name, value.encode("utf-8", "ignore").decode()) for name, value in parameters]
    scope: dict[str, Any] = {"query_string": urlencode(parameters).encode()}
    tokens = [value for name, value in parameters if name == "token"]
    assert take_token(scope) == (tokens[0] if tokens else "")
    left = parse_qsl(scope["query_string"].decode(), keep_blank_values=True)
    assert left == [(name, value) for name, value in parameters if name != "token"]


@given(st.text(max_size=30))
def test_no_host_breaks_the_check(host: str) -> None:
    headers = [(b"host", host.encode("latin-1", "replace"))]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    with contextlib.suppress(ClientRefused):
        Admission(allowed_hosts=["voice.example"]).check(scope)
