"""An error of any type while a native engine reconnects: it tries again, or gives up and says so."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.services.remote.connection import ConnectionSettings
from tests.services.native.calls import PROVIDERS, CountedCall, Provider

ERRORS = [TypeError("the SDK was given a string"), ValueError("the proxy is not one"), RuntimeError("another loop")]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_reconnect_that_fails_in_an_unknown_way_is_tried_again(
    provider: Provider, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with provider.server() as server:
        engine = provider.engine(server)
        async with CountedCall(provider, server, engine, ears=True) as call:
            await call.waits(1)
            dial, failures = engine.dial, [error]

            async def failing(*args: Any) -> Any:
                if failures:
                    raise failures.pop()
                return await dial(*args)

            monkeypatch.setattr(engine, "dial", failing)
            server.connections[-1].close(0)
            await call.waits(2)
            await call.says()
            await call.hears(1)
            assert call.states == ["connecting", "active", "reconnecting", "reconnecting", "active"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_dialect_that_cannot_be_made_any_more_ends_the_call_and_says_why(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> Any:
        raise ConfigurationError("there is no such voice any more")

    async with provider.server() as server:
        engine = provider.engine(server, connection=ConnectionSettings(retry_for_s=5))
        async with CountedCall(provider, server, engine, may_fail=True) as call:
            await call.waits(1)
            monkeypatch.setattr(engine, "dialect", refuse)
            server.connections[-1].close(0)
            await anyio.sleep(10)
            assert call.states[-1] == "lost"
            assert [error.message for error in call.errors if error.fatal] == ["there is no such voice any more"]
