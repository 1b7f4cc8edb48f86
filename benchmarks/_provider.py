"""Scripted providers in a separate process, so that their work is not measured with ours.

    async with Provider("speaks") as provider:
        engine = provider.openai(OpenAIRealtime)

`SCRIPTS` has the available models.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from websockets.asyncio.client import connect

from benchmarks._report import cpu_s
from duologue.services.google import GeminiLive
from duologue.services.openai import OpenAIRealtime
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import Act, Asked, CallTool, Model, Speak
from duologue.testing.tls import loopback

OpenAI = TypeVar("OpenAI", bound=OpenAIRealtime)
Gemini = TypeVar("Gemini", bound=GeminiLive)

KEY = "test"
LEAD_S = 0.2
SPEECH_S = 120.0
WORDS = " ".join(["word"] * int(2.5 * SPEECH_S))


def speaks(asked: Asked) -> Sequence[Act]:
    """Speak for two minutes, in pieces of 20 ms in real time, after a lead of 0.2 s; 150 words a minute."""
    return [Speak("Well,", seconds=LEAD_S, chunk_ms=20), Speak(WORDS, seconds=SPEECH_S, pace=1.0, chunk_ms=20)]


def hands_over(asked: Asked) -> Sequence[Act]:
    """Hand over to the agent that the caller named last, in "go to …", or say yes if it is that agent."""
    target = next(found for message in reversed(asked.history) for found in re.findall(r"go to (\w+)", message.text))
    if f"You are {target}." in asked.instructions:
        return [Speak("Yes.", seconds=0.1)]
    return [CallTool("handoff_conversation", {"target": target, "reason": "Was asked for.", "summary": "Nothing yet."})]


SCRIPTS: dict[str, Model] = {"speaks": speaks, "hands_over": hands_over}


class Provider:
    """A process with a scripted OpenAI and a scripted Gemini; an async context manager.

    With `tls` OpenAI's server uses TLS, as the real one does; Gemini's always does. Linux only, because of `cpu_s`.
    """

    def __init__(self, script: str, *, tls: bool = False) -> None:
        self._script, self._tls = script, tls
        self._process: asyncio.subprocess.Process | None = None
        self._urls: dict[str, str] = {}
        self._trust = ssl.create_default_context()
        self._directory = tempfile.TemporaryDirectory()

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks._provider", self._script, *(["tls"] if self._tls else [])]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        assert self._process.stdout is not None
        told = json.loads(await self._process.stdout.readline())
        certificate = told.pop("certificate")
        self._urls = told
        self._trust = ssl.create_default_context(cadata=certificate)
        self._trust_everywhere(certificate)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        del os.environ["SSL_CERT_FILE"]
        self._directory.cleanup()

    def _trust_everywhere(self, certificate: str) -> None:
        """Add a certificate to those of the environment, because OpenAI's SDK does not take others."""
        path, usual = Path(self._directory.name, "provider.pem"), ssl.get_default_verify_paths().cafile
        path.write_text((Path(usual).read_text() if usual else "") + certificate)
        os.environ["SSL_CERT_FILE"] = str(path)

    def cpu_s(self) -> float:
        """Return the CPU time in seconds that the process has used."""
        assert self._process is not None
        return cpu_s(self._process.pid)

    def openai(self, kind: type[OpenAI], **options: Any) -> OpenAI:
        """Return an engine of this type for the scripted OpenAI."""
        return kind(api_key=KEY, base_url=self._urls["openai"], **options)

    def connect(self) -> connect:
        """Return a connection of the `websockets` library to the scripted OpenAI."""
        url = self._urls["openai"].replace("http", "ws", 1) + "/realtime?model=gpt-realtime"
        headers = {"Authorization": f"Bearer {KEY}"}
        trust = self._trust if self._tls else None
        return connect(url, additional_headers=headers, compression=None, ping_interval=None, ssl=trust)

    def gemini(self, kind: type[Gemini], **options: Any) -> Gemini:
        """Return an engine of this type for the scripted Gemini."""
        return kind(api_key=KEY, base_url=self._urls["gemini"], ssl_context=self._trust, **options)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def _behind_tls(port: int) -> asyncio.Server:
    """Take TLS connections, and relay their content to this port."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_relay(reader, inner_writer), _relay(inner_reader, writer))

    return await asyncio.start_server(accept, "127.0.0.1", 0, ssl=loopback().server)


async def _serve(script: str, tls: bool) -> None:
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0) or os.sched_getaffinity(0))
    model = SCRIPTS[script]
    openai = ScriptedOpenAI(model, key=KEY, turn_detection="told")
    gemini = ScriptedGemini(model, key=KEY, turn_detection="told")
    async with openai, gemini:
        url = openai.url
        if tls:
            port = int(url.rpartition(":")[2].partition("/")[0])
            relay = await _behind_tls(port)
            url = f"https://127.0.0.1:{relay.sockets[0].getsockname()[1]}/v1"
        (der,) = loopback().client.get_ca_certs(binary_form=True)
        told = {"openai": url, "gemini": gemini.url, "certificate": ssl.DER_cert_to_PEM_cert(der)}
        print(json.dumps(told), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], "tls" in sys.argv[2:]))
