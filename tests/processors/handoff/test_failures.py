"""Hand-offs that fail, engines that are lost, and calls that must not see each other."""

from __future__ import annotations

import anyio
import pytest

from tests.processors.handoff.calls import NATIVE, agent, runs, swap_call


@pytest.mark.parametrize("target", NATIVE)
async def test_an_engine_that_cannot_be_reached_does_not_get_the_call(target: str) -> None:
    """All or nothing: the old agent keeps the call and learns the reason; the caller's words meanwhile are answered."""
    async with swap_call(agent("Ann", "cascade"), agent("Bob", target)) as call:
        server = call.openai if target == "openai" else call.gemini
        server.behaviour.refuse = 10**6
        await call.says("hello")
        await call.hears()
        await call.transfers("Bob")
        await call.says("still there")
        await call.hears()
        assert [signal.target for signal in call.failed] == ["Bob"]
        assert call.completed == []
        assert call.switch.active == "cascade"
        assert call.session.agent is not None
        assert call.session.agent.name == "Ann"
        assert call.said[-2:] == ["caller: still there", "agent: You said still there."]
        assert [item.agent for item in call.session.conversation if item.role == "agent"] == ["Ann", "Ann"]


async def test_the_model_is_told_that_the_hand_off_failed() -> None:
    async with swap_call(agent("Ann", "openai"), agent("Bob", "gemini")) as call:
        call.gemini.behaviour.refuse = 10**6
        await call.says("to Bob")
        await call.hears()
        await call.says("one")
        await call.hears()
        assert "result handoff_conversation" in call.log
        assert '"accepted":false' in call.got("openai").results[0][1]
        assert call.got("openai").number == 1
        assert call.said[-2:] == ["caller: one", "agent: You said one."]


async def test_a_setup_that_never_completes_is_given_up_and_the_old_agent_goes_on() -> None:
    async with swap_call(agent("Ann", "openai"), agent("Bob", "gemini")) as call:
        call.gemini.behaviour.setup_delay_s = float("inf")
        await call.transfers("Bob")
        await call.says("one")
        await anyio.sleep(3.0)
        await call.hears()
        assert [signal.target for signal in call.failed] == ["Bob"]
        assert call.said == ["caller: one", "agent: You said one."]


async def test_another_voice_that_cannot_be_had_leaves_all_as_it_was() -> None:
    """The change takes a new connection, which is refused: the old one goes on, with the old voice and prompt."""
    async with swap_call(agent("Ann", "openai", voice="alloy"), agent("Bob", "openai", voice="cedar")) as call:
        await call.says("hello")
        await call.hears()
        call.openai.behaviour.refuse = 10**6
        await call.transfers("Bob")
        await call.says("one")
        await anyio.sleep(3.0)
        await call.hears()
        assert [signal.target for signal in call.failed] == ["Bob"]
        assert call.got("openai").number == 1
        assert call.got("openai").voice == "alloy"
        assert call.got("openai").instructions.startswith("You are Ann.")
        assert call.said[-2:] == ["caller: one", "agent: You said one."]
        assert call.remembered("openai") == runs(call.said)


@pytest.mark.parametrize("lost", NATIVE)
async def test_an_engine_that_is_lost_for_good_is_replaced_by_the_next(lost: str) -> None:
    """Words of the caller while no engine is connected are answered by the engine that stands by."""
    async with swap_call(agent("Ann"), engine_of_first=lost, failover=[lost, "cascade"]) as call:
        await call.says("hello")
        await call.hears()
        server = call.openai if lost == "openai" else call.gemini
        server.behaviour.refuse = 10**6
        server.connections[0].close(0, "")
        await call.says("still there")
        await anyio.sleep(3.0)
        await call.hears()
        await call.says("thanks")
        await call.hears()
        assert [signal.engine for signal in call.completed] == ["cascade"]
        assert call.said == [
            "caller: hello",
            "agent: You said hello.",
            "caller: still there",
            "agent: You said still there.",
            "caller: thanks",
            "agent: You said thanks.",
        ]
        assert call.remembered("cascade") == runs(call.said)


async def test_an_engine_that_is_not_there_from_the_beginning_is_replaced() -> None:
    async with swap_call(
        agent("Ann", greeting="Welcome."),
        engine_of_first="openai",
        failover=["openai", "gemini", "cascade"],
        refuse=True,
    ) as call:
        await anyio.sleep(5.0)
        await call.says("hello")
        await call.hears()
        assert [signal.engine for signal in call.completed] == ["gemini"]
        assert call.said[-2:] == ["caller: hello", "agent: You said hello."]


async def test_the_call_ends_with_the_reason_when_no_engine_is_left() -> None:
    async with swap_call(agent("Ann"), engine_of_first="openai", failover=["openai", "gemini"], may_fail=True) as call:
        call.openai.behaviour.refuse = call.gemini.behaviour.refuse = 10**6
        call.openai.connections[0].close(0, "")
        await anyio.sleep(30.0)
        assert call.session.state.value == "ended"
        assert "no engine is left" in call.errors[-1].message


@pytest.mark.parametrize("engine", NATIVE)
async def test_two_calls_do_not_see_each_other(engine: str) -> None:
    """Pitfall 26: in one process, on one provider, both handing off at the same time."""
    async with (
        swap_call(agent("Ann", engine), agent("Bob", engine)) as one,
        swap_call(agent("Cleo", engine), agent("Dan", engine)) as other,
    ):
        for text in ("to {}", "bill"):
            async with anyio.create_task_group() as both:
                both.start_soon(one.says, text.format("Bob"))
                both.start_soon(other.says, text.format("Dan"))
            await one.hears()
            await other.hears()
        for call, own, foreign in ((one, "Bob", ("Cleo", "Dan")), (other, "Dan", ("Ann", "Bob"))):
            assert [signal.target for signal in call.completed] == [own]
            assert call.got(engine).instructions.startswith(f"You are {own}.")
            assert call.said[-2:] == ["caller: bill", "agent: You said bill."]
            told = repr((call.got(engine).messages, call.got(engine).tools, call.got(engine).history))
            assert not any(name in told for name in foreign)
