"""`duologue serve` for callers over the web: what it serves, how it ends, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from duologue.cli.app import app
from duologue.cli.serve import KEY_VARIABLE, load
from duologue.cli.web_demo import WebDemo
from duologue.errors import ConfigurationError, IllegalState
from duologue.trace import open_store, verify
from duologue.transports.memory import MemoryTransport
from duologue.web.rtvi import ALL_CONTROLS

from ..browser.server import running
from ..telemetry.receiver import Receiver

EVIL = "http://evil.example"
FACTORY = "tests.browser.served:make_session"


def status(url: str, **headers: str) -> int:
    """The status of the answer to a request."""
    try:
        with urlopen(Request(url, headers=headers), timeout=60) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


def test_a_signal_ends_the_calls_with_their_reason_and_the_command_well(tmp_path: Path) -> None:
    with running(tmp_path, FACTORY) as server:
        assert status(server.url + "/") == 200
        with connect(server.url.replace("http", "ws") + "/ws") as client:
            while json.loads(client.recv(60))["type"] != "session_started":
                pass
            server.process.send_signal(signal.SIGTERM)
            events = [json.loads(message) for message in client if isinstance(message, str)]
            assert events[-1] == {"type": "session_ended", "reason": "server is shutting down"}
        assert server.process.wait(60) == 0
        [ended] = server.diary("ended")
        assert ended["reason"] == "server is shutting down"


def test_the_key_is_asked_for_everywhere_and_is_written_nowhere(tmp_path: Path) -> None:
    options = "--no-page", "--openai-realtime", "duologue.cli.agents:agents"
    with running(tmp_path, FACTORY, *options, token="a-secret") as server:
        address = server.url.replace("http", "ws")
        assert status(server.url + "/") == 404
        for path in ("/ws", "/ws/protobuf", "/websocket/offer", "/v1/realtime"):
            with pytest.raises(Exception, match="401"), connect(address + path):
                pass
        with connect(f"{address}/ws?token=a-secret") as client:
            client.recv(60)
        with connect(f"{address}/v1/realtime", additional_headers={"Authorization": "Bearer a-secret"}) as client:
            assert json.loads(client.recv(60))["type"] == "session.created"
    output = (tmp_path / "output.txt").read_text()
    assert "a-secret" not in output
    assert f"{server.url}/v1" in output


def test_a_server_exports_its_spans_before_it_ends_and_serves_its_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.address)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "the-shop")
        with running(tmp_path, FACTORY, "--no-page", "--otel", "--metrics", token="a-secret") as server:
            assert status(f"{server.url}/metrics") == 401
            with connect(f"{server.url.replace('http', 'ws')}/ws?token=a-secret") as client:
                client.recv(60)
                request = Request(f"{server.url}/metrics", headers={"Authorization": "Bearer a-secret"})
                with urlopen(request, timeout=60) as answer:
                    assert b"duologue_calls_active 1.0" in answer.read()
        assert receiver.one("call").attributes["duologue.end_reason"] == "client disconnected"
        assert any(b"the-shop" in body for body in receiver.bodies)
        assert "duologue.calls" in receiver.metrics


def test_a_server_keeps_traces_of_its_calls(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path / 'calls.db'}"
    with running(tmp_path, FACTORY, "--no-page", "--trace", where) as server:
        for _ in range(2):
            with connect(server.url.replace("http", "ws") + "/ws") as client:
                client.recv(60)
    store = open_store(where)
    assert len(store.names()) == 2
    for name in store.names():
        assert (verify(store, name).ok, verify(store, name).ended) == (True, True)


def test_a_store_that_is_not_known_is_refused_at_once() -> None:
    done = CliRunner().invoke(app, ["serve", FACTORY, "--trace", "mongodb://ann:secret@host"])
    assert done.exit_code == 2
    assert "no store has addresses of 'mongodb'" in done.output
    assert "secret" not in done.output


def test_a_dead_collector_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as dead:  # it takes connections, and never answers
        dead.bind(("127.0.0.1", 0))
        dead.listen()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{dead.getsockname()[1]}")
        with (
            running(tmp_path, FACTORY, "--no-page", "--otel") as server,
            connect(server.url.replace("http", "ws") + "/ws") as client,
        ):
            client.recv(60)
    assert "were not exported within 1 s" in printed(tmp_path)
    assert "threads at work" not in printed(tmp_path)


def printed(directory: Path) -> str:
    return (directory / "output.txt").read_text()


def test_without_a_key_the_address_has_a_random_one(tmp_path: Path) -> None:
    tokens = []
    for directory in (tmp_path / "one", tmp_path / "two"):
        directory.mkdir()
        options = ("--openai-realtime", "duologue.cli.agents:agents")
        with running(directory, FACTORY, *options, closed=True) as server:
            [token] = re.findall(r"/\?token=([\w-]{20,})$", printed(directory), re.MULTILINE)
            address = server.url.replace("http", "ws")
            for path in ("/ws", "/ws/protobuf", "/websocket/offer", "/v1/realtime"):
                with pytest.raises(Exception, match="401"), connect(address + path):
                    pass
                with connect(f"{address}{path}?token={token}"):
                    pass
            assert status(f"{server.url}/?token={token}") == 200
            assert f"api_key {token}" in printed(directory)
            tokens.append(token)
    assert len(set(tokens)) == 2


def test_a_served_name_is_loopback_or_named(tmp_path: Path) -> None:
    with running(
        tmp_path, FACTORY, "--allowed-host", "voice.example", "--allowed-origin", "https://a.example"
    ) as server:
        assert status(server.url + "/", Host="evil.example") == 421
        assert status(server.url + "/", Host="voice.example") == 200
        assert status(server.url + "/", Host="localhost") == 200
        with (
            pytest.raises(Exception, match="403"),
            connect(server.url.replace("http", "ws") + "/ws", origin=Origin(EVIL)),
        ):
            pass
        with connect(server.url.replace("http", "ws") + "/ws", origin=Origin("https://a.example")):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_host_beyond_loopback_needs_a_key_or_to_be_open(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    result = CliRunner().invoke(app, ["serve", "duologue.cli.agents:agents", "--host", host, "--port", "0"])
    assert result.exit_code == 2
    assert KEY_VARIABLE in result.output
    assert "--open" in result.output


@pytest.mark.parametrize("key", ["", "  "])
def test_a_key_that_is_set_and_empty_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    result = CliRunner().invoke(app, ["serve", "duologue.cli.agents:agents", "--port", "0", "--open"])
    assert result.exit_code == 2
    assert f"{KEY_VARIABLE} is empty" in result.output


def test_callers_get_the_controls_that_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = json.dumps({"label": "rtvi-ai", "type": "client-ready", "id": "1", "data": {"version": "2.2.0"}})

    def controls(directory: Path, *options: str) -> list[str]:
        directory.mkdir()
        with (
            running(directory, "duologue.cli.agents:agents", *options) as server,
            connect(server.url.replace("http", "ws") + "/ws") as client,
        ):
            client.send(ready)
            while True:
                message = json.loads(client.recv(10))
                if message["type"] == "server-message" and message["data"]["type"] == "duologue.state":
                    return list(message["data"]["controls"])

    assert controls(tmp_path / "none") == []
    assert controls(tmp_path / "some", "--controls", "usage, transfer") == ["transfer", "usage"]
    assert controls(tmp_path / "all", "--controls", "all") == sorted(ALL_CONTROLS)
    result = CliRunner().invoke(app, ["serve", "duologue.cli.agents:agents", "--controls", "fly", "--port", "0"])
    assert result.exit_code == 2
    assert "fly" in result.output


def test_a_server_that_stops_tells_each_call_and_waits_for_no_half_request(tmp_path: Path) -> None:
    with running(tmp_path, FACTORY, "--openai-realtime", "duologue.cli.agents:agents") as server:
        address, port = server.url.replace("http", "ws"), int(server.url.rpartition(":")[2])
        half = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        for number, connection in enumerate(half):
            header = b"POST /start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(header + (b"Content-Length: 1000\r\n\r\n{" if number % 2 else b"X"))
        with connect(address + "/ws") as call, connect(address + "/v1/realtime") as realtime:
            call.recv(10)
            realtime.recv(10)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            for client in (call, realtime):
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        client.recv(10)
                assert (client.close_code, client.close_reason) == (1001, "server is shutting down")
            assert server.process.wait(10) == 0
            assert time.monotonic() - began < 3
        for connection in half:
            connection.close()
    assert "Traceback" not in printed(tmp_path)
    assert "ERROR" not in printed(tmp_path)


def test_agents_with_rules_are_served_as_they_are(tmp_path: Path) -> None:
    with (
        running(tmp_path, "duologue.cli.agents:agents") as server,
        connect(server.url.replace("http", "ws") + "/ws?format=binary") as client,
    ):
        said = b""
        while len(said) < 24_000:
            message = client.recv(60)
            if isinstance(message, bytes):
                said += message
            elif json.loads(message)["type"] == "transcription":
                assert json.loads(message)["text"].startswith("Hello, this is the corner shop.")
        assert any(said)


MODULE = """
nothing = 7
"""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "nothing to serve"),
        (["served_web"], "module:object"),
        (["no_such_module:x"], "no_such_module"),
        (["served_web:missing"], "'missing'"),
        (["served_web:nothing"], "int"),
        (["served_web:nothing", "--openai-realtime", "no_such_module:x"], "no_such_module"),
    ],
)
def test_what_cannot_be_served_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    (tmp_path / "served_web.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delitem(sys.modules, "served_web", raising=False)
    monkeypatch.setattr(sys, "path", ["", *filter(None, sys.path)])
    result = CliRunner().invoke(app, ["serve", *arguments])
    assert result.exit_code == 2
    assert problem in result.output


def test_a_port_that_is_taken_and_a_host_that_is_not_ours_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", "duologue.cli.agents:agents", "--port", str(port)])
        assert result.exit_code == 2
        assert f"cannot listen on 127.0.0.1:{port}" in result.output
    result = CliRunner().invoke(app, ["serve", "duologue.cli.agents:agents", "--host", "no.such.host.invalid"])
    assert result.exit_code == 2
    assert "no.such.host.invalid" in result.output


async def test_the_demo_is_open_as_long_as_the_server_is() -> None:
    stays: list[object] = []
    make_session = load("duologue.cli.web_demo:make_session", stays)  # type: ignore[arg-type]
    [demo] = stays
    assert isinstance(demo, WebDemo)
    with pytest.raises(IllegalState, match="not open"):
        await make_session(MemoryTransport())
    with pytest.raises(ConfigurationError, match="no 'nobody'"):
        load("duologue.cli.web_demo:nobody")
