"""The local devices, with a sound card made of Python: it calls back from a thread of its own, as PortAudio does."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from duologue.errors import ConfigurationError, MissingExtra
from duologue.frames import ErrorRaised, UserAudio
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Outcome, Session
from duologue.testing import BareCall
from duologue.transports import LocalAudioTransport, PlayoutSettings
from tests.transports.calls import RATE, Agent, numbers, ramp

pytestmark = pytest.mark.virtual_clock

LATENCY_S = 0.03
BLOCK = 160


class Stream:
    """A stream of the card's. `cycle` is what the card does every 10 ms."""

    def __init__(self, card: Card, callback: Callable[..., None], samplerate: int, device: Any, **options: Any) -> None:
        if device == "busy":
            raise card.module.PortAudioError("device is busy")
        self.card, self.callback, self.rate, self.options = card, callback, samplerate, options
        self.running = self.closed = False

    @property
    def time(self) -> float:
        return self.card.now()

    def start(self) -> None:
        self.running = True

    def abort(self) -> None:
        self.running = False

    def close(self) -> None:
        self.closed = True

    def call(self, *args: Any) -> None:
        thread = threading.Thread(target=self.callback, args=args)
        thread.start()
        thread.join()


class Card:
    """A sound card, and the module that finds it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module: Any = ModuleType("sounddevice")
        module.PortAudioError = type("PortAudioError", (Exception,), {})
        module.RawInputStream = self.make_input
        module.RawOutputStream = self.make_output
        module.check_input_settings = self.check
        module.check_output_settings = self.check
        module.query_devices = lambda: [
            {"name": "Mic", "max_input_channels": 1, "max_output_channels": 0},
            {"name": "Speaker", "max_input_channels": 0, "max_output_channels": 2},
        ]
        self.module = module
        monkeypatch.setitem(sys.modules, "sounddevice", self.module)
        self.microphone: Stream | None = None
        self.loudspeaker: Stream | None = None
        self.spoken = b""  # what the microphone gives
        self.heard: list[tuple[float, bytes]] = []  # when a block is heard, and the block
        self.jammed = False

    def now(self) -> float:
        return asyncio.get_running_loop().time() + 1000.0  # a clock of its own

    def check(self, device: Any, channels: int, dtype: str, samplerate: int) -> None:
        assert (channels, dtype) == (1, "int16")
        if device == "nonsense":
            raise ValueError("No device matching 'nonsense'")
        if samplerate > 48_000:
            raise self.module.PortAudioError("Invalid sample rate")

    def make_input(self, **options: Any) -> Stream:
        self.microphone = Stream(self, **options)
        return self.microphone

    def make_output(self, **options: Any) -> Stream:
        self.loudspeaker = Stream(self, **options)
        return self.loudspeaker

    async def run(self) -> None:
        while True:
            await asyncio.sleep(BLOCK / RATE)
            if self.jammed:
                continue
            if self.microphone is not None and self.microphone.running and self.spoken:
                block, self.spoken = self.spoken[: 2 * BLOCK], self.spoken[2 * BLOCK :]
                self.microphone.call(memoryview(block), BLOCK, None, None)
            if self.loudspeaker is not None and self.loudspeaker.running:
                out = bytearray(b"\xff" * (2 * BLOCK))
                at = self.now() + LATENCY_S
                self.loudspeaker.call(memoryview(out), BLOCK, SimpleNamespace(outputBufferDacTime=at), None)
                self.heard.append((at - 1000.0, bytes(out)))

    @property
    def audible(self) -> bytes:
        return b"".join(pcm for _, pcm in self.heard)


class Ear(Processor):
    def __init__(self) -> None:
        self.frames: list[UserAudio] = []

    @handles(UserAudio)
    async def take(self, frame: UserAudio) -> None:
        self.frames.append(frame)


class LocalCall(BareCall):
    """A call at a machine with this sound card. It is cancelled at its end."""

    def __init__(self, card: Card, **options: Any) -> None:
        self.card = card
        self.ear = Ear()
        self.transport = LocalAudioTransport(**options)
        super().__init__(Session(Pipeline([self.transport.input(), self.ear, self.transport.output()])), ends=False)
        self.agent = Agent(self.session)

    async def start(self) -> None:
        self.launch()
        self._playing = asyncio.create_task(self.card.run())
        await asyncio.sleep(0.1)

    async def run(self) -> Outcome:
        outcome = await super().run()
        self._playing.cancel()
        assert self.card.microphone is not None
        assert self.card.loudspeaker is not None
        assert self.card.microphone.closed
        assert self.card.loudspeaker.closed
        return outcome


def at_the_machine(monkeypatch: pytest.MonkeyPatch, **options: Any) -> LocalCall:
    return LocalCall(Card(monkeypatch), **options)


async def test_what_is_spoken_goes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_the_machine(monkeypatch) as call:
        call.card.spoken = ramp(0, 16_000)
        await asyncio.sleep(1.2)
        assert numbers(b"".join(f.audio for f in call.ear.frames)) == list(range(16_000))
        gaps = {round(b.at - a.at - a.duration_s, 6) for a, b in pairwise(call.ear.frames)}
        assert gaps == {0.0}
        assert call.card.microphone is not None
        assert call.card.microphone.options == {"blocksize": 320, "channels": 1, "dtype": "int16"}


async def test_what_the_agent_says_comes_out_whole_between_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_the_machine(monkeypatch) as call:
        await call.agent.say(ramp(0, 16_000), "hello")
        await asyncio.sleep(1.5)
        assert numbers(call.card.audible) == list(range(16_000))
        first = next(i for i, (_, pcm) in enumerate(call.card.heard) if any(pcm))
        assert numbers(b"".join(pcm for _, pcm in call.card.heard[first : first + 100])) == list(range(16_000))
        assert [i.status for i in call.session.conversation] == ["complete"]


async def test_what_was_heard_is_told_by_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_the_machine(monkeypatch) as call:
        await call.agent.say(ramp(0, 16_000), "hello")
        await asyncio.sleep(0.505)
        began = next(at for at, pcm in call.card.heard if any(pcm))
        now = call.session.now()
        assert call.transport.output().position() == pytest.approx((now - began) * RATE, abs=2)
        assert began == pytest.approx(0.1 + LATENCY_S, abs=0.011)
        await asyncio.sleep(0.6)
        assert not call.session.floor.agent_speaking


async def test_an_interruption_empties_the_ring_and_counts_what_the_card_has_got(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with at_the_machine(monkeypatch) as call:
        for n in range(3):
            await call.agent.say(ramp(20_000 * n, 16_000), "one two three four five six")
            await asyncio.sleep(0.505)
            heard = call.session.interrupt()
            before = len(call.card.heard)
            await asyncio.sleep(0.5)
            spoken = [k for k in numbers(call.card.audible) if 20_000 * n <= k < 20_000 * n + 16_000]
            got = round(heard.heard_s * RATE)
            # A fade follows what was heard, of which the numbers mean nothing; no block is heard after it.
            assert spoken[:got] == list(range(20_000 * n, 20_000 * n + got))
            assert not any(any(pcm) for _, pcm in call.card.heard[before + 2 :])


async def test_what_the_card_is_taking_during_an_interruption_does_not_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with at_the_machine(monkeypatch) as call:
        call.card.jammed = True
        await call.agent.say(ramp(0, 16_000), "one two three")
        await asyncio.sleep(0.01)
        output, loudspeaker = call.transport.output(), call.card.loudspeaker
        assert loudspeaker is not None

        class Block(bytearray):
            def __setitem__(self, place: Any, pcm: Any) -> None:
                if pcm:  # the callback has taken a chunk, and has not put back what it does not need
                    output.clear()
                super().__setitem__(place, pcm)

        loudspeaker.call(Block(320), 160, SimpleNamespace(outputBufferDacTime=call.card.now()), None)
        out = bytearray(320)
        loudspeaker.call(out, 160, SimpleNamespace(outputBufferDacTime=call.card.now()), None)
        assert not any(out)
        await asyncio.sleep(0.05)
        assert output.position() == 0


async def test_a_hold_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_the_machine(monkeypatch, settings=PlayoutSettings(fade_ms=0.0)) as call:
        await call.agent.say(ramp(0, 16_000), "hello")
        for _ in range(3):
            await asyncio.sleep(0.2173)
            hold = call.session.floor.hold("test", patience_s=5)
            await asyncio.sleep(0.3)
            hold.release()
        await asyncio.sleep(1.0)
        assert numbers(call.card.audible) == list(range(16_000))
        assert [i.status for i in call.session.conversation] == ["complete"]


async def test_a_card_that_stops_is_no_reason_to_remember_the_unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_the_machine(monkeypatch) as call:
        await call.agent.say(ramp(0, 48_000), "a b c d e f g h i j k l")
        await asyncio.sleep(1.0)
        call.card.jammed = True
        await asyncio.sleep(6.0)
        [item] = call.session.conversation.items
        assert item.status == "interrupted"
        assert item.heard_s == pytest.approx(1.0, abs=0.1)


async def test_a_loop_that_was_blocked_gets_what_was_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_the_machine(monkeypatch) as call:
        microphone = call.card.microphone
        assert microphone is not None
        for n in range(20):  # all within one turn of the loop
            microphone.call(memoryview(ramp(n * 320, 320)), 320, None, None)
        await asyncio.sleep(0.1)
        assert numbers(b"".join(f.audio for f in call.ear.frames)) == list(range(6400))


async def test_a_device_that_is_taken_in_the_meantime_ends_the_call_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = Card(monkeypatch)
    for options in ({"input_device": "busy"}, {"output_device": "busy"}):
        call = LocalCall(card, **options)
        outcome = await call.session.run()
        assert isinstance(outcome.error, ConfigurationError)
        assert "busy" in str(outcome.error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_device": "nonsense"}, "audio input 'nonsense' .*there are: Mic"),
        ({"output_device": "nonsense"}, "audio output 'nonsense' .*there are: Speaker"),
        ({"sample_rate": 96_000}, "the default .*96000 Hz .*Invalid sample rate"),
        ({"sample_rate": 11_025}, "multiple of 50"),
    ],
)
def test_devices_and_rates_that_do_not_exist_are_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    Card(monkeypatch)
    with pytest.raises(ConfigurationError, match=message):
        LocalAudioTransport(**options)


def test_a_machine_without_devices_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch)

    def none(**_: Any) -> None:
        raise card.module.PortAudioError("Error querying device -1")

    card.module.check_input_settings = none
    card.module.query_devices = list
    with pytest.raises(ConfigurationError, match="no audio input at all"):
        LocalAudioTransport()
    card.module.query_devices = none
    with pytest.raises(ConfigurationError, match="no audio input at all"):
        LocalAudioTransport()


def test_without_sounddevice_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"duologue\[audio\]"):
        LocalAudioTransport()


def test_without_portaudio_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.raises(ConfigurationError, match="libportaudio2"):
        LocalAudioTransport()


async def test_errors_of_the_call_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_the_machine(monkeypatch) as call:
        errors: list[ErrorRaised] = []
        call.session.on(ErrorRaised, errors.append)
        call.card.spoken = ramp(0, 8000)
        await call.agent.say(ramp(0, 8000), "hello")
        await call.session.end()
        await asyncio.sleep(0.1)
        assert errors == []
        assert [i.status for i in call.session.conversation] == ["complete"]
