"""A spoken call by the page, over each transport: heard, understood, answered aloud, handed over and interrupted.

The microphone plays a file, so each line has its time; the agents are the demo's, the speech is the offline services'.
The measurements are kept beside the screenshots, as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import expect

from duologue.processors.turns.evidence import InterruptionPolicy

from .browser import Message, Sound, opened
from .microphone import duration_s, spoken, write_microphone
from .page import PageCall, plain, understood, utterances
from .server import Server

SCRIPT = {
    6.5: "what are your opening hours",
    11.6: "thank you that is enough",
    19.0: "can i speak to billing",
    30.0: "how much do i owe",
}
INTERRUPTS_AT = 11.6  # in the middle of a sentence: a pause of the agent's own would look like obedience
HOURS = "We are open from Monday to Friday, from nine in the morning until six in the evening."
AFTER_IT = "All right. What else can I do for you?"
FAREWELL = "One moment, I put you through to billing."
BILLING = "Hello, you are speaking with billing. What would you like to know?"
OWED = "You owe forty two dollars. It is due on Friday."
GREETING = "Hello, this is the corner shop. How can I help you?"
SILENT_WITHIN_MS = 150


@pytest.mark.real_clock
@pytest.mark.parametrize("transport", ["webrtc", "websocket"])
async def test_a_spoken_call(chromium: str, server: Server, artifacts: Path, tmp_path: Path, transport: str) -> None:
    wav = write_microphone(tmp_path / "microphone.wav", SCRIPT)
    async with opened(chromium, f"{server.url}/?transport={transport}", microphone=wav) as tab:
        call = PageCall(tab)
        await call.talk()
        await expect(call.shown("agent")).to_have_text("Reception")
        await call.says("caller", SCRIPT[INTERRUPTS_AT])
        await call.picture(artifacts / f"{transport}-interrupted.png")
        await expect(call.shown("agent")).to_have_text("Billing")
        await call.says("agent", OWED)
        await call.picture(artifacts / f"{transport}-billing.png")

        await expect(call.shown("latency")).to_contain_text(" ms")
        captions = await call.captions()
        assert [caption.text for caption in captions if caption.role == "caller"] == list(SCRIPT.values())
        assert all(caption.final for caption in captions if caption.role == "caller")
        for agent in ("Reception", "Billing"):
            await expect(call.shown("timeline")).to_contain_text(agent)
            assert agent in {caption.agent for caption in captions if caption.role == "agent"}

        [(cut, heard)] = [
            (caption, entry["heard"])
            for caption in captions
            for entry in await call.events(server, "interrupted")
            if caption.role == "agent" and caption.text.startswith("We are open") and entry["heard"]
        ]
        assert cut.text == heard.strip(), "the caption holds what was heard, and no word more"
        assert HOURS.startswith(cut.text)
        assert cut.text != HOURS
        assert not cut.unheard

        await call.hang_up()
        assert (await server.until("ended", await call.session()))["rows"]
        sound, said, messages = await tab.heard(), await tab.said(), await tab.messages()
        assert tab.errors == []

    sound.keep(artifacts / f"{transport}-heard.wav")
    _check_barge_in(sound, said, messages, artifacts / f"{transport}-barge-in.json")
    answers = understood(sound, [GREETING, AFTER_IT, FAREWELL, BILLING, OWED])
    for answer in (AFTER_IT, OWED):
        assert plain(answer) in answers, f"what was received does not sound like {answer!r}: {answers}"
    [(start, end)] = [span for span, text in zip(utterances(sound), answers, strict=True) if text == plain(OWED)]
    assert (end - start) / 1000 == pytest.approx(len(spoken(OWED, "en-gb+m3")) / 2 / 22_050, rel=0.25)


def _check_barge_in(sound: Sound, said: Sound, messages: list[Message], kept: Path) -> None:
    """The agent falls silent, in the page, within `SILENT_WITHIN_MS` after the page receives the message to be silent.

    Beside that the silence is measured from the speech itself, as the microphone hears it: from when there have been
    200 ms of it, which is what the decision needs. That has in it the time that the speech takes to the server.
    """
    [onset] = [start for start, end in said.loud() if _is_line(said, start, INTERRUPTS_AT)]
    silent_at = max(end for start, end in sound.loud() if start < onset)
    told_at = next(message.at for message in messages if message.at > onset and message.type == "duologue.hold")
    figures = {
        "silent_after_being_told_ms": round(silent_at - told_at),
        "silent_after_200_ms_of_speech_ms": round(silent_at - onset - InterruptionPolicy().speaking.min_speech_ms),
    }
    kept.write_text(json.dumps(figures, indent=2) + "\n")
    assert silent_at > onset, "the agent had fallen silent before it was interrupted"
    assert silent_at - told_at <= SILENT_WITHIN_MS, figures
    line_ends_at = onset + 1000 * duration_s(SCRIPT[INTERRUPTS_AT])
    assert not [start for start, end in sound.loud() if silent_at < start < line_ends_at], "it spoke into the line"


def _is_line(said: Sound, start_ms: float, at_s: float) -> bool:
    """True if the microphone's audio from here on is the line at this time of its file."""
    first = said.loud()[0][0]
    return abs((start_ms - first) / 1000 - (at_s - min(SCRIPT))) < 0.7
