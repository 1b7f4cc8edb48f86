"""`Resume`: takes an earlier call up from its trace."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any

import anyio
import msgspec

from ..errors import BadInput, ConfigurationError, DeadlineExceeded, DuologueError, error_text
from ..frames import ConnectionChanged, Respond, SessionStarted, UserAudio
from ..processors.handoff.takeover import find_engine
from ..processors.kernel.threads import TRACES
from ..processors.switch import Switch
from ..session.conversation import IMAGE_GONE
from ..session.item import Item, has_image
from ..session.resuming import Handle, Place, Resumed
from ..session.session import Session
from ..session.tool_calls import says_running
from .engines import EngineFacts
from .reader import read
from .records import BadTrace
from .state import TraceState, state_of
from .store import Store, dicts_in
from .trace import Trace

log = logging.getLogger("duologue")

MAX_LINKS = 100
"""The most calls, each of which goes on from the one before, that are followed to the last one."""
PIECE_S = 0.02
"""Seconds of each piece of the caller's unanswered audio, as transports give it."""
NOT_KNOWN = {"error": "it had begun when its process was stopped: it is not known whether it was carried out"}
NOT_BEGUN = {"error": "the process was stopped before this had a result: it is not known whether it was carried out"}
_RESPONSE = re.compile(r"resp_(\d{1,9})")


class CallTaken(DuologueError):
    """The call to resume is still going on in another process, or another one has just taken it up."""

    category = "configuration"


class Resume:
    """Takes an earlier call up: `Session(pipeline, trace=Trace("calls"), resume=Resume(name))`.

    `call` is its name in the store of the session's trace. Without a name it is the newest call that began with the
    same vendors and models, in which something was said, and which is not going on any more; if there is none, the call
    begins anew. A call that was taken up before goes on from the last one of these calls. With `or_fresh`, a call that
    cannot be taken up is an error that is reported, and this call begins anew; otherwise the error ends it: BadTrace or
    CallTaken.

    Restored are the log, the agent and the engine that had the call, consumption and cost, and the session's data. The
    caller's unanswered words or audio get an answer. A tool that had no result is not run again: the model learns that
    its outcome is not known. `session.resumed` says how the agent knows the earlier call.
    """

    def __init__(self, call: str = "", *, or_fresh: bool = False) -> None:
        if not isinstance(call, str):
            raise ConfigurationError(f"the call to resume is the name of a trace in the store, not {call!r}")
        self.call = call
        self.or_fresh = or_fresh

    def __repr__(self) -> str:
        return f"Resume({self.call!r})"

    async def take(self, session: Session[Any]) -> None:
        """Restore the earlier call in a session that has not opened its pipeline, and begin its trace.

        Raises BadTrace for a call that is not in the store or cannot be read, CallTaken for one that another process
        has, and DeadlineExceeded if the store takes too long.
        """
        trace = session.trace
        if not isinstance(trace, Trace):
            raise ConfigurationError("resume needs a `Trace`: the call goes on in it, in the same store")
        if trace.replay:
            raise ConfigurationError(
                "a call that goes on from another is not recorded for a replay: leave `replay` out"
            )
        limit_s = session.deadlines.start_s
        session.resumed = Resumed("", "there is no earlier call with the same vendors and models")
        try:
            with anyio.fail_after(limit_s):
                name, services = trace.name(session), _own_services(session)
                found = await TRACES.run(self._found, trace, name, services, label="resume")
            if found is not None:
                _restore(session, *found)
        except Exception as error:
            if isinstance(error, TimeoutError) and not isinstance(error, DuologueError):
                error = DeadlineExceeded(f"the call to resume was not read from {trace.store!r} within {limit_s:g} s")
            session.resumed = Resumed("", f"the earlier call cannot be taken up: {error}")
            trace.begin(session)
            if not self.or_fresh:
                raise error from error.__cause__
            session.report(error, "Resume")
        else:
            trace.begin(session)
            if found is not None:
                await _Continuation(session, found[1]).prepare()
        session.on(SessionStarted, lambda signal: _tell_how(session))

    # -- in a thread -----------------------------------------------------------------------------------------------

    def _found(self, trace: Trace, holder: str, services: list[Any]) -> tuple[str, TraceState] | None:
        try:
            return self._find(trace.store, trace.lease_s, holder, services)
        except DuologueError:
            raise
        except Exception as error:  # of the store
            raise BadTrace(f"{trace.store!r} does not give the call: {error_text(error)}") from error

    def _find(self, store: Store, lease_s: float, holder: str, services: list[Any]) -> tuple[str, TraceState] | None:
        if self.call:
            return _taken(store, self.call, holder, lease_s)
        for name in store.names():
            try:
                first = next(iter(read(store, name)))
                if [engine.get("services") for engine in dicts_in(first.facts.get("engines"))] == services:
                    call, state = _taken(store, name, holder, lease_s)
                    if state.has_words:
                        return call, state
                    store.hold(call, holder, 0)
            except (BadTrace, CallTaken) as error:
                log.info("the call %s is not taken up: %s", name, error)
        return None


def _own_services(session: Session[Any]) -> list[Any]:
    return [engine["services"] for engine in EngineFacts(session.pipeline).all()]


def _taken(store: Store, call: str, holder: str, lease_s: float) -> tuple[str, TraceState]:
    """Hold a call, or the last of those that go on from it, and return its name and what it had come to."""
    for _ in range(MAX_LINKS):
        next(iter(read(store, call)))  # there is one, of this version
        now_held_by = store.hold(call, holder, lease_s)
        if now_held_by == holder:
            try:
                return call, state_of(read(store, call))
            except BaseException:
                store.hold(call, holder, 0)
                raise
        if now_held_by == call:
            raise CallTaken(f"the call {call} is going on: the process that has it is alive, or was until just now")
        if now_held_by not in store.names():
            raise CallTaken(f"the call {call} is being taken up as {now_held_by}")
        call = now_held_by
    raise CallTaken(f"the call {call} goes on from more than {MAX_LINKS} others")


# -- in the session ------------------------------------------------------------------------------------------------


def _restore(session: Session[Any], call: str, state: TraceState) -> None:
    """Restore the log, the consumption, the cost and the data, before the trace begins."""
    shift_s = 0.0
    if session.started_at is not None and state.started_at is not None:
        shift_s = (session.started_at - state.started_at).total_seconds()
    items = list(carried(state.log, shift_s))
    session.conversation.restore(items)
    resumed = session.resumed = Resumed(call, session_id=state.session_id, items=len(session.conversation))
    resumed.place = _place_of(items)
    resumed.give({engine: Handle(text, state.known[engine]) for engine, text in state.handles.items()})
    session.floor.turn = max((item.turn for item in items), default=0)
    session.ledger.go_on_after(max((int(m[1]) for item in items if (m := _RESPONSE.fullmatch(item.id))), default=0))
    for item in items:
        if item.kind == "tool_call" and (known := session.calls.get(item.call_id)) is not None:
            known.provider_id = item.call_id
    for used in state.usage:
        session.usage.add(used)
    session.cost.carry(state.carried_usd + session.cost.prices.total(state.leg))


def carried(items: Iterable[Item], shift_s: float) -> Iterator[Item]:
    """Yield the items of an earlier call as they are in the log of the call that goes on from it.

    Their times are in that call's session time, before 0. A message that was not complete is left out, because nobody
    knows what of it was heard or said, and images are not kept.
    """
    for item in items:
        if item.kind == "message" and item.status == "in_progress" and not item.text:
            continue
        changes: dict[str, Any] = {"at": item.at - shift_s}
        if item.ended_at:
            changes["ended_at"] = item.ended_at - shift_s
        if item.status == "in_progress":
            changes["status"] = "complete"
        if has_image(item):
            changes |= {"kind": "note", "text": IMAGE_GONE, "data": None, "status": "complete"}
        yield msgspec.structs.replace(item, **changes)


def _place_of(items: list[Item]) -> Place:
    """Return the agent and the engine that had the call, from the hand-offs in its log."""
    phases: list[str] = []
    agent = engine = ""
    for item in items:
        if item.kind == "handoff" and isinstance(item.data, dict):
            agent, engine = str(item.data.get("target", "")), str(item.data.get("engine", "")) or engine
            if item.data.get("source") != agent or not phases:
                phases.append(str(item.data.get("phase", "")))
    handoffs = sum(item.kind == "handoff" and bool(item.text) for item in items)
    return Place(agent, engine, tuple(phases), handoffs)


def _tell_how(session: Session[Any]) -> None:
    if session.resumed is not None:
        session.broadcast(session.resumed.told())


class _Continuation:
    """What a call that goes on does itself: it selects the engine, settles the tools, and answers the caller."""

    def __init__(self, session: Session[Any], state: TraceState) -> None:
        self._session, self._state = session, state
        self._asked = ""
        self._speech = state.unanswered_speech if session.microphone.mode == "continuous" else []

    async def prepare(self) -> None:
        """Prepare the session, whose trace has begun and whose pipeline is not open."""
        session, resumed = self._session, self._session.resumed
        assert resumed is not None
        self._settle_tools()
        self._asked = last_asked(session.conversation)
        _restore_data(session, self._state.data)
        await _select(session, resumed.place.engine)
        session.on(ConnectionChanged, resumed.connected)
        session.on(SessionStarted, self._answer)

    def _settle_tools(self) -> None:
        """Give every tool call a result: nothing runs it any more."""
        conversation = self._session.conversation
        results = {item.call_id: item for item in conversation if item.kind == "tool_result"}
        for call in [item for item in conversation if item.kind == "tool_call"]:
            result = results.get(call.call_id)
            if result is not None and not says_running(result.data):
                continue
            told = NOT_KNOWN if result is not None or self._state.began(call.call_id) else NOT_BEGUN
            data, text = dict(told), msgspec.json.encode(told).decode()
            if result is not None:
                conversation.update(result.id, data=data, text=text)
            else:
                conversation.add(
                    "tool_result", "tool", turn=call.turn, call_id=call.call_id, name=call.name, data=data, text=text
                )

    async def _answer(self, signal: SessionStarted) -> None:
        """Answer what the caller had said last: the audio is heard now, the words are in the log."""
        session = self._session
        if self._speech:
            await self._hear()
        elif self._asked and last_asked(session.conversation) == self._asked:  # they have said nothing new meanwhile
            await session.send(Respond())

    async def _hear(self) -> None:
        """Let the pipeline hear the unanswered audio, as if it had ended just now."""
        session = self._session
        at = session.now() - sum(frame.duration_s for frame in self._speech)
        for frame in self._speech:
            size = 2 * max(1, round(frame.sample_rate * PIECE_S))
            for start in range(0, len(frame.audio), size):
                piece = UserAudio(audio=frame.audio[start : start + size], sample_rate=frame.sample_rate, at=at)
                at += piece.duration_s
                await session.send(piece)
            await asyncio.sleep(0)  # a minute of audio: others have their turn


def last_asked(items: Iterable[Item]) -> str:
    """Return the id of the last item if it is words of the caller, or a result, that nobody has answered; else ""."""
    for item in reversed(list(items)):
        if item.kind == "message" and item.role == "agent":
            return ""
        if item.kind == "tool_result":
            return item.id
        if item.kind == "message" and item.role == "caller" and not item.backchannel and item.text:
            return item.id
    return ""


async def _select(session: Session[Any], engine: str) -> None:
    """Make the engine that had the call the active one."""
    place = find_engine(session.pipeline)
    if not engine or not isinstance(place, Switch) or place.active == engine:
        return
    if engine in place.branches:
        await place.select(engine)
    else:
        session.report(ConfigurationError(f"the call was on the engine {engine!r}, which is not there"), "Resume")


def _restore_data(session: Session[Any], kept: Any) -> None:
    """Restore the application's data: keys of a dictionary, or the fields of its own type."""
    if kept is None:
        return
    data = session.data
    try:
        if isinstance(data, dict):
            data.update(msgspec.convert(kept, dict[str, Any]))
        elif isinstance(data, msgspec.Struct) or is_dataclass(data):
            made = msgspec.convert(kept, type(data))
            for name in kept:
                setattr(data, name, getattr(made, name))
        else:
            raise TypeError(f"it is of type {type(data).__name__}")
    except Exception as error:
        session.report(BadInput(f"the session's data cannot be restored: {error}"), "Resume")
