"""Chromium for tests: a page with a WAV file as its microphone, and a record of its sound and of its messages."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from duologue.audio.wav import WavWriter

from .microphone import write_microphone
from .server import PATIENCE_S

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
)
TAP = Path(__file__).with_name("tap.js")
LOUD = 330.0
"""RMS from which on something is heard: -40 dBFS."""
PIECE_S = 0.01

expect.set_options(timeout=PATIENCE_S * 1000)


@dataclass(frozen=True)
class Sound:
    """A recording made in the page: mono, with the page's time (performance.now(), in ms) at each sample."""

    rate: int
    samples: npt.NDArray[np.int16]
    times_ms: npt.NDArray[np.float64]
    """At the end of each of the blocks that the samples came in, all of one length."""

    @property
    def block(self) -> int:
        """Samples of a block."""
        return len(self.samples) // max(1, len(self.times_ms))

    def between(self, start_ms: float, end_ms: float) -> npt.NDArray[np.int16]:
        """The samples of this time, in whole blocks."""
        kept = (self.times_ms > start_ms) & (self.times_ms <= end_ms)
        return self.samples.reshape(-1, max(1, self.block))[kept].reshape(-1)

    def keep(self, path: Path) -> None:
        """Write it to a WAV file, for people to listen to."""
        if len(self.samples):
            with WavWriter(path, self.rate) as wav:
                wav.write(self.samples.tobytes())

    def loud(self) -> list[tuple[float, float]]:
        """When something was heard, from and to in ms, with pauses of less than 0.3 s included."""
        piece = int(PIECE_S * self.rate)
        whole = self.samples[: len(self.samples) // piece * piece].astype(np.float64).reshape(-1, piece)
        levels = np.sqrt(np.mean(whole**2, axis=1))
        spans: list[tuple[float, float]] = []
        for index in map(int, np.flatnonzero(levels >= LOUD)):
            start, end = self.time_ms(index * piece), self.time_ms((index + 1) * piece)
            if spans and start - spans[-1][1] < 300:
                spans[-1] = spans[-1][0], end
            else:
                spans.append((start, end))
        return spans

    def time_ms(self, sample: int) -> float:
        """When this sample was played or heard."""
        block = min(sample // self.block, len(self.times_ms) - 1)
        return float(self.times_ms[block]) - ((block + 1) * self.block - sample) / self.rate * 1000


@dataclass(frozen=True)
class Message:
    """A JSON message of the page's: when (ms), whether it was received, and its content."""

    at: float
    received: bool
    content: dict[str, Any]

    @property
    def type(self) -> str:
        """Its type; that of a server message is the one inside of it."""
        data = self.content.get("data")
        if self.content.get("type") == "server-message" and isinstance(data, dict):
            return str(data.get("type", ""))
        return str(self.content.get("type", ""))


class Tab:
    """A page, and what was recorded in it."""

    def __init__(self, page: Page, context: BrowserContext) -> None:
        self.page = page
        self.context = context
        self.requests: list[str] = []
        """URLs of everything that was asked for."""
        self.errors: list[str] = []
        """Exceptions that nobody caught, and what was written to the console as an error."""
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)

    async def now(self) -> float:
        """The page's time, in ms."""
        return float(await self.page.evaluate("performance.now()"))

    async def heard(self) -> Sound:
        """The agent's audio as the caller has heard it: received over WebRTC, or played by the page's own graph."""
        return max([*await self.sounds("track"), *await self.sounds("played")], key=_energy, default=_NOTHING)

    async def said(self) -> Sound:
        """The microphone's audio."""
        return max(await self.sounds("microphone"), key=_energy, default=_NOTHING)

    async def sounds(self, kind: str) -> list[Sound]:
        """All recordings of a kind: "track" (received over WebRTC), "played" (by the page itself), "microphone"."""
        found = await self.page.evaluate("kind => __tap.take(kind)", kind)
        return [
            Sound(round(sound["rate"]), np.frombuffer(base64.b64decode(sound["pcm"]), "<i2"), np.array(sound["times"]))
            for sound in found
        ]

    async def messages(self, *types: str) -> list[Message]:
        """The JSON messages up to now, without audio; of these types only, if any are named."""
        kept = []
        for entry in await self.page.evaluate("__tap.messages"):
            try:
                content = json.loads(entry["data"])
            except ValueError:
                continue  # a ping of the small-webrtc client is plain text
            message = Message(entry["at"], entry["way"] == "in", content)
            if not types or message.type in types:
                kept.append(message)
        return kept


_NOTHING = Sound(48_000, np.zeros(0, np.int16), np.zeros(0))


def _energy(sound: Sound) -> float:
    return float(np.sum(np.square(sound.samples, dtype=np.float64)))


@asynccontextmanager
async def opened(
    chromium: str,
    url: str,
    *,
    microphone: Path | None = None,
    blocked: bool = False,
    arguments: Sequence[str] = (),
    **context_options: Any,
) -> AsyncIterator[Tab]:
    """Open `url` in a Chromium of its own with a fresh profile, and record from its first moment.

    `microphone` is played once, from when the page opens the microphone; without one a quiet room is heard. `blocked`
    refuses the microphone to the page. Further options are those of a Playwright context: viewport, color_scheme, …
    """
    given = [*ARGUMENTS, *arguments]
    given.append("--deny-permission-prompts" if blocked else "--use-fake-ui-for-media-stream")
    with TemporaryDirectory() as directory:
        if microphone is None:  # Chromium's own beeps
            microphone = write_microphone(Path(directory) / "quiet.wav", {})
        given.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
        async with _launched(chromium, given, context_options) as tab:
            await tab.page.goto(url)
            yield tab


@asynccontextmanager
async def _launched(chromium: str, arguments: Sequence[str], context_options: dict[str, Any]) -> AsyncIterator[Tab]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        try:
            # The recorder's worklet comes from a blob, which a strict policy of the page forbids.
            context = await browser.new_context(bypass_csp=True, **context_options)
            await context.add_init_script(path=TAP)
            page = await context.new_page()
            page.set_default_timeout(PATIENCE_S * 1000)
            yield Tab(page, context)
        finally:
            await browser.close()
