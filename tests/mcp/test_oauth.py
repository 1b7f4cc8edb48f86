"""A server that wants OAuth: a person signs in once, calls renew the tokens, and say when somebody has to sign in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from duologue.cli.app import app
from duologue.errors import BadInput, ConfigurationError
from duologue.mcp import MCPTools
from tests.mcp.calls import PATIENT, Model, answers, call_of, errors, free_port, listening


@contextlib.contextmanager
def vault(token_s: int = 3600) -> Iterator[str]:
    """The address of the test's server, whose tokens are good for some seconds."""
    port = free_port()
    with listening("tests.mcp.oauth_server", port, str(port), str(token_s)):
        yield f"http://127.0.0.1:{port}"


async def sign_in(here: str, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command, with a browser that goes where it is sent."""

    def browse(address: str) -> bool:
        threading.Thread(target=httpx.get, args=(address,), kwargs={"follow_redirects": True}).start()
        return True

    monkeypatch.setattr(webbrowser, "open", browse)
    command = ["mcp-login", f"{here}/mcp", "--tokens", str(tokens)]
    return await asyncio.to_thread(CliRunner().invoke, app, command)


def counts(here: str) -> dict[str, int]:
    found: dict[str, int] = httpx.get(f"{here}/counts").json()
    return found


def tell(here: str, what: str) -> None:
    httpx.post(f"{here}/{what}").raise_for_status()


async def asked(here: str, tokens: Path) -> tuple[str, list[str]]:
    """The answer to a question for which the model calls the server's tool, and the errors of the call."""
    model = Model(("balance", {"account": "4711"}))
    async with (
        MCPTools("vault", url=f"{here}/mcp", tokens=tokens, **PATIENT) as server,
        call_of(model, server) as call,
    ):
        return await answers(call, "What do I have?"), errors(call)


async def test_a_person_signs_in_once_and_every_call_has_the_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "private" / "vault.json"
    with vault() as here:
        done = await sign_in(here, tokens, monkeypatch)
        assert done.exit_code == 0, done.output
        assert "the server has 1 tools" in done.output
        assert stat.S_IMODE(tokens.stat().st_mode) == 0o600
        for _ in range(2):
            assert await asked(here, tokens) == ("It says: 4711 has 12 euros", [])
        assert counts(here) == {"signed in": 1, "renewed": 0}
        assert (await sign_in(here, tokens, monkeypatch)).exit_code == 0  # once more: another client, another address
        assert await asked(here, tokens) == ("It says: 4711 has 12 euros", [])


async def test_a_token_that_has_expired_is_renewed_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tmp_path / "vault.json"
    with vault(token_s=5) as here:  # less than the margin: it is renewed at the first request
        assert (await sign_in(here, tokens, monkeypatch)).exit_code == 0
        before = json.loads(tokens.read_text())
        assert await asked(here, tokens) == ("It says: 4711 has 12 euros", [])
        after = json.loads(tokens.read_text())
        assert counts(here)["renewed"] >= 1
    assert before["tokens"]["access_token"] != after["tokens"]["access_token"]
    assert before["client"] == after["client"]


async def test_a_token_that_is_void_in_a_call_is_renewed_at_the_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "vault.json"
    question = ("balance", {"account": "4711"})
    with vault() as here:
        assert (await sign_in(here, tokens, monkeypatch)).exit_code == 0
        async with (
            MCPTools("vault", url=f"{here}/mcp", tokens=tokens, **PATIENT) as server,
            call_of(Model(question, question, question), server) as call,
        ):
            assert await answers(call, "What do I have?") == "It says: 4711 has 12 euros"
            tell(here, "forget")
            await answers(call, "And now?")
            assert await answers(call, "And now?") == "It says: 4711 has 12 euros"
        assert counts(here) == {"signed in": 1, "renewed": 1}


async def test_a_call_says_that_somebody_has_to_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tmp_path / "vault.json"
    with vault() as here:
        for _ in range(2):
            _, told = await asked(here, tokens)
            assert len(told) == 1
            assert f"duologue mcp-login {here}/mcp --tokens {tokens}" in told[0]
            if tokens.exists():
                break
            assert (await sign_in(here, tokens, monkeypatch)).exit_code == 0
            tell(here, "forget?all=1")  # neither the token nor its renewal is good for anything


async def test_a_person_who_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tmp_path / "vault.json"
    with vault() as here:
        tell(here, "refuse")
        done = await sign_in(here, tokens, monkeypatch)
    assert done.exit_code == 2
    assert "the person said no" in done.output
    assert "tokens" not in json.loads(tokens.read_text())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"tokens": 3}', '{"tokens": {"access_token": 1}}', "\x00" * 300_000])
async def test_a_file_that_has_no_tokens_is_named(text: str, tmp_path: Path) -> None:
    from duologue.mcp.oauth import TokenFile

    (tmp_path / "vault.json").write_text(text)
    with pytest.raises(BadInput, match=r"vault\.json"):
        await TokenFile(tmp_path / "vault.json").get_tokens()


def test_options_that_have_no_effect_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="either tokens or an auth"):
        MCPTools("vault", url="https://vault.example/mcp", tokens="t.json", auth=object())
    with pytest.raises(ConfigurationError, match="has a command, so headers, tokens and auth have no effect"):
        MCPTools("vault", command="node", tokens="t.json")
    done = CliRunner().invoke(app, ["mcp-login", "vault", "--tokens", os.devnull])
    assert done.exit_code == 2
