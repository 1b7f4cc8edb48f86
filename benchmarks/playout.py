"""The cost of playing and receiving audio: microseconds per 20 ms of one call, and the lateness of the pacer's beats.

    python -m benchmarks.playout [--calls 200] [--seconds 10]

`out`: from a response's waiting audio to the transport's `write`, with pacing and ledger; also with a conversion of
rates, and with a listener to the played audio; under the virtual clock, so that only the work is measured. `in`: from
`feed` to the first processor of the pipeline. `late`: in real time, all calls on one event loop, both sides of every
call speaking at once.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from duologue.frames import BotAudio, UserAudio
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Outcome, Session
from duologue.testing.clock import run
from duologue.transports.base import TransportInput, TransportOutput
from duologue.transports.playout.pacer import Pacer

CHUNK = bytes(640)
CALLS = 100


class NullOutput(TransportOutput):
    """Discards the agent's audio."""

    chunks = 0

    def write(self, chunk: bytes) -> None:
        self.chunks += 1


class Sink(Processor):
    """Discards the caller's audio."""

    @handles(UserAudio)
    async def take(self, frame: UserAudio) -> None:
        """Drop the audio."""


async def _calls(count: int) -> list[tuple[Session, TransportInput, NullOutput, asyncio.Task[Outcome]]]:
    calls = []
    for _ in range(count):
        head, tail = TransportInput(), NullOutput(16_000)
        session = Session(Pipeline([head, Sink(), tail]))
        calls.append((session, head, tail, asyncio.create_task(session.run())))
    await asyncio.sleep(0.5)
    return calls


async def _end(calls: list[tuple[Session, TransportInput, NullOutput, asyncio.Task[Outcome]]]) -> None:
    for session, *_ in calls:
        session.cancel()
    await asyncio.gather(*(call[3] for call in calls))


async def outward(seconds: float, sample_rate: int, listen: bool) -> float:
    """Return the seconds of work for each chunk played."""
    calls = await _calls(CALLS)
    for session, *_ in calls:
        if listen:
            session.audio.played.add(lambda pcm, rate, at: None)
        for _ in range(int(seconds)):
            await session.send(BotAudio(audio=bytes(2 * sample_rate), sample_rate=sample_rate))
    before, began = sum(c[2].chunks for c in calls), time.process_time()
    await asyncio.sleep(seconds - 1)
    spent, after = time.process_time() - began, sum(c[2].chunks for c in calls)
    await _end(calls)
    return spent / (after - before)


async def inward(rounds: int) -> float:
    """Return the seconds of work for each piece received."""
    calls = await _calls(CALLS)
    began = time.process_time()
    for _ in range(rounds):
        for _, head, *_ in calls:
            head.feed(CHUNK, 16_000)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    spent = time.process_time() - began
    await _end(calls)
    return spent / (rounds * len(calls))


async def load(count: int, seconds: float) -> tuple[Pacer, float]:
    """Run `count` calls in real time."""
    calls = await _calls(count)
    pacer, beats = Pacer.get(), []
    for session, head, *_ in calls:
        beats.append(pacer.every_20ms(lambda head=head: head.feed(CHUNK, 16_000), 0.0))  # type: ignore[misc]
        await session.send(BotAudio(audio=bytes(int(32_000 * (seconds + 1))), sample_rate=16_000))
    pacer.lateness.reset()
    began = time.process_time()
    await asyncio.sleep(seconds)
    share = (time.process_time() - began) / seconds
    for beat in beats:
        beat.cancel()
    await _end(calls)
    return pacer, share


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    for name, rate, listen in (
        ("16 kHz", 16_000, False),
        ("16 kHz, with a listener", 16_000, True),
        ("24 kHz to 16 kHz", 24_000, False),
        ("22.05 kHz to 16 kHz", 22_050, False),
    ):
        print(f"out  {name:26} {run(outward, 5.0, rate, listen) * 1e6:6.1f} µs per chunk")
    print(f"in   {'16 kHz':26} {asyncio.run(inward(500)) * 1e6:6.1f} µs per piece")
    pacer, share = asyncio.run(load(options.calls, options.seconds))
    late = pacer.lateness
    print(
        f"late {options.calls} calls, {late.count} beats: p50 {late.percentile(50) * 1e3:.0f} ms, "
        f"p99 {late.percentile(99) * 1e3:.0f} ms, most {late.max_s * 1e3:.1f} ms; {share:.0%} of a core"
    )


if __name__ == "__main__":
    main()
