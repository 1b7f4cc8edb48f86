"""The controls of the agent's playback: volume, pause, resume, stop, replay."""

from __future__ import annotations

import math

import anyio
import numpy as np
import pytest

from duologue.errors import ConfigurationError, IllegalState
from duologue.frames import BotPaused, BotResumed, Interrupted, Say
from duologue.session.playback import MAX_PAUSE_S
from tests.session.test_modes import ModeCall

pytestmark = pytest.mark.virtual_clock
WORDS = "One two three four five six seven eight nine ten eleven twelve."


def written(call: ModeCall) -> list[tuple[float, bytes]]:
    """Keep the agent's audio as it is written."""
    pieces: list[tuple[float, bytes]] = []
    call.session.audio.written.add(lambda pcm, rate, at: pieces.append((at, pcm)))
    return pieces


def heard(call: ModeCall) -> list[tuple[str, str, float]]:
    """The agent's messages in the log: text, status, seconds."""
    return [(i.text, i.status, round(i.heard_s, 3)) for i in call.session.conversation if i.role == "agent"]


def level(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, "<i2").astype(float)
    return float(np.sqrt((samples**2).mean()))


async def begins(call: ModeCall, text: str = WORDS, protected: bool = False) -> None:
    await call.session.send(Say(text=text, protected=protected))
    with anyio.fail_after(60):
        while not call.session.floor.agent_speaking:
            await anyio.sleep(0.02)


async def test_the_volume_changes_smoothly_and_what_is_heard_stays_the_same() -> None:
    async with ModeCall("continuous") as call:
        plain = written(call)
        await begins(call)
        await call.answered()
    async with ModeCall("continuous") as quiet:
        pieces = written(quiet)
        await begins(quiet)
        await anyio.sleep(0.5)
        quiet.session.playback.volume = 0.25
        await quiet.answered()
    assert heard(quiet) == heard(call)
    before, after = b"".join(p for _, p in plain), b"".join(p for _, p in pieces)
    assert len(before) == len(after)
    assert level(after[-24000:]) == pytest.approx(level(before[-24000:]) / 4, rel=0.05)
    ratio = np.abs(np.diff(np.frombuffer(after, "<i2").astype(float))).max()
    assert ratio <= np.abs(np.diff(np.frombuffer(before, "<i2").astype(float))).max()  # no click


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan, math.inf, 1e308, True, "loud", None])
async def test_a_wrong_volume_is_refused(wrong: object) -> None:
    async with ModeCall("continuous") as call:
        for name in ("volume", "replay_s"):
            if name == "replay_s" and wrong == 1.1:
                continue
            with pytest.raises(ConfigurationError, match=name):
                setattr(call.session.playback, name, wrong)
        assert call.session.playback.volume == 1.0


async def test_a_pause_loses_nothing() -> None:
    async with ModeCall("continuous") as call:
        playback = call.session.playback
        assert not playback.pause()
        assert not playback.resume()
        await begins(call)
        await anyio.sleep(0.5)
        assert playback.pause()
        assert not playback.pause()
        await anyio.sleep(60)
        assert playback.paused
        assert playback.resume()
        await call.answered()
        paused = [signal.owners for _, signal in call.signals if isinstance(signal, BotPaused | BotResumed)]
        assert paused == [("playback",), ("playback",)]
    (message,) = heard(call)
    assert message[:2] == (WORDS, "complete")


async def test_a_pause_ends_by_itself() -> None:
    async with ModeCall("continuous") as call:
        await begins(call)
        call.session.playback.pause()
        await anyio.sleep(MAX_PAUSE_S - 1)
        assert call.session.playback.paused
        await anyio.sleep(2)
        assert not call.session.playback.paused
        await call.answered()


async def test_a_stopped_answer_is_cut_to_what_was_heard() -> None:
    async with ModeCall("continuous") as call:
        assert not call.session.playback.stop()
        await begins(call)
        await anyio.sleep(0.5)
        assert call.session.playback.stop()
        await anyio.sleep(1)
        assert [s.reason for _, s in call.signals if isinstance(s, Interrupted)] == ["stopped"]
    ((text, status, _),) = heard(call)
    assert status == "interrupted"
    assert WORDS.startswith(text)
    assert text != WORDS


async def test_protected_speech_is_not_stopped() -> None:
    async with ModeCall("continuous") as call:
        await begins(call, protected=True)
        assert not call.session.playback.stop()
        await call.answered()


async def test_the_last_answer_is_replayed_and_not_heard_twice() -> None:
    async with ModeCall("continuous") as call:
        playback = call.session.playback
        with pytest.raises(IllegalState, match="set replay_s"):
            playback.replay()
        playback.replay_s = 60
        assert not playback.replay()
        pieces = written(call)
        await begins(call, "Good morning.")
        await call.answered()
        await begins(call)
        with pytest.raises(IllegalState, match="silent"):
            playback.replay()
        await call.answered(2)
        first = heard(call)
        pieces.clear()
        for _ in range(2):
            assert playback.replay()
            await anyio.sleep(0.2)
            assert call.session.floor.agent_speaking
            with anyio.fail_after(60):
                while call.session.floor.owner == "agent":
                    await anyio.sleep(0.05)
        assert heard(call) == first
        seconds = sum(len(pcm) for _, pcm in pieces) / 48_000
        assert seconds == pytest.approx(2 * first[1][2], abs=0.1)
        assert playback.replay()
        await anyio.sleep(0.3)
        assert playback.stop()
        assert not call.session.floor.agent_speaking


async def test_what_is_kept_for_a_replay_is_bounded() -> None:
    async with ModeCall("continuous") as call:
        call.session.playback.replay_s = 1.0
        await begins(call)
        await call.answered()
        pieces = written(call)
        assert call.session.playback.replay()
        await anyio.sleep(5)
        assert sum(len(pcm) for _, pcm in pieces) / 48_000 == pytest.approx(1.0, abs=0.05)


async def test_a_call_that_ends_in_a_pause_speaks_the_rest() -> None:
    async with ModeCall("continuous") as call:
        await begins(call)
        await anyio.sleep(0.5)
        assert call.session.playback.pause()
        await anyio.sleep(2)
        await call.session.end("done")
        await call.over()
    assert call.outcome.reason == "done"
    assert heard(call)[-1][:2] == (WORDS, "complete")


async def test_a_caller_who_hangs_up_in_a_pause_ends_the_call_at_once() -> None:
    async with ModeCall("continuous") as call:
        await begins(call)
        await anyio.sleep(0.5)
        assert call.session.playback.pause()
        at = call.session.now()
        call.transport.hang_up()
        await call.over()
        assert call.session.now() - at < 0.1
    assert call.outcome.reason == "caller hung up"
