"""The receivers of a frame, their order, and the failure of a handler."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import anyio
import pytest

from duologue.errors import BadInput, ConfigurationError, IllegalState, ServiceError, ToolError
from duologue.frames import (
    BotAudio,
    Configure,
    Dtmf,
    ErrorRaised,
    Frame,
    Idle,
    Input,
    Interrupted,
    ResponseEnded,
    SessionEnding,
    SessionStarted,
    Signal,
    StateChanged,
    Usage,
    UserText,
)
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Session
from duologue.session.error_desk import REPEATED, Decision, end_on_fatal
from tests.session.calls import Relay, Sink, Slow, Top, in_background, running, settled

pytestmark = pytest.mark.virtual_clock


class Upper(Processor):
    """Answers what it handles in capitals."""

    @handles(UserText)
    async def shout(self, frame: UserText) -> None:
        await self.push(UserText(text=frame.text.upper()))


class Listener(Processor):
    """Writes down the signals it hears, but for the states of the session."""

    def __init__(self) -> None:
        self.heard: list[Signal] = []

    @handles(Signal)
    def hear(self, signal: Signal) -> None:
        if not isinstance(signal, StateChanged):
            self.heard.append(signal)


class Failing(Processor):
    """Raises at every text."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @handles(UserText)
    async def fail(self, frame: UserText) -> None:
        raise self.error


# -- where frames go ---------------------------------------------------------------------------------------------------


async def test_what_is_handled_goes_no_further_unless_it_is_pushed() -> None:
    class Picky(Processor):
        @handles(UserText)
        async def take(self, frame: UserText) -> None:
            if frame.text != "keep":
                await self.push(frame)

    async with running(Picky(), sink := Sink()) as call:
        await call.types("a", "keep", "b")
    assert sink.texts == ["a", "b", "End"]


async def test_what_nobody_handles_passes_everyone() -> None:
    async with running(Upper(), Relay(), sink := Sink()) as call:
        key = Dtmf(digit="5")
        await call.session.send(key)
    assert sink.frames[0] is key


async def test_a_push_returns_when_the_frame_has_been_handled() -> None:
    async with running(Upper(), Upper(), sink := Sink()) as call:
        await call.types("quiet")
        assert sink.texts == ["QUIET"]


async def test_a_control_goes_on_by_itself_even_if_a_handler_sees_it_or_fails() -> None:
    class Sees(Processor):
        def __init__(self) -> None:
            self.seen: list[Configure] = []

        @handles(Configure)
        async def see(self, frame: Configure) -> None:
            self.seen.append(frame)
            raise ServiceError("no such voice")

    async with running(first := Sees(), second := Sees(), sink := Sink()) as call:
        change = Configure(voice="nobody")
        await call.session.send(change)
        assert first.seen == second.seen == [change]
        assert sink.frames == [change]
    assert [error.processor for error in call.errors] == ["Sees", "Sees"]


async def test_a_handler_gets_the_subtypes_of_its_type_and_the_most_specific_handler_wins() -> None:
    class Note(UserText, frozen=True, kw_only=True):
        pass

    class Sorts(Processor):
        def __init__(self) -> None:
            self.got: list[tuple[str, str]] = []

        @handles(Input)
        async def other(self, frame: Input) -> None:
            self.got.append(("any input", type(frame).__name__))

        @handles(UserText)
        async def text(self, frame: UserText) -> None:
            self.got.append(("text", type(frame).__name__))

    async with running(sorts := Sorts()) as call:
        for frame in (Note(text="a"), UserText(text="b"), Dtmf(digit="1")):
            await call.session.send(frame)
    assert sorts.got == [("text", "Note"), ("text", "UserText"), ("any input", "Dtmf")]


async def test_frame_stands_for_everything_but_signals() -> None:
    class All(Processor):
        def __init__(self) -> None:
            self.got: list[str] = []

        @handles(Frame)
        async def take(self, frame: Frame) -> None:
            self.got.append(type(frame).__name__)

    async with running(everything := All()) as call:
        await call.session.send(UserText(text="a"))
        await call.answers("b")
        call.session.broadcast(Idle(seconds=1, owner="caller"))
    assert everything.got == ["UserText", "BotText", "End"]


async def test_a_subclass_overrides_a_handler_without_declaring_it_again() -> None:
    class Whisper(Upper):
        async def shout(self, frame: UserText) -> None:
            await self.push(UserText(text=frame.text.lower()))

    class Silent(Upper):
        shout = None  # type: ignore[assignment]

    async with running(Whisper(), first := Sink()) as call:
        await call.types("Hello")
    async with running(Silent(), second := Sink()) as call:
        await call.types("Hello")
    assert first.texts == ["hello", "End"]
    assert second.texts == ["Hello", "End"]


async def test_one_method_may_handle_one_type_in_both_directions() -> None:
    class Both(Processor):
        def __init__(self) -> None:
            self.got: list[str] = []

        @handles(UserText)
        @handles(UserText, upstream=True)
        async def take(self, frame: UserText) -> None:
            self.got.append(frame.text)

    async with running(both := Both(), relay := Relay()) as call:
        await call.types("down")
        await relay.push_up(UserText(text="up"))
    assert both.got == ["down", "up"]


async def test_upstream_frames_go_up_to_upstream_handlers_only() -> None:
    async with running(top := Top(), upper := Upper(), below := Relay(), sink := Sink()):
        await below.push_up(UserText(text="from below"))
        await upper.push_up(UserText(text="from the middle"))
        assert top.texts == ["from below", "from the middle"]
        assert sink.frames == []
        await top.push_up(UserText(text="beyond the top"))


async def test_an_application_sends_its_own_frames_through() -> None:
    class Mood(Input, frozen=True, kw_only=True):
        valence: float

    class Reads(Processor):
        @handles(Mood)
        async def read(self, frame: Mood) -> None:
            await self.push(UserText(text=f"{frame.valence:+}"))

    async with running(Reads(), sink := Sink()) as call:
        await call.session.send(Mood(valence=0.5))
    assert sink.texts == ["+0.5", "End"]


async def test_what_is_no_frame_cannot_be_pushed() -> None:
    class Homeless(Frame, frozen=True, kw_only=True):
        pass

    async with running(relay := Relay(), sink := Sink()) as call:
        with pytest.raises(BadInput, match="Relay pushed str, which is not a frame"):
            await relay.push("hello")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="Homeless is not a frame"):
            await call.session.send(Homeless())
    assert sink.texts == ["End"]


async def test_a_processor_outside_a_session_cannot_push() -> None:
    with pytest.raises(IllegalState, match="UserText was pushed outside a running session"):
        await Relay().push(UserText(text="a"))
    with pytest.raises(IllegalState, match="Relay is not part of a session"):
        _ = Relay().session


async def test_passing_a_processor_by_costs_no_call() -> None:
    """The route leads straight to the handler: a hundred processors that pass on add no frame to the stack."""

    class Depth(Processor):
        def __init__(self) -> None:
            self.depth = 0

        @handles(BotAudio)
        async def measure(self, frame: BotAudio) -> None:
            import sys

            frame_object, self.depth = sys._getframe(), 0
            while frame_object.f_back is not None:
                frame_object, self.depth = frame_object.f_back, self.depth + 1

    async def depth_behind(count: int) -> int:
        async with running(*(Upper() for _ in range(count)), depth := Depth()) as call:
            await call.session.send(BotAudio(audio=b"", turn=1))
        return depth.depth

    assert await depth_behind(100) == await depth_behind(0)


# -- stale output ------------------------------------------------------------------------------------------------------


async def test_stale_output_reaches_no_handler_but_the_end_of_its_response_does() -> None:
    async with running(Relay(), sink := Sink()) as call:
        old = call.session.floor.begin()
        call.session.interrupt()
        new = call.session.floor.begin()
        for turn in (old, new):
            await call.answers(f"turn {turn}", turn=turn)
            await call.session.send(ResponseEnded(turn=turn, status="interrupted"))
    assert sink.texts == ["ResponseEnded", "turn 2", "ResponseEnded", "End"]


# -- signals -----------------------------------------------------------------------------------------------------------


async def test_a_broadcast_reaches_everyone_before_it_returns() -> None:
    async with running(*(ears := [Listener(), Listener(), Listener()])) as call:
        heard: list[Idle] = []
        call.session.on(Idle, heard.append)
        signal = Idle(seconds=3, owner="caller")
        ears[1].broadcast(signal)
        assert [ear.heard[-1] for ear in ears] == [signal] * 3
        assert heard == [signal]


async def test_a_pushed_signal_reaches_those_ahead_and_the_listeners() -> None:
    async with running(above := Listener(), relay := Relay(), below := Listener()) as call:
        heard: list[Signal] = []
        call.session.on(Signal, heard.append)
        down, up = Idle(seconds=1, owner="caller"), Idle(seconds=2, owner="caller")
        await relay.push(down)
        await relay.push_up(up)
        assert below.heard[-1] is down
        assert above.heard[-1] is up
        assert heard == [down, up]


async def test_usage_is_counted_however_it_is_sent() -> None:
    async with running(relay := Relay()) as call:
        await relay.push(Usage(service="s", input_tokens=1))
        relay.broadcast(Usage(service="s", input_tokens=2))
        await call.session.send(Usage(service="s", input_tokens=4))
        assert call.session.usage.by_service[("s", "")].input_tokens == 7


async def test_a_signal_overtakes_full_lanes() -> None:
    async with running(Slow(10, capacity=1), Slow(10, capacity=1), ear := Listener(), ends=False) as call:
        await call.types("working", "waiting")
        pusher = await in_background(call.types, "at the door")
        assert not pusher.done()
        await call.session.send(Idle(seconds=0, owner="agent"))
        assert isinstance(ear.heard[-1], Idle)
        assert call.session.now() < 1
    await pusher


async def test_the_most_specific_handler_of_a_signal_hears_it_once() -> None:
    class Specific(Listener):
        @handles(Interrupted)
        def interrupted(self, signal: Interrupted) -> None:
            self.heard += [signal, signal]

    async with running(ear := Specific()) as call:
        call.session.interrupt()
    kinds = [type(signal).__name__ for signal in ear.heard]
    assert kinds == ["SessionStarted", "Interrupted", "Interrupted", "SessionEnding"]


async def test_an_async_handler_of_a_signal_runs_in_a_task_of_its_own() -> None:
    class Thinks(Processor):
        def __init__(self) -> None:
            self.thoughts: list[float] = []

        @handles(Idle)
        async def think(self, signal: Idle) -> None:
            await anyio.sleep(signal.seconds)
            self.thoughts.append(self.session.now())

    async with running(thinks := Thinks()) as call:
        for seconds in (2.0, 1.0):
            thinks.broadcast(Idle(seconds=seconds, owner="agent"))
        assert thinks.thoughts == []
        await anyio.sleep(3)
        assert thinks.thoughts == [1.0, 2.0]
        assert call.errors == []


async def test_a_listener_may_be_a_coroutine_in_any_dress() -> None:
    heard: list[str] = []

    async def note(name: str) -> None:
        heard.append(name)

    class Dressed:
        async def __call__(self, signal: Idle) -> None:
            await note("object")

    async with running(Relay()) as call:
        call.session.on(Idle, lambda _: note("lambda"))
        call.session.on(Idle, Dressed())
        call.session.broadcast(Idle(seconds=1, owner="caller"))
        await settled()
    assert sorted(heard) == ["lambda", "object"]


async def test_only_signals_can_be_listened_to() -> None:
    with pytest.raises(ConfigurationError, match=r"UserText.* is not a signal: use observe"):
        Session(Relay()).on(UserText, print)  # type: ignore[type-var]


# -- taps --------------------------------------------------------------------------------------------------------------


async def test_a_tap_sees_every_push_and_nothing_stale() -> None:
    seen: list[tuple[str, str, str]] = []
    async with running(relay := Relay(), Slow(0), sink := Sink()) as call:
        await call.types("before")
        await settled()
        stop = call.session.observe(
            lambda processor, direction, frame: seen.append((processor.name, direction, getattr(frame, "text", "-")))
        )
        await call.types("hi")
        await settled()
        await relay.push_up(UserText(text="up"))
        call.session.floor.begin()
        call.session.interrupt()
        await call.answers("stale", turn=1)
        stop()
        stop()
        await call.types("after")
        await settled()
        assert sink.texts == ["before", "hi", "after"]
    assert seen == [
        ("Pipeline", "down", "hi"),
        ("Relay", "down", "hi"),
        ("Slow", "down", "hi"),
        ("Relay", "up", "up"),
        ("Pipeline", "down", "-"),  # Interrupted
    ]


async def test_two_taps_see_the_same_and_one_that_fails_harms_neither_the_other_nor_the_frame() -> None:
    seen: list[str] = []

    def broken(processor: Processor, direction: str, frame: Frame) -> None:
        raise ValueError("the disk is full")

    async with running(sink := Sink(), may_fail=True) as call:
        call.session.observe(broken)
        call.session.observe(lambda processor, direction, frame: seen.append(type(frame).__name__))
        await call.types("hi")
        assert sink.texts == ["hi"]
        assert "UserText" in seen
        assert {error.processor for error in call.errors} == {"observe"}


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "category"),
    [(ServiceError("down"), "service"), (ToolError("broken"), "tool"), (KeyError("oops"), "internal")],
)
async def test_an_error_names_its_processor_and_what_it_was_doing(error: Exception, category: str) -> None:
    async with running(Failing(error), sink := Sink(), may_fail=True) as call:
        await call.types("hi")
        [raised] = call.errors
        assert (raised.processor, raised.category, raised.fatal) == ("Failing", category, False)
        assert str(error) in raised.message
        assert "while handling UserText" in raised.message
        await call.answers("the pusher goes on")
        assert sink.texts == ["the pusher goes on"]


async def test_the_log_of_an_error_holds_no_words_of_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(Failing(ServiceError("down"))) as call:
        await call.types("my card number is 4111")
    assert "Failing" in caplog.text
    assert "4111" not in caplog.text


async def test_an_error_without_words_is_named_by_its_type() -> None:
    async with running(Failing(ZeroDivisionError()), may_fail=True) as call:
        await call.types("hi")
        assert call.errors[0].message.startswith("ZeroDivisionError")


async def test_an_error_from_a_task_group_is_shown_as_what_it_was() -> None:
    async with running(Failing(ExceptionGroup("tasks", [ExceptionGroup("more", [ServiceError("down")])]))) as call:
        await call.types("hi")
        assert (call.errors[0].category, call.errors[0].message[:4]) == ("service", "down")


async def test_waiting_for_something_that_is_cancelled_is_an_error_like_any_other() -> None:
    class Waits(Processor):
        @handles(UserText)
        async def wait(self, frame: UserText) -> None:
            job = asyncio.create_task(asyncio.sleep(10))
            asyncio.get_running_loop().call_later(1, job.cancel)
            await job

    async with running(Waits(), sink := Sink(), may_fail=True) as call:
        await call.types("hi")
        [raised] = call.errors
        assert (raised.processor, raised.category) == ("Waits", "internal")
        await call.answers("the pusher goes on")
        assert sink.texts == ["the pusher goes on"]


async def test_a_failing_handler_of_errors_is_not_told_of_its_own_error() -> None:
    class Worries(Processor):
        def __init__(self) -> None:
            self.calls = 0

        @handles(ErrorRaised)
        def worry(self, signal: ErrorRaised) -> None:
            self.calls += 1
            raise ValueError("and now this")

    class Frets(Processor):
        def __init__(self) -> None:
            self.calls = 0

        @handles(ErrorRaised)
        async def worry(self, signal: ErrorRaised) -> None:
            self.calls += 1
            await anyio.sleep(1)
            raise ValueError("and now this")

    async with running(now := Worries(), later := Frets(), Failing(ServiceError("down")), may_fail=True) as call:
        await call.types("one", "two")
        await anyio.sleep(60)
        assert now.calls == later.calls == 2
        assert len(call.errors) == 2


async def test_a_handler_of_errors_that_causes_another_error_each_time_hears_of_some() -> None:
    class Echo(Processor):
        @handles(ErrorRaised)
        def hear(self, signal: ErrorRaised) -> None:
            self.broadcast(Idle(seconds=1, owner="agent"))

        @handles(Idle)
        def idle(self, signal: Idle) -> None:
            raise ValueError("again")

    async with running(Echo(), Failing(ServiceError("down")), may_fail=True) as call:
        await call.types("hi")
        assert [error.processor for error in call.errors] == ["Failing", *["Echo"] * REPEATED]
        await call.types("still there?")
        assert call.errors[REPEATED + 1].processor == "Failing"


async def test_an_error_that_is_reported_while_another_is_told_is_told_and_decided_too() -> None:
    problem = ServiceError("no engine is left")

    class GivesUp(Processor):
        @handles(ErrorRaised)
        def hear(self, signal: ErrorRaised) -> None:
            if not signal.fatal:
                self.session.report(problem, self.name, fatal=True)

    asked: list[str] = []

    def policy(error: ErrorRaised) -> Decision:
        asked.append(error.message)
        return end_on_fatal(error)

    async with running(GivesUp(), Failing(ServiceError("down")), on_error=policy, ends=False, may_fail=True) as call:
        await call.types("hi")
        assert [(error.processor, error.fatal) for error in call.errors] == [("Failing", False), ("GivesUp", True)]
        await anyio.sleep(1)
    assert (call.outcome.reason, call.outcome.error) == ("error", problem)
    assert asked == ["down (while handling UserText)", "no engine is left"]


async def test_the_default_policy_goes_on_unless_the_error_is_fatal() -> None:
    async with running(Failing(ServiceError("down")), may_fail=True) as call:
        await call.types("one", "two")
        assert len(call.errors) == 2
    assert (call.outcome.reason, call.outcome.error) == ("ended", None)

    async with running(relay := Relay(), ends=False, may_fail=True) as call:
        problem = ServiceError("the line is dead")
        call.session.report(problem, relay.name, fatal=True)
        await anyio.sleep(1)
    assert (call.outcome.reason, call.outcome.error) == ("error", problem)


@pytest.mark.parametrize(("decision", "delivered"), [("end", ["before", "End"]), ("cancel", [])])
async def test_the_policy_decides_how_the_call_ends(decision: Any, delivered: list[str]) -> None:
    problem = ServiceError("down")
    async with running(Slow(1), sink := Sink(), on_error=lambda _: decision, ends=False, may_fail=True) as call:
        await call.types("before")
        call.session.report(problem, "Slow")
        await anyio.sleep(5)
    assert (call.outcome.reason, call.outcome.error) == ("error", problem)
    assert sink.texts == delivered


async def test_the_first_of_many_errors_is_the_one_in_the_outcome() -> None:
    first, second = ServiceError("first"), ServiceError("second")
    async with running(Relay(), on_error=lambda _: "end", ends=False, may_fail=True) as call:
        call.session.report(first, "Relay")
        call.session.report(second, "Relay")
        await anyio.sleep(1)
    assert call.outcome.error is first


async def test_a_policy_that_fails_or_babbles_is_the_default_policy(caplog: pytest.LogCaptureFixture) -> None:
    def fails(error: ErrorRaised) -> Any:
        raise KeyError("policy")

    policies: list[Any] = [fails, lambda _: "explode"]
    for policy in policies:
        async with running(Failing(ServiceError("down")), on_error=policy) as call:
            await call.types("hi")
            assert len(call.errors) == 1
        assert call.outcome.reason == "ended"
        assert "on_error" in caplog.text
        caplog.clear()


async def test_what_a_spawned_task_raises_is_its_owners_error() -> None:
    async def explode() -> None:
        await anyio.sleep(1)
        raise ServiceError("boom")

    async def wait_for_the_cancelled() -> None:
        job = asyncio.create_task(asyncio.sleep(10))
        job.cancel()
        await job

    async with running(relay := Relay(), may_fail=True) as call:
        relay.spawn(explode)
        relay.spawn(wait_for_the_cancelled)
        await anyio.sleep(2)
        assert sorted((error.processor, error.category) for error in call.errors) == [
            ("Relay", "internal"),
            ("Relay", "service"),
        ]


async def test_news_comes_in_order() -> None:
    async with running(ear := Listener()):
        pass
    started, ending = ear.heard
    assert isinstance(started, SessionStarted)
    assert ending == SessionEnding(reason="ended")


def test_a_call_that_is_not_running_starts_no_task() -> None:
    session = Session(Pipeline([relay := Relay()]))

    async def never() -> None:
        raise AssertionError

    with pytest.raises(IllegalState, match=r"Relay cannot start a task: session .* is new"):
        relay.spawn(never)
    assert session.now() == 0.0
