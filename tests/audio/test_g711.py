"""G.711: both codes against the standard."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.audio.g711 import A_LAW, G711, MU_LAW
from duologue.errors import BadInput

CODES = bytes(range(256))
both = pytest.mark.parametrize("law", [A_LAW, MU_LAW], ids=["A-law", "µ-law"])


@pytest.mark.parametrize(
    ("law", "known"),
    [
        (MU_LAW, {0: 0xFF, 1: 0xFF, -1: 0x7E, 1000: 0xCE, -1000: 0x4E, 32767: 0x80, -32768: 0x00}),
        (A_LAW, {0: 0xD5, 1: 0xD5, -1: 0x55, 1000: 0xFA, -1000: 0x7A, 32767: 0xAA, -32768: 0x2A}),
    ],
    ids=["µ-law", "A-law"],
)
def test_the_codes_are_those_of_the_standard(law: G711, known: dict[int, int]) -> None:
    for sample, code in known.items():
        assert law.encode(sample.to_bytes(2, "little", signed=True))[0] == code, sample


@both
def test_each_level_has_its_own_code(law: G711) -> None:
    levels = law.decode(CODES)
    assert law.decode(law.encode(levels)) == levels


def test_mulaw_has_one_code_for_zero() -> None:
    assert MU_LAW.encode(MU_LAW.decode(CODES)) == CODES.replace(b"\x7f", b"\xff")  # minus zero


@both
def test_a_split_sample_is_refused(law: G711) -> None:
    with pytest.raises(BadInput, match="splits a sample"):
        law.encode(b"\0")


@both
@given(sample=st.integers(-32_768, 32_767))
def test_a_sample_is_off_by_at_most_half_a_step(law: G711, sample: int) -> None:
    pcm = sample.to_bytes(2, "little", signed=True)
    back = int.from_bytes(law.decode(law.encode(pcm)), "little", signed=True)
    assert abs(back - sample) <= max((abs(sample) + 132) / 16, 16)


@both
def test_no_sample_is_off_by_more_than_half_a_step(law: G711) -> None:
    samples = np.arange(-32_000, 32_001).astype("<i2")
    again = np.frombuffer(law.decode(law.encode(samples.tobytes())), "<i2").astype(int)
    assert (np.abs(again - samples) <= np.maximum(np.abs(samples.astype(int)) / 16, 16)).all()
