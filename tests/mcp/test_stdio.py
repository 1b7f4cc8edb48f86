"""A server of the official package as a process: used, killed, and restarted in the middle of a call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from duologue.mcp import MCPTools
from tests.mcp.calls import Model, answers, call_of, connected, errors, results, said, shop


@pytest.fixture(scope="module")
def server() -> Iterator[MCPTools]:
    """A server that also prints what is not a message, before and during its work."""
    with connected(shop("--rubbish", settings={"never": {"timeout_s": 0.4}})) as source:
        yield source


async def test_the_tools_of_a_server_are_used_in_a_call(server: MCPTools) -> None:
    model = Model(("get_order", {"order": 17}), ("price", {"item": "pen"}))
    async with call_of(model, server) as call:
        assert "order 17 is on its way" in await answers(call, "Where is my order?")
        assert "12.5" in await answers(call, "What is a pen?")
    assert results(call) == ["order 17 is on its way", {"euros": 12.5}]
    assert {"get_order", "price", "fails"} <= set(model.offered[0])
    assert errors(call) == []
