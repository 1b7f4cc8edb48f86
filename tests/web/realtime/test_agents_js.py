"""OpenAI's own JavaScript client, with its stock WebSocket transport, against the endpoint."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from duologue.services.context import Request, ToolRequest
from tests.web.realtime.calls import Mocks, serving, speech

HERE = Path(__file__).parents[1] / "js"


def replies(request: Request) -> str | list[str | ToolRequest]:
    last = request.messages[-1]
    if last.role == "tool":
        return f"I hear this: {last.text}"
    if "story" in last.text:
        return "Once upon a time there was a king. " * 8
    if any(message.role == "tool" for message in request.messages):
        return "All right."
    return [ToolRequest(call_id="w1", name="get_weather", arguments={"city": "Oslo"})]


@pytest.mark.real_clock
async def test_the_javascript_client_speaks_hears_calls_and_interrupts(tmp_path: Path) -> None:
    node = shutil.which("node", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not (HERE / "node_modules").is_dir() or node is None:
        pytest.fail("the JavaScript client is not installed: `make js` installs it, and Node.js with it")
    said = tmp_path / "speech.pcm"
    said.write_bytes(speech(1.0))
    mocks = Mocks(replies, ["what is the weather"], tts={"seconds_per_sentence": 1.5, "speed": 2.0})
    async with serving(mocks) as url:
        address = url.replace("http", "ws") + "/realtime"
        process = await asyncio.create_subprocess_exec(
            node, "call.mjs", address, str(said), cwd=HERE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert out, "the JavaScript client has broken off: its own words are above"
        met: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
        assert met["errors"] == []
        assert process.returncode == 0

        assert met["session"].startswith("sess_")
        assert met["cities"] == ["Oslo"]
        assert met["answer"] == "I hear this: It rains in Oslo."
        assert met["audioBytes"] > 24_000
        assert met["interruptions"] >= 1
        assert met["cancelled"] == {"type": "cancelled", "reason": "turn_detected"}
        assert met["last"] == "All right."
        assert ["user", "what is the weather"] in met["history"]
        assert ["assistant", "I hear this: It rains in Oslo."] in met["history"]

        # The model has forgotten the words that the client has cut by its truncation.
        assert "conversation.item.truncated" in met["events"]
        story = next(m.text for m in mocks.llms[0].requests[-1].messages if m.text.startswith("Once"))
        assert len(story) < 60
