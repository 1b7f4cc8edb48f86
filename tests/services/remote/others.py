"""Model servers that others wrote: CopilotKit's aimock, and LiteLLM's proxy in front of it. `make` installs both."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from duologue.agents.tool import ToolSpec
from duologue.errors import ServiceError
from duologue.frames import Usage
from duologue.services.context import Message, Request, ToolRequest
from duologue.services.google import GeminiLLM
from duologue.services.openai import OpenAILLM, OpenAIResponsesLLM, OpenAIResponsesOptions
from duologue.services.remote import AnswerLimits, RemoteLLM
from tests.patience import until

AIMOCK = Path(__file__).parents[2] / "web" / "js" / "node_modules" / "@copilotkit" / "aimock" / "dist" / "aimock-cli.js"
LITELLM = Path(__file__).parents[3] / ".venv" / "litellm" / "bin" / "python"
MOCKED = "Grüezi, 🌞 friend: this is LiteLLM's own mock."
"""The answer of the model "mock", which LiteLLM gives itself."""
FIXTURES = [
    {
        "match": {"userMessage": "weather", "hasToolResult": False},
        "response": {"toolCalls": [{"name": "weather", "arguments": {"city": "Zürich"}}]},
    },
    {"match": {"userMessage": "weather", "hasToolResult": True}, "response": {"content": "It rains in Zürich. 🌧"}},
    {"match": {"userMessage": "story"}, "response": {"content": "Once upon a time. " * 400}, "latency": 50},
    {
        "match": {"userMessage": "limit"},
        "response": {"error": {"message": "Slow down.", "type": "rate_limit_error"}, "status": 429},
    },
    {"match": {}, "response": {"content": "Grüezi, 🌞 friend.", "reasoning": "Let me think."}},
]
START_S = 300.0
"""The longest start of LiteLLM's proxy, in seconds: 20 s of CPU time, and more before its modules are compiled."""
PATIENT = AnswerLimits(first_token_s=120, first_word_s=120, stall_s=120)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def free_port() -> int:
    """A port that nobody uses at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def aimock() -> AsyncIterator[tuple[str, int]]:
    """Start aimock. Yields its address and the id of its process."""
    node = shutil.which("node", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not AIMOCK.is_file() or node is None:
        raise AssertionError("aimock is not installed: `make js` installs it, and Node.js with it")
    with tempfile.TemporaryDirectory() as folder:
        fixtures = _written(folder, "fixtures.json", {"fixtures": FIXTURES})
        config = _written(folder, "config.json", {"llm": {"fixtures": fixtures, "chunkSize": 5}})
        process = await asyncio.create_subprocess_exec(
            node, str(AIMOCK), "--config", config, "--port", "0", stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            yield line.rpartition(" ")[2].strip(), process.pid
        finally:
            _end(process.pid)
            await process.communicate()


@asynccontextmanager
async def litellm(behind: str) -> AsyncIterator[tuple[str, int]]:
    """Start LiteLLM's proxy in front of an OpenAI-compatible server. Yields its address and the id of its process.

    Its model "gpt" is the server's, and "mock" LiteLLM's own.
    """
    if not LITELLM.is_file():
        raise AssertionError("LiteLLM's proxy is not installed: `make litellm` installs it")
    port = free_port()
    served = {"model": "openai/gpt", "api_key": "none", "api_base": f"{behind}/v1"}
    mocked = {"model": "openai/mock", "api_key": "none", "mock_response": MOCKED}
    config = {
        "model_list": [
            {"model_name": "gpt", "litellm_params": served},
            {"model_name": "mock", "litellm_params": mocked},
        ],
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
        "litellm_settings": {"telemetry": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = _written(folder, "config.yaml", config)  # JSON is YAML
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        process = await asyncio.create_subprocess_exec(
            LITELLM, "-m", "litellm.proxy.proxy_cli", "--config", path, "--port", str(port), cwd=folder,
            env={**environment, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await until(lambda: _listens(port) or process.returncode is not None, START_S)
            assert process.returncode is None, "LiteLLM's proxy has ended: its errors are above"
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            if process.returncode is None:
                _end(process.pid)
            await process.wait()


def _written(folder: str, name: str, content: Any) -> str:
    """Write a file of JSON. Returns its path."""
    path = Path(folder, name)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return str(path)


def _tree(process: int) -> list[psutil.Process]:
    """A process and those that it has started: `node` may be a script that starts Node.js."""
    root = psutil.Process(process)
    return [*root.children(recursive=True), root]


def _end(process: int) -> None:
    for one in _tree(process):
        one.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        # Not if it has met itself, which happens to ports that nobody listens to.
        return probe.connect_ex(("127.0.0.1", port)) == 0 and probe.getsockname() != probe.getpeername()


def models(address: str) -> list[RemoteLLM]:
    """The services as clients of a server that needs no key."""
    # aimock keeps no answers: with `store` it would forget the conversation.
    options = OpenAIResponsesOptions(store=False)
    openai: dict[str, Any] = {"base_url": f"{address}/v1", "limits": PATIENT}
    return [
        OpenAILLM("gpt", **openai),
        OpenAIResponsesLLM("gpt", options=options, **openai),
        GeminiLLM("gpt", api_key="none", base_url=address, limits=PATIENT),
    ]


async def check(llm: RemoteLLM, server: int) -> None:
    """Let a model stream, call a tool, be refused, and be cancelled, which the server's process must see."""
    try:
        pieces = await _answer(llm, Message(role="user", text="Hello?"))
        assert _words(pieces) == "Grüezi, 🌞 friend.", pieces
        assert len([piece for piece in pieces if isinstance(piece, str)]) > 2, "it streams"
        assert [type(piece) for piece in pieces if isinstance(piece, Usage)] == [Usage]
        question = Message(role="user", text="What is the weather?")
        [call] = [piece for piece in await _answer(llm, question) if isinstance(piece, ToolRequest)]
        assert (call.name, call.arguments) == ("weather", {"city": "Zürich"})
        asked = Message(role="assistant", calls=(call,))
        result = Message(role="tool", text="rain", call_id=call.call_id, name=call.name)
        assert _words(await _answer(llm, question, asked, result)) == "It rains in Zürich. 🌧"
        with pytest.raises(ServiceError, match=r"429.*Slow down"):
            await _answer(llm, Message(role="user", text="limit"))
        story = llm.generate(_request(Message(role="user", text="Tell me a story.")))
        assert await anext(story)
        assert _open(server), "the answer goes on"
        await story.aclose()  # type: ignore[attr-defined]
        await until(lambda: not _open(server), 60)
    finally:
        await llm.close()


async def answers(llm: RemoteLLM, text: str) -> str:
    """Return a model's answer to the caller's words."""
    return _words(await _answer(llm, Message(role="user", text=text)))


def _request(*messages: Message) -> Request:
    return Request(instructions="Be brief.", messages=messages, tools=(ToolSpec(name="weather", parameters=CITY),))


async def _answer(llm: RemoteLLM, *messages: Message) -> list[Any]:
    return [piece async for piece in llm.generate(_request(*messages))]


def _words(pieces: list[Any]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def _open(process: int) -> bool:
    """Return True if a process has a connection with this one."""
    mine = {
        connection.laddr.port
        for connection in psutil.Process().net_connections("tcp4")
        if connection.status == psutil.CONN_ESTABLISHED
    }
    return any(
        connection.raddr and connection.raddr.port in mine
        for one in _tree(process)
        for connection in one.net_connections("tcp4")
        if connection.status == psutil.CONN_ESTABLISHED
    )
