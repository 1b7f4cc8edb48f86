"""Frames are immutable, and their audio is whole samples at a rate that exists."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from duologue.errors import BadInput
from duologue.frames import BotAudio, BotText, Interrupted, ResponseEnded, ToolCall, UserAudio, UserText

AUDIO: list[Any] = [UserAudio, BotAudio]


def test_a_frame_cannot_be_changed_but_copied_with_a_change() -> None:
    frame = UserText(text="hi")
    with pytest.raises(AttributeError):
        frame.text = "ho"  # type: ignore[misc]
    assert msgspec.structs.replace(frame, text="ho") == UserText(text="ho")


def test_a_frame_takes_its_fields_by_name_only() -> None:
    with pytest.raises(TypeError):
        UserText("hi")  # type: ignore[call-arg]


def test_two_calls_do_not_share_their_arguments() -> None:
    one, other = ToolCall(call_id="1", name="n"), ToolCall(call_id="2", name="n")
    one.arguments["x"] = 1
    assert other.arguments == {}


@pytest.mark.parametrize("kind", AUDIO)
def test_samples_are_a_view_of_the_bytes(kind: Any) -> None:
    frame = kind(audio=np.array([1, -2, 300, -32768], "<i2").tobytes())
    assert frame.samples.tolist() == [1, -2, 300, -32768]
    assert frame.samples.base is not None
    assert kind(audio=b"\0" * 12, channels=3).samples.shape == (2, 3)


@pytest.mark.parametrize("kind", AUDIO)
def test_audio_knows_how_long_it_is(kind: Any) -> None:
    assert kind(audio=b"\0" * 3200, sample_rate=16_000).duration_s == 0.1
    assert kind(audio=b"\0" * 3200, sample_rate=8_000, channels=2).duration_s == 0.1
    assert kind(audio=b"").duration_s == 0.0


@pytest.mark.parametrize("kind", AUDIO)
def test_a_louder_copy_saturates(kind: Any) -> None:
    frame = kind(audio=np.array([100, -100, 20_000, -20_000], "<i2").tobytes(), sample_rate=8_000)
    louder = frame.scaled(2.0)
    assert louder.samples.tolist() == [200, -200, 32767, -32768]
    assert louder.sample_rate == 8_000
    assert frame.samples.tolist() == [100, -100, 20_000, -20_000]


@pytest.mark.parametrize("kind", AUDIO)
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"audio": b"abc"}, "3 bytes are not whole 16-bit samples of 1 channel"),
        ({"audio": b"abcdef", "channels": 2}, "6 bytes are not whole 16-bit samples of 2 channel"),
        ({"audio": b"", "sample_rate": 0}, "sample_rate of 0 Hz"),
        ({"audio": b"", "sample_rate": -8000}, "sample_rate of -8000 Hz"),
        ({"audio": b"", "sample_rate": 384_001}, "sample_rate of 384001 Hz"),
        ({"audio": b"", "channels": 0}, "0 channels"),
        ({"audio": b"", "channels": 9}, "9 channels"),
    ],
)
def test_audio_that_cannot_be_is_refused_by_name(kind: Any, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=f"{kind.__name__}: .*{problem}"):
        kind(**fields)


@pytest.mark.parametrize("kind", AUDIO)
def test_a_log_line_shows_no_samples(kind: Any) -> None:
    assert "320 bytes" in repr(kind(audio=b"secret!!" * 40))
    assert "secret" not in repr(kind(audio=b"secret!!" * 40))


def test_only_the_end_of_a_response_passes_the_fence() -> None:
    assert ResponseEnded.survives_fence
    assert not BotText.survives_fence
    assert not BotAudio.survives_fence


def test_what_was_heard_travels_with_the_interruption() -> None:
    assert Interrupted(turn=3, heard="The weather", heard_s=0.8).reason == "barge-in"
