"""Random pipelines and random calls through them, each from one number, and what must hold of every one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, Literal

import anyio

from duologue.errors import ServiceError
from duologue.frames import BotText, Configure, ErrorRaised, Frame, Idle, SessionStarted, UserText
from duologue.processors import Pipeline, Processor, Switch, Tee, handles
from duologue.processors.kernel.host import Direction
from duologue.processors.kernel.lane import UPSTREAM_FACTOR, Lane
from duologue.session import Session

KINDS: tuple[type[Frame], ...] = (UserText, BotText, Configure)
PLACES: tuple[tuple[type[Frame], bool], ...] = (
    (UserText, False),
    (BotText, False),
    (Configure, False),
    (UserText, True),
    (Configure, True),
)
KINDS_DOWN: tuple[type[Frame], ...] = (*KINDS, UserText, UserText, BotText, BotText)
KINDS_UP: tuple[type[Frame], ...] = (UserText, UserText, Configure)
DELAYS_S = (None, None, 0.0, 0.001, 0.002, 0.01, 0.05)
"""The seconds that a handler may take; None does not even let others run."""


def make(kind: type[Frame], label: str, turn: int) -> Frame:
    """A frame that carries its label: the name of its pusher, a colon, and its number among the pusher's frames."""
    if kind is BotText:
        return BotText(text=label, turn=turn)
    return Configure(agent=label) if kind is Configure else UserText(text=label)


def label_of(frame: Frame) -> str:
    """The label of a frame."""
    return frame.agent or "" if isinstance(frame, Configure) else str(getattr(frame, "text", ""))


def origin(label: str) -> tuple[str, int]:
    """Its pusher or its source, and its number among the pusher's frames."""
    pusher, _, number = label.partition("+")[0].partition(":")
    return pusher, int(number)


class Leaf(Processor):
    """Lets frames through, in its own time; may fail at some, add some, ask above, and answer from above."""

    def __init__(self, call: RandomCall, key: str, random: Random) -> None:
        self.call, self.key = call, key
        self.capacity = random.choice([1, 1, 2, 3])
        self.fails = random.choice([0.0, 0.0, 0.0, 0.15])
        self.makes = random.random() < 0.15
        self.asks = random.random() < 0.15
        self.answers = random.random() < 0.3
        self.stubborn = random.random() < 0.1
        self.at_work: list[tuple[Frame, asyncio.Task[Any] | None]] = []
        self.failed: list[str] = []
        self.heard = self.opened = self.closed = 0
        self.in_switch = False
        self.modes = ""

    @property
    def name(self) -> str:
        return self.key

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.closed += 1

    @handles(Idle)
    def hear(self, signal: Idle) -> None:
        self.heard += 1

    def handles_kind(self, kind: type[Frame], up: bool) -> str:
        """How it handles a kind: q in its lane, d directly, - not at all."""
        return dict(zip(PLACES, self.modes, strict=True)).get((kind, up), "-")

    def fails_at(self, label: str) -> bool:
        """True if it fails at this frame: the same each time."""
        return Random(f"{self.key} fails {label}").random() < self.fails

    async def handle(self, frame: Frame, up: bool) -> None:
        """Whatever it does about a frame."""
        self.call.check(self, frame)
        label = label_of(frame)
        entry = (frame, asyncio.current_task())
        self.at_work.append(entry)
        try:
            delay_s = Random(f"{self.key} takes {label}").choice(DELAYS_S)
            if delay_s is not None:
                try:
                    await anyio.sleep(delay_s)
                except asyncio.CancelledError:
                    if not self.stubborn:
                        raise
            if self.fails_at(label):
                self.failed.append(label)
                raise ServiceError(f"{self.key} fails at {label}")
            if not isinstance(frame, Configure):
                await (self.push_up(frame) if up else self.push(frame))
            if self.makes and not up and not isinstance(frame, Configure) and "+" not in label:
                await self.push(make(type(frame), f"{label}+{self.key}", getattr(frame, "turn", 0)))
            if self.asks and not up and isinstance(frame, UserText) and len(label) < 6:
                await self.push_up(UserText(text=f"{self.key}^{label}"))
            if self.answers and up and isinstance(frame, UserText) and len(label) < 12:
                await self.push(UserText(text=f"{self.key}v{label}"))
        finally:
            self.at_work.remove(entry)


def _taker(up: bool) -> Any:
    async def take(self: Leaf, frame: Frame) -> None:
        await self.handle(frame, up)

    return take


@cache
def leaf_class(modes: str) -> type[Leaf]:
    """The class that handles each of `PLACES` as said: q in its lane, d directly, - not at all."""
    methods = {
        f"take_{kind.__name__}_{up}": handles(kind, queued=mode == "q", upstream=up)(_taker(up))
        for (kind, up), mode in zip(PLACES, modes, strict=True)
        if mode != "-"
    }
    return type(f"Leaf_{modes}", (Leaf,), methods)


class Watched(Switch[Processor]):
    """Tells, at the moment of a change, what the old branch is at work on."""

    def __init__(self, call: RandomCall, branches: dict[str, Processor]) -> None:
        self.call = call
        super().__init__(branches)

    def take(self, direction: Direction) -> list[Frame]:
        """Note it, and hand over what waits."""
        self.call.note_in_hand(self)
        return super().take(direction)


class End(Processor):
    """Either end of the pipeline: keeps what arrives."""

    def __init__(self, call: RandomCall) -> None:
        self.call = call
        self.labels: list[tuple[str, type[Frame]]] = []

    def keep(self, frame: Frame) -> None:
        """Note a frame."""
        self.call.check(self, frame)
        self.labels.append((label_of(frame), type(frame)))


class Bottom(End):
    """Where downstream ends."""

    @handles(*KINDS)
    async def take(self, frame: Frame) -> None:
        """It has arrived."""
        self.keep(frame)


class Top(End):
    """Where upstream ends."""

    @handles(*KINDS, upstream=True)
    async def take(self, frame: Frame) -> None:
        """It has arrived."""
        self.keep(frame)


@dataclass
class Sent:
    """A frame that was pushed: what of it, and by when."""

    label: str
    kind: type[Frame]
    turn: int
    up: bool
    selects: int
    given_up: bool = False


Theme = Literal["anything", "tees", "switches"]


@dataclass
class RandomCall:
    """One call, from one number: `await RandomCall(seed).run()` raises AssertionError if anything is wrong.

    The `theme` says what it is to have much of: tees with many a `Configure`, or switches with many a change.
    """

    seed: int
    theme: Theme = "anything"
    sent: list[Sent] = field(default_factory=list)
    errors: list[ErrorRaised] = field(default_factory=list)
    loose: set[str] = field(default_factory=set)
    """Frames whose place is not promised: those a handler of the old branch held when the branches changed."""
    leaves: list[Leaf] = field(default_factory=list)
    switches: list[Switch[Processor]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    selects: int = 0
    tee_in_switch: bool = False
    ending: str = ""

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.tees = self.random.random() < 0.6
        self.changes = self.random.random() < 0.5
        self.tree = Pipeline(self._themed())
        self.top, self.bottom = Top(self), Bottom(self)
        self.session = Session(Pipeline([self.top, self.tree, self.bottom]), id=f"{self.theme}-{self.seed}")
        self.session.on(ErrorRaised, self.errors.append)

    # -- what it goes through --------------------------------------------------------------------------------------

    def _themed(self) -> list[Processor]:
        random = self.random
        if self.theme == "tees":
            above, below = self._leaf(False, "d"), self._leaf(False, "d")
            branches = [[self._leaf(False, "qqd-") for _ in range(random.randint(0, 2))] for _ in range(2)]
            for leaf in self.leaves:
                leaf.fails, leaf.answers = 0.0, leaf is above
            return [above, *(Tee(branch) for branch in branches), below]
        if self.theme == "switches":
            named: dict[str, Processor] = {
                name: Pipeline([self._leaf(True) for _ in range(random.randint(1, 2))]) for name in "xy"
            }
            self.switches.append(switch := Watched(self, named))
            return [self._leaf(False), switch, self._leaf(False)]
        return [self._tree(depth=0, in_switch=False)]

    def _tree(self, depth: int, in_switch: bool) -> Processor:
        random = self.random
        children: list[Processor] = []
        for _ in range(random.randint(depth == 0, 3 - depth)):
            kind = random.random() if depth < 2 else 1.0
            if kind < 0.2 and self.tees:
                self.tee_in_switch |= in_switch
                children.append(Tee([self._tree(depth + 1, in_switch)]))
            elif kind < 0.4 and self.changes:
                switch = Watched(self, {name: self._tree(depth + 1, True) for name in "xy"})
                self.switches.append(switch)
                children.append(switch)
            else:
                children.append(self._leaf(in_switch))
        return Pipeline(children)

    def _leaf(self, in_switch: bool, ways: str = "qqdd--") -> Leaf:
        modes = "".join(self.random.choice(ways) for _ in PLACES)
        leaf = leaf_class(modes)(self, f"k{len(self.leaves)}", self.random)
        leaf.modes, leaf.in_switch = modes, in_switch
        self.leaves.append(leaf)
        return leaf

    # -- what happens ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The call, and then the reckoning."""
        started = asyncio.Event()
        self.session.on(SessionStarted, lambda _: started.set())
        running = asyncio.create_task(self.session.run())
        await started.wait()
        self.session.floor.begin()
        async with anyio.create_task_group() as group:
            for number in range(self.random.randint(1 if self.theme == "anything" else 2, 3)):
                group.start_soon(self._push, f"p{number}", Random(self.random.random()), False)
            if self.random.random() < 0.6:
                group.start_soon(self._push, "u0", Random(self.random.random()), True)
            group.start_soon(self._meddle, Random(self.random.random()))
        self.ending = ending = self.random.choice(["settle", "settle", "end", "cancel"])
        if ending == "settle":
            await anyio.sleep(20)
        if ending == "cancel":
            self.session.cancel()
        else:
            await self.session.end()
        outcome = await running
        await asyncio.sleep(1e-9)
        assert not self.wrong, self.wrong[0]
        assert asyncio.all_tasks() == {asyncio.current_task()}, "something still runs"
        assert (outcome.error, outcome.abandoned) == (None, ()), f"it went wrong: {outcome}"
        assert all(leaf.opened == leaf.closed for leaf in self.leaves), "not everything is closed"
        assert not any(leaf.at_work for leaf in self.leaves), "a handler is still at work"
        self._check_errors()
        if ending == "cancel":
            return
        assert outcome.reason == "ended", f"it did not end by itself: {outcome.reason}"
        self._check_delivery(self.bottom, up=False)
        self._check_order(self.bottom, up=False)
        self._check_order(self.top, up=True)
        if ending == "settle":
            self._check_delivery(self.top, up=True)

    async def _push(self, pusher: str, random: Random, up: bool) -> None:
        for number in range(random.randint(2, 9)):
            kind = random.choice(KINDS_UP if up else KINDS if self.theme == "tees" else KINDS_DOWN)
            sent = Sent(f"{pusher}:{number}", kind, self.session.floor.turn, up, self.selects)
            frame = make(kind, sent.label, sent.turn)
            self.sent.append(sent)
            patience_s = None if up or random.random() < 0.9 else random.choice([0.0, 0.001, 0.01])
            with anyio.move_on_after(patience_s) as scope:
                await (self.bottom.push_up(frame) if up else self.session.send(frame))
            if scope.cancelled_caught:
                sent.given_up = True
                self.loose.add(sent.label)
            if random.random() < 0.4:
                await anyio.sleep(random.choice([0.0, 0.001, 0.01, 0.05]))

    async def _meddle(self, random: Random) -> None:
        floor = self.session.floor
        for _ in range(random.randint(0, 5) if self.theme != "switches" else 8):
            await anyio.sleep(random.choice([0.0, 0.001, 0.003, 0.01, 0.02, 0.05]))
            deed = random.random()
            if deed < (0.5 if self.theme != "switches" else 0.1):
                self.session.interrupt()
                self._check_silence()
                floor.begin()
                await asyncio.sleep(1e-6)
                self._check_workers()
            elif deed < 0.8 and self.switches:
                await self._select(random.choice(self.switches), random.choice("xy"))
            else:
                self._check_broadcast()

    async def _select(self, switch: Switch[Processor], name: str) -> None:
        change = switch.active != name
        self.selects += change
        await switch.select(name)
        self.selects += change

    def _lanes(self) -> list[Lane]:
        return [lane for lane in self.session.host.lanes if isinstance(lane, Lane)]

    def note_in_hand(self, branch: Processor) -> None:
        """A branch is about to be left: what its handlers and lanes are at work on keeps no place."""
        inside = set(_nodes(branch))
        for leaf in _leaves(branch):
            self.loose |= {label_of(frame) for frame, _ in leaf.at_work}
        for lane in self._lanes():
            if lane._running is not None and lane._owner in inside:
                self.loose.add(label_of(lane._running[1]))

    # -- what must hold while it runs ------------------------------------------------------------------------------

    def check(self, processor: Processor, frame: Frame) -> None:
        """Called wherever a frame is handled. Its findings are raised in the end: an error here would be handled."""
        if self.session.floor.is_stale(frame):
            self.wrong.append(f"{processor.name} got stale {label_of(frame)}")
        for leaf in self.leaves:
            if leaf._lane is not None and len(leaf._lane) > self._limit(leaf):
                self.wrong.append(f"{leaf.name} holds {len(leaf._lane)} frames")

    def _limit(self, leaf: Leaf) -> int:
        """The bound of its lane: more than its capacity only where a push cannot wait."""
        if "q" not in leaf.modes[3:] and not any(other.answers for other in self.leaves):
            return leaf.capacity
        return leaf.capacity * UPSTREAM_FACTOR + sum(sent.kind is Configure for sent in self.sent)  # never refused

    def _check_silence(self) -> None:
        """After the fence: nothing stale waits anywhere."""
        stale = self.session.floor.is_stale
        for lane in self._lanes():
            waiting = [entry[1] for entry in lane._queue] + [entry[1] for _, entry in lane._waiting]
            assert not any(map(stale, waiting)), "stale output waits in a lane"

    def _check_workers(self) -> None:
        """A moment after the fence: no lane is at work on anything stale, unless someone ignores cancellations."""
        if any(leaf.stubborn for leaf in self.leaves):
            return
        workers = {lane.worker for lane in self._lanes()}
        for leaf in self.leaves:
            for frame, task in leaf.at_work:
                stale = task in workers and self.session.floor.is_stale(frame)
                assert not stale, f"{leaf.name} is still at work on stale {label_of(frame)}"

    def _check_broadcast(self) -> None:
        before = [leaf.heard for leaf in self.leaves]
        self.session.broadcast(Idle(seconds=1, owner="caller"))
        active = set(_active(self.tree))
        for leaf, count in zip(self.leaves, before, strict=True):
            assert leaf.heard == count + (leaf in active), f"{leaf.name} heard {leaf.heard - count} of one signal"

    # -- what must hold in the end ---------------------------------------------------------------------------------

    def _check_errors(self) -> None:
        told = Counter(e.processor for e in self.errors if "does not fit" not in e.message)
        assert told == Counter(leaf.name for leaf in self.leaves for _ in leaf.failed), "errors and failures differ"

    def _check_delivery(self, end: End, up: bool) -> None:
        arrived = Counter(label for label, _ in end.labels)
        refused = sum("does not fit" in error.message for error in self.errors)
        fence = self.session.floor.fence
        missing = []
        for sent in self.sent:
            if sent.up is not up:
                continue
            fates = _fates(self.tree, sent.label, sent.kind, up)
            if sent.label in self.loose and self.ending == "end":
                fates = fates | {False}  # the end does not wait for what is left of the old branch
            if sent.given_up or (sent.kind is BotText and (sent.turn <= fence or sent.selects < self.selects)):
                fates = fates | {False}
            if not arrived[sent.label] and fates == {True}:
                missing.append(sent.label)
            assert arrived[sent.label] == 0 or True in fates, f"{sent.label} arrived though a handler failed at it"
        assert len(missing) <= refused, f"lost: {missing}"
        if not (self.tee_in_switch and self.selects):
            # The product of a handler may be made again when the frame moves back.
            twice = [sent.label for sent in self.sent if arrived[sent.label] > 1]
            assert not twice, f"more than one copy of {twice}"

    def _check_order(self, end: End, up: bool) -> None:
        """Within a family each pusher's frames are in order, and each `Configure` with everything of that pusher."""
        latest: dict[tuple[str, type[Frame]], int] = {}
        for label, kind in dict.fromkeys(end.labels):
            source = label.partition("+")[0]
            if "^" in label or "v" in label or source in self.loose or label in self.loose:
                continue
            pusher, number = origin(label)
            for other in KINDS:
                made = "+" in label and other is not Configure
                if other is kind or Configure in (kind, other):
                    before = latest.get((pusher, other), -1)
                    assert before <= number or made, f"{label} came after {other.__name__} {pusher}:{before}"
            if "+" not in label:
                latest[pusher, kind] = number


def _nodes(node: Processor) -> Iterator[Processor]:
    yield node
    for child in getattr(node, "children", ()):
        yield from _nodes(child)


def _leaves(node: Processor) -> Iterator[Leaf]:
    return (inside for inside in _nodes(node) if isinstance(inside, Leaf))


def _active(node: Processor) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    inside = (node.branches[node.active],) if isinstance(node, Switch) else getattr(node, "children", ())
    for child in inside:
        yield from _active(child)


def _fates(node: Processor, label: str, kind: type[Frame], up: bool) -> set[bool]:
    """The possible fates of a frame on its way through: it comes out (True) or not."""
    if isinstance(node, Leaf):
        fails = kind is not Configure and node.handles_kind(kind, up) != "-" and node.fails_at(label)
        return {not fails}
    if isinstance(node, Tee):
        return {True}
    fates = [_fates(child, label, kind, up) for child in getattr(node, "children", ())]
    if isinstance(node, Switch):
        return set().union(*fates)
    if {False} in fates:
        return {False}
    return {True, False} if any(False in fate for fate in fates) else {True}
