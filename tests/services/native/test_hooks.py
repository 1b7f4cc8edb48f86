"""Changes to a call with a native engine: hooks, which the audio does not wait for, and injected text."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from duologue.frames import BotText, Interrupted, ResponseEnded, ToolCall, Transcribed, UserText, UserTranscript
from duologue.processors.tools import Tools
from duologue.session import Session
from duologue.session.rows import Row, RowEvent, Rows
from duologue.testing.scripted.server import Act, CallTool, Speak
from tests.services.native.calls import MODES, PROVIDERS, CountedCall, Provider, calling


def transcribed(session: Session) -> list[Transcribed]:
    signals: list[Transcribed] = []
    session.on(Transcribed, signals.append)
    return signals


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("manual", MODES)
async def test_native_engines_log_and_tell_the_changed_text(provider: Provider, manual: bool) -> None:
    behaviour = {"transcripts": ["my card is 4242"]}
    async with calling(provider, [[Speak("Thanks.", seconds=0.4)]], manual=manual, behaviour=behaviour) as call:
        heard = transcribed(call.session)

        def without_numbers(frame: UserTranscript) -> UserTranscript:
            return msgspec.structs.replace(frame, text=frame.text.replace("4242", "[number]"))

        call.session.intercept(UserTranscript, without_numbers)
        await call.says()
        await call.hears(1)
        assert call.understood == ["my card is [number]"]
        assert [signal.text for signal in heard if signal.final] == ["my card is [number]"]
        assert not any("4242" in signal.text for signal in heard)
        assert call.errors == []


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_native_engines_leave_blocked_words_out_of_the_log(provider: Provider) -> None:
    behaviour = {"transcripts": ["my card is 4242", "thank you"]}
    answers = [[Speak("Yes.", seconds=0.4)], [Speak("Bye.", seconds=0.4)]]
    async with calling(provider, answers, behaviour=behaviour) as call:
        heard = transcribed(call.session)

        async def block(frame: UserTranscript) -> UserTranscript | None:
            await anyio.sleep(0.05)
            return None if "4242" in frame.text else frame

        call.session.intercept(UserTranscript, block)
        await call.says()
        await call.hears(1)
        await call.says()
        await call.hears(2)
        assert [text for text in call.understood if text] == ["thank you"]
        assert not any("4242" in signal.text for signal in heard)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_native_engines_calls_are_asked_about_too(provider: Provider) -> None:
    paid: list[int] = []

    async def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    def at_most_three(call: ToolCall) -> ToolCall:
        return msgspec.structs.replace(call, arguments={"amount": min(3, call.arguments["amount"])})

    model: list[list[Act]] = [[CallTool("pay", {"amount": 5})], [Speak("Done.", seconds=0.4)]]
    async with provider.server(model) as server:
        engine = provider.engine(server)
        async with CountedCall(provider, server, engine, engine, Tools([pay])) as call:
            call.session.intercept(ToolCall, at_most_three)
            await call.says()
            await call.hears(1)
            assert paid == [3]
            assert [item.data for item in call.session.conversation if item.kind == "tool_result"] == ["paid"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_supervisors_text_is_whispered_under_his_name(provider: Provider) -> None:
    async with calling(provider, [[Speak("Hello.", seconds=0.4)]]) as call:
        rows: list[RowEvent] = []
        Rows(call.session, "coalesce").listen(rows.append)
        await call.session.send(UserText(text="Be brief.", author="supervisor", respond=False))
        await call.waits(1.0)
        assert call.came(ResponseEnded) == []
        (item,) = call.session.conversation
        assert (item.text, item.author) == ("Be brief.", "supervisor")
        (row,) = rows
        assert isinstance(row, Row)
        assert (row.message, row.metadata["author"]) == ("Be brief.", "supervisor")
        assert "[supervisor] Be brief." in str(call.server.got[0].messages)
        await call.says()
        await call.hears(1)
        assert call.errors == []


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_blocked_sentence_of_a_native_engine_silences_the_rest_of_the_response(provider: Provider) -> None:
    async with calling(provider, [[Speak("All is well. The secret is out.", seconds=4.0, pace=1.0)]]) as call:
        interruptions: list[Interrupted] = []
        call.session.on(Interrupted, interruptions.append)

        async def block(frame: BotText) -> BotText | None:
            await anyio.sleep(0.05)
            return None if "secret" in frame.text else frame

        call.session.intercept(BotText, block)
        await call.says()
        with anyio.fail_after(10):
            while not interruptions:
                await anyio.sleep(0.02)
        assert interruptions[0].reason == "blocked"
        assert interruptions[0].heard_s < 3.5
        assert call.errors == []


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_sentence_of_a_native_engine_cannot_be_changed(provider: Provider) -> None:
    async with calling(provider, [[Speak("All is well.", seconds=0.4)]]) as call:
        call.session.intercept(BotText, lambda frame: msgspec.structs.replace(frame, text="Nothing is."))
        await call.says()
        await call.hears(1)
        assert not call.engine.capabilities.text_may_change
        assert "a hook can block it, not change it" in call.errors[0].message
        said = [item.text for item in call.session.conversation if item.role == "agent"]
        assert [text.strip() for text in said] == ["All is well."]
