"""The ears of other frameworks on the exported callers of `benchmarks.turns.export`. Run it with the peer's own Python.

    python benchmarks/turns/peers.py pipecat FOLDER

It imports nothing of this project. The peers' own classes hear the audio in pieces of 20 ms; the order in which they
are asked is that of their default strategies, without waiting for a transcript. LiveKit's models may be used in its own
agents only: they are asked here where their user has installed them, and are no part of this project.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import sys
import time
import wave
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

PIECE_S = 0.02


def pieces(path: Path) -> tuple[int, list[bytes]]:
    """Return the sample rate of a file and its audio in pieces of 20 ms."""
    with wave.open(str(path)) as file:
        rate = file.getframerate()
        pcm = file.readframes(file.getnframes())
    size = 2 * round(rate * PIECE_S)
    return rate, [pcm[place : place + size] for place in range(0, len(pcm) - size + 1, size)]


async def pipecat(path: Path) -> list[float]:
    """Return the times at which Pipecat's default would end the turn: Silero with 0.2 s, then smart-turn v3.

    A turn that smart-turn does not find complete ends after 3 s of silence.
    """
    from pipecat.audio.turn.base_turn_analyzer import EndOfTurnState
    from pipecat.audio.turn.smart_turn import base_smart_turn
    from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
    from pipecat.audio.vad.silero import SileroVADAnalyzer
    from pipecat.audio.vad.vad_analyzer import VADParams, VADState

    rate, audio = pieces(path)
    clock = _Clock()
    base_smart_turn.time = clock  # the analyzer dates its pieces by the wall clock
    params = VADParams(stop_secs=0.2)
    vad, turn = SileroVADAnalyzer(params=params), LocalSmartTurnAnalyzerV3()
    vad.set_sample_rate(rate)
    turn.set_sample_rate(rate)
    turn.update_vad_start_secs(params.start_secs)
    decided: list[float] = []
    speaking = in_turn = False
    for piece in audio:
        clock.now += PIECE_S
        state = await vad.analyze_audio(piece)
        if state == VADState.SPEAKING and not speaking:
            speaking = in_turn = True
        complete = turn.append_audio(piece, speaking) == EndOfTurnState.COMPLETE
        if state == VADState.QUIET and speaking:
            speaking = False
            verdict, _ = await turn.analyze_end_of_turn()
            complete = complete or verdict == EndOfTurnState.COMPLETE
        if complete and in_turn:
            in_turn = False
            decided.append(clock.now - 1.0)
            turn.clear()
    return decided


class _Clock:
    """Stands for the module `time`: the time of the audio, one second ahead, because the analyzer takes 0 for unset."""

    perf_counter = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        self.now = 1.0

    def time(self) -> float:
        return self.now

    monotonic = time


PEERS: dict[str, tuple[str, Callable[[Path], Coroutine[Any, Any, list[float]]]]] = {"pipecat": ("pipecat-ai", pipecat)}


def main() -> None:
    """Let a peer hear all files of a folder, and write its decisions."""
    parser = argparse.ArgumentParser(description="The ears of other frameworks on exported callers.")
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    package, hear = PEERS[chosen.peer]
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"{package} is not installed in {sys.executable}")
    decided: dict[str, Any] = {}
    for path in sorted(chosen.folder.glob("*.wav")):
        times: list[float] = asyncio.run(hear(path))
        decided[path.name] = [round(at, 3) for at in times]
        print(f"{path.name}: {len(decided[path.name])} decisions")
    (chosen.folder / f"{package}-{version}.json").write_text(json.dumps(decided))


if __name__ == "__main__":
    main()
