"""`MonoAt`: one stream, whatever comes in."""

from __future__ import annotations

from duologue.audio.resample import MonoAt
from duologue.testing.tones import tone


def test_what_has_the_rate_already_passes_as_it_is() -> None:
    pcm = tone(0.02, 16_000)
    assert MonoAt(16_000).process(pcm, 16_000) == pcm


def test_nothing_is_lost_when_the_rate_changes_on_the_way() -> None:
    mono = MonoAt(16_000)
    out = mono.process(tone(0.5, 48_000), 48_000) + mono.process(tone(0.5, 8_000), 8_000)
    out += mono.process(tone(0.5, 16_000), 16_000) + mono.flush()
    assert len(out) == 2 * 3 * 8_000


def test_channels_are_mixed() -> None:
    left = tone(0.02, 16_000)
    both = b"".join(left[at : at + 2] * 2 for at in range(0, len(left), 2))
    assert MonoAt(16_000).process(both, 16_000, 2) == left
