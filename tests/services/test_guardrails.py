"""Guardrails: sentences are checked before they are spoken, while earlier ones play; the log has what was said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from duologue import CallerGuardrail, Cascade, Guardrail, ModelCheck, Tools, Verdict
from duologue.errors import ConfigurationError
from duologue.frames import BotAudio, GuardrailActed, ResponseEnded, ToolCalled, Transcribed, UserText
from duologue.processors import Processor
from duologue.services.guardrails import LINE, Checked
from duologue.session.rows import Row, Rows
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted.server import Speak
from tests.services.native.calls import PROVIDERS, CountedCall, Provider
from tests.services.story import Story, asked, asks, story
from tests.services.test_inside_cascade import agent_items, heard_call

ANSWER = "The shop is open. Take two pills daily. Come by any time. It is near."


def no_pills(words: Checked) -> bool:
    return "pills" not in words.text


def cascade(
    spoken: Sequence[Processor] = (), *, heard: Sequence[Processor] = (), answer: Any = ANSWER, said: str = "hello"
) -> Cascade:
    return Cascade(
        MockSTT([said]), MockLLM([answer], token_s=0.02), MockTTS(seconds_per_sentence=1.0), heard=heard, spoken=spoken
    )


def signals(call: Story) -> list[GuardrailActed]:
    found: list[GuardrailActed] = []
    call.session.on(GuardrailActed, found.append)
    return found


async def told(engine: Cascade, *rest: Processor) -> tuple[Story, list[GuardrailActed]]:
    """The call after one answer, and what the guardrails did."""
    async with heard_call(engine, *rest, may_fail=True) as call:
        acted = signals(call)
        await call.says()
        await call.waits_until(9)
    return call, acted


# -- what is spoken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guardrail", "spoken", "action"),
    [
        (Guardrail(no_pills), f"The shop is open. {LINE} Come by any time. It is near.", "replaced"),
        (
            Guardrail(no_pills, line="Ask a doctor."),
            "The shop is open. Ask a doctor. Come by any time. It is near.",
            "replaced",
        ),
        (Guardrail(no_pills, action="drop"), "The shop is open. Come by any time. It is near.", "dropped"),
        (Guardrail(no_pills, action="stop"), f"The shop is open. {LINE}", "stopped"),
        (Guardrail(lambda words: words.text.replace("pills", "walks")), ANSWER.replace("pills", "walks"), "replaced"),
        (
            Guardrail(lambda words: True if no_pills(words) else Verdict("stop", "Goodbye.", "pills")),
            "The shop is open. Goodbye.",
            "stopped",
        ),
    ],
)
async def test_a_sentence_is_replaced_dropped_or_ends_the_answer(
    guardrail: Guardrail, spoken: str, action: str
) -> None:
    call, acted = await told(cascade([guardrail]))
    ((text, written, status),) = agent_items(call)
    assert text == spoken
    assert (written, status) == (ANSWER, "complete")
    refused = [signal for signal in acted if "pills" in signal.text]
    assert [(signal.action, signal.cause, signal.side) for signal in refused] == [(action, "refused", "agent")]
    assert call.errors == []


async def test_the_line_is_said_once_in_an_answer() -> None:
    call, acted = await told(cascade([Guardrail(lambda words: "open" in words.text)]))
    assert agent_items(call)[0][0] == f"The shop is open. {LINE}"
    assert [signal.action for signal in acted] == ["replaced", "dropped", "dropped"]


async def test_the_check_sees_the_sentence_the_answer_up_to_now_and_the_call() -> None:
    seen: list[tuple[str, str, str]] = []

    async def look(words: Checked) -> bool:
        seen.append((words.text, words.before, words.session.conversation.rows()[0]["message"]))
        return True

    await told(cascade([Guardrail(look)]))
    assert seen[0] == ("The shop is open.", "", "hello")
    assert seen[2] == ("Come by any time.", "The shop is open. Take two pills daily.", "hello")


async def test_an_answer_that_is_stopped_calls_no_tool() -> None:
    ran: list[str] = []

    def order() -> str:
        ran.append("order")
        return "done"

    engine = cascade([Guardrail(no_pills, action="stop")], answer=["Take two pills.", asks("order")])
    async with heard_call(engine, Tools([order])) as call:
        called: list[ToolCalled] = []
        call.session.on(ToolCalled, called.append)
        await call.says()
        await call.waits_until(6)
        assert call.is_quiet()
    assert (ran, called) == ([], [])
    assert call.log[-1] == 'tool_result c1: {"error":"refused: the answer was stopped"}'


async def test_a_tool_call_waits_for_the_checks_of_the_text_before_it() -> None:
    def order() -> str:
        return "done"

    engine = cascade([Guardrail(no_pills, name="doctor")], answer=["I order pills", asks("order")])
    async with heard_call(engine, Tools([order])) as call:
        await call.says()
        await call.waits_until(3)
    assert call.log[1:4] == [f"agent: {LINE}", "tool_call c1: {}", "tool_result c1: done"]


# -- time --------------------------------------------------------------------------------------------------------------


def timed(seconds: float) -> Any:
    async def check(words: Checked) -> bool:
        await anyio.sleep(seconds)
        return True

    return check


async def heard_at(spoken: Sequence[Processor]) -> tuple[list[float], float]:
    """The times at which each second of the agent's audio begins to be heard, and the time of its end."""
    pieces: list[tuple[float, float]] = []
    async with heard_call(cascade(spoken)) as call:
        call.session.audio.written.add(lambda pcm, rate, at: pieces.append((at, at + len(pcm) / 2 / rate)))
        await call.says()
        await call.waits_until(9)
    return [round(begin, 6) for begin, _ in pieces], round(pieces[-1][1], 6)


async def test_a_check_of_30_ms_delays_the_first_audio_by_30_ms_and_nothing_else() -> None:
    plain, end = await heard_at([])
    checked, checked_end = await heard_at([Guardrail(timed(0.03))])
    assert len(checked) == len(plain)
    assert checked[0] - plain[0] == pytest.approx(0.03, abs=1e-6)
    assert checked_end - end == pytest.approx(0.03, abs=1e-6)  # four sentences, and one delay


async def test_two_guardrails_in_a_row_keep_the_order_and_cost_two_checks() -> None:
    plain, end = await heard_at([])
    checked, checked_end = await heard_at([Guardrail(timed(0.03)), Guardrail(timed(0.02), name="second")])
    assert checked[0] - plain[0] == pytest.approx(0.05, abs=1e-6)
    assert checked_end - end == pytest.approx(0.05, abs=1e-6)


async def test_two_guardrails_in_a_row_keep_the_spaces() -> None:
    redact = Guardrail(lambda words: words.text.replace("two", "three"))
    refuse = Guardrail(lambda words: "near" not in words.text, line="Ask us.")
    call, acted = await told(cascade([redact, refuse, Guardrail(lambda words: True)]))
    assert agent_items(call)[0][0] == "The shop is open. Take three pills daily. Come by any time. Ask us."
    assert [signal.text for signal in acted] == ["Take two pills daily.", "It is near."]  # what is changed, and no more


async def test_a_sentence_that_ends_in_a_number_is_spoken_as_soon_as_it_is_checked() -> None:
    begun = []
    for spoken in ([], [Guardrail(timed(0.03))]):
        answer = "It costs 3. " + "And this is a rather long sentence about all that follows from it. " * 3
        async with heard_call(cascade(spoken, answer=answer)) as call:
            await call.says()
            await call.waits_until(9)
            begun.append(call.times(BotAudio)[0])
    assert begun[1] - begun[0] <= 0.0301


@pytest.mark.seeds(20)
async def test_sentences_keep_their_order_whatever_their_checks_take() -> None:
    running = most = 0

    async def check(words: Checked) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.4 if "shop" in words.text else 0.01)
        running -= 1
        return True

    call, _ = await told(cascade([Guardrail(check, concurrency=2)]))
    assert agent_items(call)[0][0] == ANSWER
    assert most == 2


# -- checks that fail --------------------------------------------------------------------------------------------------


async def hangs(words: Checked) -> bool:
    await anyio.sleep(60)
    return True


def breaks(words: Checked) -> bool:
    raise RuntimeError("no connection")


def nonsense(words: Checked) -> Any:
    return None


@pytest.mark.parametrize(
    ("check", "option", "cause", "why"),
    [
        (hangs, "when_late", "late", "longer than 0.2 s"),
        (breaks, "when_failed", "failed", "no connection"),
        (nonsense, "when_failed", "failed", "a check returned NoneType"),
        (lambda words: Verdict("answer", "Hm."), "when_failed", "failed", "the action 'answer'"),
    ],
)
@pytest.mark.parametrize("otherwise", ["block", "pass"])
async def test_a_check_that_fails_or_is_late_blocks_or_passes(
    check: Any, option: str, cause: str, why: str, otherwise: str
) -> None:
    options: dict[str, Any] = {option: otherwise}
    call, acted = await told(cascade([Guardrail(check, deadline_s=0.2, **options)]))
    assert agent_items(call)[0][0] == (LINE if otherwise == "block" else ANSWER)
    assert {signal.cause for signal in acted} == {cause}
    assert len(acted) == 4
    assert acted[0].action == ("replaced" if otherwise == "block" else "passed")
    assert why in acted[0].reason
    assert why in call.errors[0].message


RUBBISH: dict[str, Any] = {
    "a text that is a number": lambda: Verdict("replace", 5),  # type: ignore[arg-type]
    "no text": lambda: Verdict("replace"),
    "a blank text": lambda: Verdict("replace", " "),
    "a text that is None": lambda: Verdict("drop", None),  # type: ignore[arg-type]
    "a reason that is a set": lambda: Verdict("drop", "", {1}),  # type: ignore[arg-type]
    "an action that is a list": lambda: Verdict(["drop"]),  # type: ignore[arg-type]
    "None": lambda: None,
}


@pytest.mark.parametrize("name", RUBBISH)
async def test_rubbish_of_a_check_refuses_the_words(name: str) -> None:
    def check(words: Checked) -> Any:
        return RUBBISH[name]()

    call, acted = await told(cascade([Guardrail(check)]))
    assert [text for text, _, _ in agent_items(call)] == [LINE]
    assert {signal.cause for signal in acted} == {"failed"}
    heard, acted = await told(cascade(heard=[CallerGuardrail(check)]))
    assert heard.log == [f"agent: {LINE}"]
    assert [signal.cause for signal in acted] == ["failed"]
    async with heard_call(cascade(heard=[CallerGuardrail(check)]), may_fail=True) as typed:
        await typed.session.send(UserText(text="hello"))
        await typed.waits_until(5)
    assert typed.log == [f"agent: {LINE}"]


async def test_a_blank_text_leaves_the_words_out() -> None:
    call, acted = await told(cascade([Guardrail(lambda words: no_pills(words) or " ")], heard=[]))
    assert agent_items(call)[0][0] == "The shop is open. Come by any time. It is near."
    assert [signal.action for signal in acted] == ["dropped"]
    call, _ = await told(cascade(heard=[CallerGuardrail(lambda words: " ")]))
    assert call.log == []


async def test_an_interruption_cancels_the_checks() -> None:
    ended: list[str] = []

    async def check(words: Checked) -> bool:
        try:
            await anyio.sleep(0.5)
        except BaseException:
            ended.append("cancelled")
            raise
        return True

    async with heard_call(cascade([Guardrail(check)])) as call:
        await call.says()
        await call.waits_until(1.2)
        call.session.interrupt()
        assert call.errors == []
        await call.says()
        await call.waits_until(9)
        assert call.is_quiet()
    assert ended
    assert set(ended) == {"cancelled"}
    assert [status for _, _, status in agent_items(call)] == ["complete"]
    assert [frame.status for frame in call.came(ResponseEnded)] == ["interrupted", "completed"]


async def test_a_call_that_ends_does_not_wait_for_a_check() -> None:
    async with heard_call(cascade([Guardrail(hangs, deadline_s=100)])) as call:
        await call.says()
        await call.waits_until(1.5)
        call.session.cancel()
    assert call.outcome.abandoned == ()


# -- a model -----------------------------------------------------------------------------------------------------------


async def test_a_model_checks_with_the_policy_and_the_call() -> None:
    def judges(request: Any) -> str:
        return "BLOCK It is medical advice." if request.messages[0].text.endswith("pills daily.") else "PASS"

    judge = MockLLM(judges, first_token_s=0.03, token_s=0)
    call, acted = await told(cascade([Guardrail(ModelCheck(judge, "Give no medical advice."))]))
    assert agent_items(call)[0][0] == f"The shop is open. {LINE} Come by any time. It is near."
    assert acted[0].reason == "It is medical advice."
    assert "Give no medical advice." in judge.requests[0].instructions
    assert "caller: hello" in judge.requests[0].messages[0].text
    assert {usage.service for usage in call.session.usage} >= {"MockLLM"}


async def test_a_model_without_a_verdict_has_failed() -> None:
    _, acted = await told(cascade([Guardrail(ModelCheck(MockLLM(["Well, let me see."]), "Be nice."))]))
    assert {signal.cause for signal in acted} == {"failed"}


# -- the caller's words ------------------------------------------------------------------------------------------------


def no_secrets(words: Checked) -> bool:
    return "password" not in words.text


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(
    ("guardrail", "log"),
    [
        (lambda: CallerGuardrail(no_secrets), [f"agent: {LINE}"]),
        (lambda: CallerGuardrail(no_secrets, action="drop"), []),
        (lambda: CallerGuardrail(no_secrets, action="replace", line="hello"), ["caller: hello", "agent: Yes."]),
        (
            lambda: CallerGuardrail(lambda words: words.text.replace("hunter", "…")),
            ["caller: my password is …", "agent: Yes."],
        ),
    ],
)
async def test_words_of_the_caller_are_dropped_answered_or_replaced(
    guardrail: Any, log: list[str], inside: bool
) -> None:
    own, said = guardrail(), "my password is hunter"
    engine = cascade(heard=[own] if inside else (), answer="Yes.", said=said)
    async with story(engine=engine, before=() if inside else (own,)) as call:
        acted, heard = signals(call), list[Transcribed]()
        call.session.on(Transcribed, heard.append)
        await call.says()
        await call.waits_until(6)
        assert call.is_quiet()
    assert call.log == log
    assert len(acted) == 1
    assert all("hunter" not in signal.text for signal in heard)
    requests = engine.llm.requests if isinstance(engine.llm, MockLLM) else []
    assert not any("hunter" in line for request in requests for line in asked(request))


async def test_typed_words_are_checked_and_audio_does_not_wait() -> None:
    engine = cascade(heard=[CallerGuardrail(no_secrets)], answer="Yes.")
    async with heard_call(engine) as call:
        await call.session.send(UserText(text="the password is hunter"))
        await call.waits_until(3)
        await call.session.send(UserText(text="hello"))
        await call.waits_until(6)
        await call.session.send(UserText(text="the password is none", author="supervisor", respond=False))
        await call.waits_until(8)
    assert call.log == [f"agent: {LINE}", "caller: hello", "agent: Yes.", "supervisor: the password is none"]


async def test_many_typed_texts_with_a_check_that_hangs_hold_up_no_speech() -> None:
    async def hang(words: Checked) -> bool:
        await anyio.sleep_forever()
        return True

    guardrail = CallerGuardrail(hang, when_late="pass", deadline_s=0.5)
    async with heard_call(cascade(heard=[guardrail]), may_fail=True) as call:
        sent = anyio.current_time()
        for number in range(200):
            await call.session.send(UserText(text=f"text {number}", respond=False))
        await call.says()
        assert anyio.current_time() - sent < 1
        await call.waits_until(12)
    assert [line for line in call.log if line.startswith("caller: text")] == [f"caller: text {at}" for at in range(64)]
    assert "caller: hello" in call.log
    assert any(error.message.startswith("64 texts are being checked already") for error in call.errors)


async def test_a_caller_is_heard_whose_check_fails_open() -> None:
    engine = cascade(heard=[CallerGuardrail(breaks, when_failed="pass")], answer="Yes.")
    call, acted = await told(engine)
    assert call.log == ["caller: hello", "agent: Yes."]
    assert [(signal.action, signal.cause, signal.side) for signal in acted] == [("passed", "failed", "caller")]


# -- everywhere --------------------------------------------------------------------------------------------------------


async def test_outside_a_cascade_it_checks_by_a_hook() -> None:
    call, acted = await told(cascade(), Guardrail(no_pills))
    assert agent_items(call)[0][0] == f"The shop is open. {LINE} Come by any time. It is near."
    assert len(acted) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_native_engine_is_interrupted_and_says_the_line(provider: Provider) -> None:
    model = [[Speak("All is well. Take two pills.", seconds=4.0, pace=1.0)], [Speak("Ask a doctor.", seconds=0.4)]]
    async with provider.server(model) as server:
        engine = provider.engine(server)
        async with CountedCall(provider, server, engine, engine, Guardrail(no_pills, line="Ask a doctor.")) as call:
            acted: list[GuardrailActed] = []
            call.session.on(GuardrailActed, acted.append)
            await call.says()
            await call.hears(1)
            await call.waits(1)
            said = [item.text for item in call.session.conversation if item.role == "agent"]
            assert "Ask a doctor." in said[-1]
            assert [signal.action for signal in acted] == ["replaced"]
            assert call.errors == []


async def test_a_row_says_that_a_guardrail_acted_without_the_words() -> None:
    async with heard_call(cascade([Guardrail(no_pills, name="pharmacy")])) as call:
        rows = Rows(call.session, "coalesce")
        got: list[Any] = []
        rows.listen(got.append)
        await call.says()
        await call.waits_until(9)
    (row,) = [row for row in got if isinstance(row, Row) and row.metadata.get("name") == "guardrail"]
    assert row.message == "pharmacy replaced: refused"
    assert "pills" not in str(row)


def test_wrong_options_are_refused() -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"action": "answer"},
        {"deadline_s": 0},
        {"concurrency": 0},
        {"when_late": "wait"},
    )
    for options in wrong:
        with pytest.raises(ConfigurationError):
            Guardrail(no_pills, **options)
    with pytest.raises(ConfigurationError, match="cannot be a check"):
        Guardrail("no pills")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="action is 'stop'"):
        CallerGuardrail(no_pills, action="stop")  # type: ignore[arg-type]
