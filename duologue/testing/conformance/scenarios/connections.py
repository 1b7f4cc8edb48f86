"""E8: an engine survives the faults of its connection, and the caller does not notice them."""

from __future__ import annotations

from random import Random
from typing import Any

from ....frames import ConnectionChanged, ErrorRaised, Interrupted
from ....services.remote.connection import ConnectionSettings
from ...scripted.server import Act, Asked, Speak
from ..call import Call, calling, squeezed
from ..phrases import HELLO, LONDON, STORY, THANKS, WEATHER
from ..rig import Conditions, Rig
from ..suite import scenario
from .words import LONG

CODES = (0, 1001, 1011, 1012)
"""Ends of a connection, as close codes: broken off, or closed by a server that goes away, fails or restarts."""
QUICK = ConnectionSettings(heartbeat_s=1.0, backoff_s=0.2)


def answers(asked: Asked) -> list[Act]:
    """A model with a different answer to each phrase."""
    said = {HELLO: "Hello.", WEATHER: "It is sunny.", LONDON: "It rains.", THANKS: "You are welcome."}
    return [Speak(said.get(asked.said, "Yes."))]


async def reconnected(call: Call, times: int = 1) -> None:
    """Wait until the engine has connected again; `times` is the number of connections before."""

    def active() -> int:
        return sum(change.state == "active" for change in call.came(ConnectionChanged))

    await call.until(lambda: active() > times, "a new connection")


def check_states(call: Call, *, lost: int = 1) -> None:
    """Check that the states of the connection were broadcast, in a valid order, with `lost` losses."""
    states = call.states
    assert states[:2] == ["connecting", "active"]
    assert states[-1] == "closed"
    assert states.count("reconnecting") == lost, states
    for place, state in enumerate(states):
        if state in ("reconnecting", "refreshing"):
            assert states[place + 1] in ("active", "reconnecting", "lost"), states
    changes = call.came(ConnectionChanged)
    for change in changes:
        assert change.engine
        assert change.how or change.state != "active" or change.reason, "it is told what the provider knows"
    back = [change for change in changes if change.state == "active"][1:]
    assert all(change.gap_ms >= 0 for change in back)


def knows(call: Call, *texts: str) -> None:
    """Check that the history of the model's last request contains each of these texts once."""
    told = squeezed(" ".join(message.text for message in call.far.asked[-1].history))
    for text in texts:
        assert told.count(squeezed(text)) == 1, f"told {told.count(squeezed(text))} times: {text!r}"


@scenario("E8", faults=["drop"], seeds=4)
async def a_drop_between_turns(rig: Rig, random: Random) -> None:
    """A connection that ends while nobody speaks is replaced, and the next question is answered as usual."""
    async with rig.start(answers) as far:
        async with calling(rig, far) as call:
            await call.asks(HELLO)
            await far.drop(random.choice(CODES))
            await call.waits(random.uniform(0.0, 1.0))
            line = await call.says(WEATHER)
            await call.hears()
        assert call.heard_by_engine(line)
        assert call.log == [f"caller: {HELLO}", "agent: Hello.", f"caller: {WEATHER}", "agent: It is sunny."]
        knows(call, HELLO, "Hello.", WEATHER)
        check_states(call)


@scenario("E8", faults=["drop"], seeds=3)
async def a_drop_while_the_caller_speaks(rig: Rig, random: Random) -> None:
    """Speech during which the connection ends is heard from its beginning, and answered once."""
    async with rig.start(answers) as far:
        async with calling(rig, far) as call:
            await call.asks(HELLO)
            call.session.start_task(call.probe, _drop_after(call, random.uniform(0.05, 1.9), random.choice(CODES)))
            line = await call.says(WEATHER)
            await call.until(lambda: "agent: It is sunny." in call.log, "the answer")
            await call.waits(1.0)
            await call.asks(THANKS)
        assert call.heard_by_engine(line)
        assert call.log[2:4] == [f"caller: {WEATHER}", "agent: It is sunny."]
        assert call.said_by_caller == [HELLO, WEATHER, THANKS]
        assert call.said_by_agent == ["Hello.", "It is sunny.", "You are welcome."]
        check_states(call)


async def _drop_after(call: Call, seconds: float, code: int) -> None:
    from anyio import sleep

    await sleep(seconds)
    await call.far.drop(code)


@scenario("E8", faults=["drop"], seeds=3)
async def a_drop_in_mid_answer(rig: Rig, random: Random) -> None:
    """An answer that breaks off is continued or begun again without a question; its heard part stays in the log."""
    rest = "And so they lived happily ever after."

    def model(asked: Asked) -> list[Act]:
        if asked.said == THANKS:
            return [Speak("You are welcome.")]
        return [Speak(LONG, pace=1.2)] if asked.connection == 1 else [Speak(rest)]

    async with rig.start(model) as far:
        async with calling(rig, far) as call:
            await call.says(STORY)
            await call.agent_begins()
            await call.waits(random.uniform(0.3, 4.0))
            await far.drop(random.choice(CODES))
            await call.until(lambda: f"agent: {rest}" in call.log, "the rest of the answer")
            heard = call.said_by_agent[0]
            await call.asks(THANKS)
        assert squeezed(LONG).startswith(squeezed(heard))
        assert call.said_by_agent[-2:] == [rest, "You are welcome."]
        assert call.said_by_caller == [STORY, THANKS]
        knows(call, STORY, rest, THANKS)
        check_states(call)


@scenario("E8", faults=["drop", "refuse"], seeds=3)
async def what_is_said_while_there_is_no_connection_is_heard(rig: Rig, random: Random) -> None:
    """Speech during refused attempts to reconnect arrives completely and in order. (pipecat 5465)"""
    async with rig.start(answers, Conditions(connection=ConnectionSettings(backoff_s=0.8))) as far:
        async with calling(rig, far) as call:
            await call.asks(HELLO)
            far.refuse(random.choice([1, 3]))
            await far.drop()
            await call.waits(random.uniform(0.0, 0.3))
            first = await call.says(WEATHER)
            await call.until(lambda: "agent: It is sunny." in call.log, "the answer")
            second = await call.says(LONDON)
            await call.hears()
        assert call.heard_by_engine(first)
        assert call.heard_by_engine(second)
        assert call.said_by_caller == [HELLO, WEATHER, LONDON]
        assert call.said_by_agent == ["Hello.", "It is sunny.", "It rains."]
        attempts = [change.attempt for change in call.came(ConnectionChanged) if change.state == "reconnecting"]
        assert attempts == list(range(1, len(attempts) + 1))
        assert len(attempts) >= 2
        check_states(call)


@scenario("E8", faults=["drop", "refuse"])
async def an_engine_that_cannot_reconnect_ends_the_call(rig: Rig, random: Random) -> None:
    """If all attempts to reconnect fail, that is a fatal error, and the call ends with it."""
    async with rig.start(answers, Conditions(connection=ConnectionSettings(retry_for_s=4.0))) as far:
        async with calling(rig, far, ends=False) as call:
            call.expect_error("")
            await call.asks(HELLO)
            far.refuse(1_000)
            dropped_at = call.session.now()
            await far.drop()
            with_patience = 4.0 + 2.0
            await call.until(lambda: call.is_over, "the end of the call", 60.0)
        (fatal,) = [error for error in call.came(ErrorRaised) if error.fatal]
        assert fatal.processor
        assert fatal.message
        assert call.outcome.reason == "error"
        assert call.outcome.error is not None
        assert call.states[-1] == "lost"
        lost_at = next(at for at, s in call.signals if isinstance(s, ConnectionChanged) and s.state == "lost")
        assert lost_at - dropped_at <= with_patience
        assert call.log == [f"caller: {HELLO}", "agent: Hello."]


@scenario("E8", faults=["half_open"], seeds=3)
async def a_half_open_connection_is_noticed(rig: Rig, random: Random) -> None:
    """The heartbeat detects a far end that neither reads nor writes; speech that it missed is repeated. (L 7368)"""
    async with rig.start(answers, Conditions(connection=QUICK)) as far:
        async with calling(rig, far) as call:
            await call.asks(HELLO)
            await far.go_half_open()
            await call.waits(random.uniform(0.0, 1.0))
            began = call.session.now()
            line = await call.says(WEATHER)
            await call.until(lambda: "agent: It is sunny." in call.log, "the answer")
            assert call.session.now() - began < 10.0
            await call.asks(THANKS)
        assert call.heard_by_engine(line)
        assert call.said_by_caller == [HELLO, WEATHER, THANKS]
        assert call.said_by_agent == ["Hello.", "It is sunny.", "You are welcome."]
        check_states(call)


@scenario("E8", faults=["half_open"])
async def a_connection_that_goes_half_open_in_mid_answer(rig: Rig, random: Random) -> None:
    """An answer that stops without a close of the connection is continued on a new one."""
    rest = "And so they lived happily ever after."

    def model(asked: Asked) -> list[Act]:
        return [Speak(LONG, pace=1.0)] if asked.connection == 1 else [Speak(rest)]

    async with rig.start(model, Conditions(connection=QUICK)) as far:
        async with calling(rig, far) as call:
            await call.says(STORY)
            await call.agent_begins()
            await call.waits(1.0)
            await far.go_half_open()
            await call.until(lambda: f"agent: {rest}" in call.log, "the rest of the answer")
        assert squeezed(LONG).startswith(squeezed(call.said_by_agent[0]))
        check_states(call)


@scenario("E8", faults=["expiry"])
async def a_session_that_expires_is_replaced(rig: Rig, random: Random) -> None:
    """A session that ends at the provider's limit is replaced; no words are lost, and none are sent twice."""
    phrases = [HELLO, WEATHER, LONDON, THANKS] * 2
    async with rig.start(answers, Conditions(session_limit_s=24.0)) as far:
        async with calling(rig, far) as call:
            lines = []
            for phrase in phrases:
                lines.append(await call.says(phrase))
                await call.hears()
                await call.waits(1.0)
        assert far.connections >= 2
        assert all(call.heard_by_engine(line) for line in lines)
        assert call.said_by_caller == phrases
        assert call.said_by_agent == ["Hello.", "It is sunny.", "It rains.", "You are welcome."] * 2
        told = squeezed(" ".join(message.text for message in far.asked[-1].history))
        assert told.count(squeezed(LONDON)) == 2


@scenario("E8", faults=["go_away"])
async def a_warning_in_mid_sentence_cuts_nothing(rig: Rig, random: Random) -> None:
    """A provider that goes away while the agent speaks is left when the agent has finished. (livekit js 2507)"""

    def model(asked: Asked) -> list[Act]:
        return [Speak(LONG, pace=1.0)] if asked.said == STORY else [Speak("You are welcome.")]

    async with rig.start(model) as far:
        async with calling(rig, far) as call:
            await call.says(STORY)
            await call.agent_begins()
            await call.waits(1.0)
            await far.go_away(20.0)
            await call.hears()
            await reconnected(call)
            await call.asks(THANKS)
        assert call.said_by_agent == [LONG, "You are welcome."]
        assert call.came(Interrupted) == []
        assert far.connections == 2
        assert "refreshing" in call.states
        assert "expiring" in call.states
        check_states(call, lost=0)


@scenario("E8", faults=["go_away"], seeds=4)
async def a_warning_while_the_caller_speaks_loses_nothing(rig: Rig, random: Random) -> None:
    """If the connection is replaced around the caller's speech, one of the two hears all of it; it is answered once."""
    async with rig.start(answers) as far:
        async with calling(rig, far) as call:
            await call.asks(HELLO)
            after_s, left_s = random.uniform(0.0, 2.0), random.choice([9.0, 12.0])
            if random.random() < 0.4:  # too short to wait for the end of the sentence
                after_s, left_s = random.uniform(0.0, 0.5), 1.5
            call.session.start_task(call.probe, _go_away_after(call, after_s, left_s))
            line = await call.says(WEATHER)
            await call.until(lambda: "agent: It is sunny." in call.log, "the answer")
            await reconnected(call)
            await call.waits(1.0)
            await call.asks(THANKS)
        assert call.heard_by_engine(line)
        assert call.said_by_caller == [HELLO, WEATHER, THANKS]
        assert call.said_by_agent == ["Hello.", "It is sunny.", "You are welcome."]
        knows(call, HELLO, WEATHER, THANKS)
        check_states(call, lost=0)


@scenario("E8", faults=["go_away"], seeds=2)
async def a_warning_that_is_too_short_for_the_answer(rig: Rig, random: Random) -> None:
    """An answer that outlasts its connection is continued on the next one without a question."""
    rest = "And so they lived happily ever after."

    def model(asked: Asked) -> list[Act]:
        if asked.said == THANKS:
            return [Speak("You are welcome.")]
        return [Speak(LONG, pace=1.1)] if asked.connection == 1 else [Speak(rest)]

    async with rig.start(model) as far:
        async with calling(rig, far) as call:
            await call.says(STORY)
            await call.agent_begins()
            await call.waits(random.uniform(0.2, 2.0))
            await far.go_away(4.0)
            await call.until(lambda: f"agent: {rest}" in call.log, "the rest of the answer")
            await call.asks(THANKS)
        assert squeezed(LONG).startswith(squeezed(call.said_by_agent[0]))
        assert call.said_by_agent[1:] == [rest, "You are welcome."]
        knows(call, STORY, rest, THANKS)
        check_states(call, lost=0)


async def _go_away_after(call: Call, seconds: float, left_s: float) -> None:
    from anyio import sleep

    await sleep(seconds)
    await call.far.go_away(left_s)


@scenario("E8", faults=["unknown", "malformed"])
async def messages_that_mean_nothing_are_reported_and_passed_over(rig: Rig, random: Random) -> None:
    """A message of an unknown type, a malformed one and one of 100,000 levels are errors, and change nothing else."""
    async with rig.start(answers) as far:
        async with calling(rig, far) as call:
            call.expect_error("")
            await call.asks(HELLO)
            await far.send("unknown")
            await call.until(lambda: len(call.errors) == 1, "an error for the unknown one")
            await far.send("malformed")
            await call.until(lambda: len(call.errors) == 2, "an error for the malformed one")
            await far.send("deep")
            await call.until(lambda: len(call.errors) == 3, "an error for the deep one")
            await call.asks(WEATHER)
        assert far.connections == 1
        assert not any(error.fatal for error in call.came(ErrorRaised))
        assert call.said_by_agent == ["Hello.", "It is sunny."]


@scenario("E8", faults=["oversize"])
async def a_message_that_is_too_large_does_no_harm(rig: Rig, random: Random) -> None:
    """A message beyond every limit is not accepted; at most the connection is replaced, and the call goes on."""
    async with rig.start(answers) as far:
        async with calling(rig, far) as call:
            call.expect_error("")
            await call.asks(HELLO)
            await far.send("oversize")
            await call.waits(2.0)
            await call.asks(WEATHER)
        assert far.connections == 2
        assert call.log == [f"caller: {HELLO}", "agent: Hello.", f"caller: {WEATHER}", "agent: It is sunny."]
        check_states(call)


@scenario("E8")
async def what_is_said_while_the_engine_opens_is_heard(rig: Rig, random: Random) -> None:
    """Speech while the session is being set up arrives to the last sample, and is answered. (RoomKit)"""
    lines: list[Any] = []

    async def early(call: Call) -> None:
        lines.append(await call.says(HELLO))

    async with rig.start(answers, Conditions(setup_delay_s=1.5)) as far:
        async with calling(rig, far, meanwhile=early) as call:
            await call.hears()
            await call.asks(THANKS)
        assert call.heard_by_engine(lines[0])
        assert call.log == [f"caller: {HELLO}", "agent: Hello.", f"caller: {THANKS}", "agent: You are welcome."]


@scenario("E8")
async def nothing_is_left_open(rig: Rig, random: Random) -> None:
    """When the call has ended, the engine has closed all its connections."""
    async with rig.start(answers) as far:
        async with calling(rig, far) as call:
            await call.asks(HELLO)
        await call.until(lambda: far.open_connections == 0, "the end of the connections", 5.0)
