"""Audio that is cut at any byte gives the same samples."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from duologue.audio.pcm import MonoPieces, WholeSamples, downmix

CUTS = st.lists(st.binary(max_size=9), max_size=10)


@given(CUTS, st.integers(1, 6))
def test_pieces_of_any_size_give_the_same_samples(pieces: list[bytes], channels: int) -> None:
    whole = WholeSamples(channels)
    found = [whole.take(piece) for piece in pieces]
    data = b"".join(pieces)
    assert all(len(piece) % (2 * channels) == 0 for piece in found)
    assert b"".join(found) == data[: len(data) - len(data) % (2 * channels)]


@given(CUTS, st.integers(1, 6))
def test_several_channels_become_one(pieces: list[bytes], channels: int) -> None:
    mono = MonoPieces()
    found = b"".join(mono.take(piece, channels) for piece in pieces)
    data = b"".join(pieces)
    assert found == downmix(data[: len(data) - len(data) % (2 * channels)], channels)


def test_after_a_change_of_channels_or_a_reset_the_stream_begins_anew() -> None:
    mono = MonoPieces()
    assert mono.take(b"\1\0\1", 2) == b""
    assert mono.take(b"\5\0\3", 1) == b"\5\0"
    whole = WholeSamples()
    assert whole.take(b"\1") == b""
    whole.reset()
    assert whole.take(b"\2\0") == b"\2\0"
