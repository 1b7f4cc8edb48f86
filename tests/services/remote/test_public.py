"""The names of `duologue.services.remote`, for authors of services."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from duologue.errors import MissingExtra
from duologue.services import remote

NAMES = [
    "AnswerLimits",
    "AnswerPace",
    "ConnectionDialect",
    "ConnectionLost",
    "ConnectionSettings",
    "ContextAudio",
    "ContextDone",
    "ContextTooLong",
    "Event",
    "GoingAway",
    "Opened",
    "Recognized",
    "Refused",
    "RemoteLLM",
    "RemoteSTT",
    "RemoteTTS",
    "STTDialect",
    "Setup",
    "TTSDialect",
    "TurnBegan",
    "TurnEnded",
    "TurnHoldingSTT",
    "TurnWentOn",
    "Wire",
    "WireMessage",
    "client_ssl_context",
    "fatal",
    "open_websocket",
]


PARROT = partial(remote.open_websocket, extra="parrot")


def test_the_public_names_are_these_and_each_can_be_imported() -> None:
    assert sorted(remote.__all__) == NAMES
    for name in NAMES:
        assert getattr(remote, name) is not None


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(remote.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {name: module for module, names in remote._HOMES.items() for name in names.split()}


@pytest.mark.parametrize(("dial", "extra"), [(remote.open_websocket, "remote"), (PARROT, "parrot")])
async def test_without_the_websockets_package_the_extra_of_the_service_is_named(
    dial: Callable[[str], Awaitable[Any]], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)
    with pytest.raises(MissingExtra, match=rf"websockets is not available .*'duologue\[{extra}\]'") as caught:
        await dial("ws://127.0.0.1:9")
    assert caught.value.extra == extra


def test_a_service_without_a_connection_does_not_load_the_websockets_package() -> None:
    code = "import sys, duologue.services.remote, duologue.services.stt; sys.exit('websockets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
