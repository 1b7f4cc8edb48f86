"""The rule of `test_samples`: no sample of the caller's is lost, and no turn is answered twice.

The caller's audio is counted (`counted`): the audio of a connection tells which samples its provider got.

* A provider that finds the turns gets all audio. A connection's audio has no gap, and the next connection begins with
  the sample after it or with an earlier one: after a loss, with the first sample that did not arrive, or that belongs
  to a turn without an answer.
* A provider for which the framework finds the turns gets these alone, each whole on the connection that answers it.
"""

from __future__ import annotations

import anyio

from tests.services.native.calls import CountedCall
from tests.services.native.counted import Run, runs


def check_streams(call: CountedCall) -> None:
    """The connections of a provider that finds the turns have got every sample, in order, and none twice."""
    got = 0
    for heard in call.heard:
        assert len(heard) <= 1, f"a connection got {heard}: a gap or a repetition"
        for part in heard:
            assert part.first <= got, f"{part.first - got} samples are missing at {got}: {call.heard}"
            got = max(got, part.end)
    assert got == call.sent, f"of {call.sent} samples {got} were heard: {call.heard}"


def check_turns(call: CountedCall, *, answered: bool = True) -> None:
    """One connection got each turn whole; each is in the log once, in order, and answered once."""
    turns = [f"{turn.first}-{turn.end}" for turn in call.turns]
    if call.server.behaviour.transcript_delay_s:
        assert call.understood == [turn for turn in turns if turn in call.understood], (call.log, call.heard)
    else:
        assert call.understood == turns, (call.log, call.heard)
    if answered:
        assert call.answered == turns, (call.log, call.heard)
    taken = [part for got in call.server.got for part in _taken(got.audio, got.turns)]
    for turn in call.turns:
        assert any(len(parts) == 1 and _holds(parts[0], turn) for parts in taken), f"{turn} was not heard: {taken}"


def _taken(audio: bytearray, turns: list[tuple[int, int]]) -> list[list[Run]]:
    return [runs(bytes(audio[2 * start : 2 * end])) for start, end in turns]


def _holds(part: Run, turn: Run) -> bool:
    return part.first <= turn.first and turn.end <= part.end


async def check(call: CountedCall, *, manual: bool, answered: bool = True) -> None:
    """Both, when everything that was sent has arrived."""
    await anyio.sleep(0.5)
    if not manual:
        check_streams(call)
    check_turns(call, answered=answered)


def first_and_last(call: CountedCall) -> list[tuple[int, int]]:
    """The first sample that each connection got, and the one after the last."""
    return [(heard[0].first, heard[-1].end) for heard in call.heard if heard]
