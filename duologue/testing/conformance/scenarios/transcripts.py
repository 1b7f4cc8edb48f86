"""E3: a transcript of both sides, in order."""

from __future__ import annotations

from random import Random

from ....frames import BotText, EndOfTurn, ResponseStarted, SpeechStarted, UserText, UserTranscript
from ...scripted.server import Speak, Wait
from ..call import calling, spoken_by
from ..phrases import HELLO, LONDON, STORY, THANKS, WEATHER
from ..rig import Conditions, Rig
from ..suite import scenario


@scenario("E3")
async def both_sides_are_written_down(rig: Rig, random: Random) -> None:
    """The log has the words of both sides in their order, with the times at which they were spoken."""
    answers = ["Hello.", "It is sunny.", "It rains."]
    async with rig.start([[Speak(text)] for text in answers]) as far:
        async with calling(rig, far) as call:
            lines = []
            for phrase in (HELLO, WEATHER, LONDON):
                lines.append(await call.says(phrase))
                await call.hears()
        items = [item for item in call.session.conversation if item.kind == "message"]
        assert call.log == [
            f"caller: {HELLO}", "agent: Hello.", f"caller: {WEATHER}", "agent: It is sunny.", f"caller: {LONDON}",
            "agent: It rains.",
        ]  # fmt: skip
        assert [item.status for item in items] == ["complete"] * 6
        final = [frame for frame in call.came(UserTranscript) if frame.final]
        assert [frame.text for frame in final] == [HELLO, WEATHER, LONDON]
        assert "".join(frame.text for frame in call.came(BotText)).replace(" ", "") == "".join(answers).replace(" ", "")
        assert len(call.came(SpeechStarted)) <= 3
        assert len(call.came(EndOfTurn)) <= 3
        for line, item in zip(lines, items[::2], strict=True):
            assert line.start_s - 0.7 <= item.at <= line.end_s + 2.0, f"{item.text}: {line.start_s} and {item.at}"
        assert all(line in (HELLO, WEATHER, LONDON) for line in spoken_by(far.history, "user") if line)


@scenario("E3")
async def interim_transcripts_do_not_enter_the_log(rig: Rig, random: Random) -> None:
    """Interim texts precede the final one, which replaces them; each turn has one final text."""
    async with rig.start([[Speak("Hello.")], [Speak("Sunny.")]]) as far:
        async with calling(rig, far) as call:
            await call.asks(WEATHER)
            await call.asks(THANKS)
        came = call.came(UserTranscript)
        assert [frame.text for frame in came if frame.final] == [WEATHER, THANKS]
        assert came[-1].final
        if rig.interim:
            assert any(not frame.final for frame in came), "there are interim transcripts"
            assert any(frame.text and WEATHER.startswith(frame.text.strip()) for frame in came if not frame.final)
        assert call.said_by_caller == [WEATHER, THANKS]


@scenario("E3", faults=["late_transcript"])
async def a_late_transcript_stands_at_its_turn(rig: Rig, random: Random) -> None:
    """A transcript that arrives during its answer stands before that answer in the log."""
    long = "Well, there is much to say about that, and I will begin at the beginning of it all."
    async with rig.start([[Speak(long)], [Speak("You are welcome.")]], Conditions(transcript_delay_s=2.0)) as far:
        async with calling(rig, far) as call:
            await call.says(STORY)
            began = await call.agent_begins()
            assert call.said_by_caller in ([], [""]), "the transcript is late"
            await call.hears()
            (told,) = (at for at, f in call.probe.frames if isinstance(f, UserTranscript) and f.final)
            assert told > began
            await call.asks(THANKS)
            await call.waits(2.5)
        assert call.log == [f"caller: {STORY}", f"agent: {long}", f"caller: {THANKS}", "agent: You are welcome."]
        turns = [item.turn for item in call.session.conversation]
        assert turns[0] == turns[1] < turns[2] == turns[3]


@scenario("E3", faults=["late_transcript"])
async def late_transcripts_of_quick_turns_keep_their_order(rig: Rig, random: Random) -> None:
    """Two transcripts that arrive after the second answer has begun stand in their order."""
    model = [[Speak("One.")], [Speak("Two, and a little more of it.")]]
    async with rig.start(model, Conditions(transcript_delay_s=4.0)) as far:
        async with calling(rig, far) as call:
            await call.says(HELLO)
            await call.agent_begins()
            await call.waits(0.8)
            await call.asks(THANKS)
            await call.waits(4.0)
        assert call.log == [
            f"caller: {HELLO}",
            "agent: One.",
            f"caller: {THANKS}",
            "agent: Two, and a little more of it.",
        ]


@scenario("E3", can=lambda can: can.text_input, refused=None)
async def typed_text_is_part_of_the_conversation(rig: Rig, random: Random) -> None:
    """Typed text between spoken turns is logged, known to the model and answered."""
    async with rig.start([[Speak("Hello.")], [Speak("A nice name.")], [Speak("Sunny.")]]) as far:
        async with calling(rig, far) as call:
            await call.asks(HELLO)
            await call.session.send(UserText(text="My name is Zoe."))
            await call.hears()
            await call.asks(WEATHER)
        assert call.log == [
            f"caller: {HELLO}", "agent: Hello.", "caller: My name is Zoe.", "agent: A nice name.",
            f"caller: {WEATHER}", "agent: Sunny.",
        ]  # fmt: skip
        assert any("My name is Zoe." in message.text for message in far.history if message.role == "user")


@scenario("E3")
async def two_pieces_of_one_turn_are_one_turn(rig: Rig, random: Random) -> None:
    """A short pause does not split a turn: both parts are heard, and answered once."""
    async with rig.start([[Wait(0.1), Speak("Yes to both.")], [Speak("Too much.")]]) as far:
        async with calling(rig, far) as call:
            first = await call.says(HELLO)
            await call.waits(0.15)
            second = await call.says(THANKS)
            await call.hears()
        assert call.heard_by_engine(first)
        assert call.heard_by_engine(second)
        assert " ".join(call.said_by_caller) == f"{HELLO} {THANKS}"
        assert len(call.came(ResponseStarted)) == 1
