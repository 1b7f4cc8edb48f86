"""One random call: a caller who speaks, types, interrupts and hangs up at any time, and the reckoning afterwards."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache

import anyio

from benchmarks._call import speech
from benchmarks.chaos.services import ChaosLLM, ChaosSTT, ChaosTTS, Clumsy, Ear, tools, typed
from benchmarks.chaos.tally import Dice, Tally
from duologue import Agent, Cascade, Handoff, Pipeline, Processor, Session, Switch, Tools
from duologue.errors import DuologueError
from duologue.frames import ErrorRaised, SessionStarted, Transfer
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.session.life import Outcome
from duologue.transports.memory import MemoryTransport

RATE = 16_000
PIECE_S = 0.1
PATIENCE_S = 120.0
"""Seconds within which a typed turn must have an outcome: longer than any limit of a service."""
END_S = 60.0
"""Seconds within which a call must end: longer than all deadlines of a session."""
NAMES = ("first", "second")
ORDERLY = ("hangs up", "hangs up at once", "ends")


@lru_cache
def question() -> list[bytes]:
    """Return speech in pieces of 100 ms."""
    pcm = speech("what is the weather")
    size = int(2 * RATE * PIECE_S)
    return [pcm[place : place + size] for place in range(0, len(pcm), size)]


class ChaosCall:
    """One call through `parts`, the processors between turn-taking and tools."""

    def __init__(self, dice: Dice, tally: Tally, parts: list[Processor], *, engines: tuple[str, ...] = ()) -> None:
        self._dice, self._tally, self._engines = dice, tally, engines
        self._transport = MemoryTransport(RATE)
        self._ear = Ear()
        agents = [
            Agent(name=name, instructions=f"You are {name}.", tools=tools(dice), greeting=dice.choice(("", "Hello.")))
            for name in NAMES
        ]
        self.session = Session(
            Pipeline(
                [
                    self._transport.input(),
                    self._ear,
                    *parts,
                    Handoff(agents, failover=engines),
                    Tools(),
                    Clumsy(dice, "below"),
                    self._transport.output(),
                ]
            )
        )
        tally.sessions.add(self.session)
        tally.calls += 1
        self._fed = 0
        self._place = math.inf
        self._texts: list[tuple[str, float]] = []
        self._errors_at: list[float] = []
        self.session.on(ErrorRaised, lambda signal: self._errors_at.append(self.session.now()))

    async def run(self) -> None:
        """Make the call."""
        loop = asyncio.get_running_loop()
        started = asyncio.Event()
        self.session.on(SessionStarted, lambda signal: started.set())
        ending = self._dice.choice((*ORDERLY, "hangs up", "hangs up", "ends", "run is cancelled", "is cancelled"))
        self._tally.endings[ending] += 1
        running = loop.create_task(self.session.run())
        running.add_done_callback(lambda task: started.set())
        microphone = loop.create_task(self._speak())
        if ending == "hangs up at once":
            await anyio.sleep(self._dice.choice((0.0, 0.0, 0.001, 0.3)))
        else:
            await started.wait()
            await self._act()
        microphone.cancel()
        began = loop.time()
        await self._end(ending, running)
        done, _ = await asyncio.wait({running}, timeout=END_S)
        if not done:
            self._tally.hung += 1
            self._tally.fail(f"hung: {ending}", self._dice)
            running.cancel()
            await asyncio.wait({running}, timeout=END_S)
        if running.done() and not running.cancelled():
            self._reckon(ending, running.result(), loop.time() - began)

    async def _end(self, ending: str, running: asyncio.Task[Outcome]) -> None:
        if ending == "ends":
            await self.session.end()
        elif ending == "is cancelled":
            self.session.cancel()
        elif ending == "run is cancelled":
            running.cancel()
        else:
            self._transport.hang_up()

    # -- the caller ------------------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        loop, silence = asyncio.get_running_loop(), bytes(int(2 * RATE * PIECE_S))
        due = loop.time()
        while True:
            pcm = silence
            if self._place < len(question()):
                pcm = question()[int(self._place)]
                self._place += 1
            self._transport.send(pcm)
            self._fed += len(pcm) // 2
            due += PIECE_S
            await anyio.sleep(due - loop.time())

    async def _act(self) -> None:
        dice = self._dice
        for number in range(dice.random.randint(1, 5)):
            if not self.session.live:
                return
            act = dice.choice(("types", "types", "types", "speaks", "speaks", "transfers", "interrupts", "mutes"))
            if act == "types":
                self._type(number)
            elif act == "speaks":
                self._place = 0
            elif act == "mutes":
                self.session.set_access(dice.choice(("muted", "active")))
            elif act == "interrupts":
                self.session.interrupt()
            else:
                await self._transfer()
            patient = dice.random.random() < 0.6
            await (self._settles() if patient else anyio.sleep(dice.choice((0.0, 0.05, 0.4, 2.0, 8.0))))

    def _type(self, number: int) -> None:
        frame = typed(number)
        self._tally.typed += 1
        self._texts.append((frame.text, self.session.now()))
        self._transport.send_frame(frame)

    async def _transfer(self) -> None:
        engine = self._dice.choice(("", *self._engines))
        frame = Transfer(target=self._dice.choice((*NAMES, "nobody")), engine=engine, reason="Chaos.")
        try:
            with anyio.move_on_after(PATIENCE_S):
                await self.session.send(frame)
        except DuologueError:
            pass  # the call has ended

    async def _settles(self) -> None:
        """Wait until the agent has finished, and every typed text has an outcome."""
        floor = self.session.floor
        with anyio.move_on_after(PATIENCE_S):
            quiet = 0
            while quiet < 10 and self.session.live:
                await anyio.sleep(0.1)
                busy = floor.owner == "agent" or floor.agent_speaking or bool(self._unanswered())
                quiet = 0 if busy else quiet + 1
        if self.session.live and (open_texts := self._unanswered()):
            self._tally.lost_turns += len(open_texts)
            self._tally.fail(f"no outcome of {open_texts}", self._dice)
            self._texts = [text for text in self._texts if text not in open_texts]

    def _unanswered(self) -> list[tuple[str, float]]:
        """Return the texts after which neither an answer, nor words of the caller, nor an error has come."""
        items = self.session.conversation.items
        last = max((item.at for item in items if item.role == "agent"), default=-1.0)
        last = max([last, *self._errors_at[-1:]])
        latest = self._texts[-1:]
        return [entry for entry in latest if entry[1] > last]

    # -- the reckoning ---------------------------------------------------------------------------------------------

    def _reckon(self, ending: str, outcome: Outcome, took_s: float) -> None:
        tally, dice = self._tally, self._dice
        tally.ends_s.append(took_s)
        tally.outcomes[outcome.reason] += 1
        tally.left_behind += len(outcome.abandoned)
        items = self.session.conversation.items
        results = Counter(item.call_id for item in items if item.kind == "tool_result")
        tally.results += sum(results.values())
        if twice := sum(count - 1 for count in results.values()):
            tally.double_results += twice
            tally.fail("double results", dice)
        if ending not in ORDERLY or outcome.error is not None or "deadline" in outcome.reason:
            return
        if ending == "hangs up":
            tally.hang_ups += 1
            if lost := self._fed - self._ear.samples:
                tally.lost_samples += lost
                tally.fail(f"{lost} samples lost", dice)
        said = [item.text for item in items if item.role == "caller"]
        for text, _ in self._texts:
            if not any(text in line for line in said):
                tally.lost_turns += 1
                tally.fail(f"{text!r} is missing in the log", dice)


@asynccontextmanager
async def cascade_call(dice: Dice, tally: Tally) -> AsyncIterator[ChaosCall]:
    """Make a call of a cascade, or of two between which the agents move."""

    def cascade() -> Cascade:
        return Cascade(ChaosSTT(dice), ChaosLLM(dice, NAMES), ChaosTTS(dice))

    names = ("a", "b") if dice.random.random() < 0.3 else ()
    engine: Processor = Switch({name: cascade() for name in names}) if names else cascade()
    parts = [Vad(), Endpointing(), Interruption(), Clumsy(dice, "above"), engine]
    yield ChaosCall(dice, tally, parts, engines=names)


Maker = Callable[[Dice, Tally], AbstractAsyncContextManager[ChaosCall]]
