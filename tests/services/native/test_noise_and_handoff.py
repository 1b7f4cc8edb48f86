"""Noise that was taken for speech, and that the provider ignored, does not hold up a hand-off."""

from __future__ import annotations

import random

from duologue import Agent, Handoff, Pipeline, Session, Tools
from duologue.frames import HandoffCompleted, UserText
from duologue.services.google import GeminiLive
from duologue.testing import BareCall, ScriptedGemini
from duologue.testing.scripted.server import Act, Asked, CallTool, Speak
from duologue.transports import MemoryTransport

RATE = 24_000


async def test_a_hand_off_after_noise_waits_for_no_transcript() -> None:
    def model(asked: Asked) -> list[Act]:
        if not any("Bob, please" in message.text for message in asked.history) or "are Bob" in asked.instructions:
            return [Speak("Hello.", 0.5)]
        return [CallTool("handoff_conversation", {"target": "Bob", "reason": "Asked for.", "summary": "None."})]

    async with ScriptedGemini(model, turn_detection="told") as server:
        engine = GeminiLive(api_key="test", base_url=server.url, ssl_context=server.ssl_context)
        line = MemoryTransport(RATE)
        agents = [Agent(name="Ann", voice="Kore"), Agent(name="Bob", instructions="You are Bob.", voice="Puck")]
        session = Session(Pipeline([line.input(), engine, Handoff(agents), Tools(), line.output()]))
        async with BareCall(session) as call:
            # The first seconds of loud noise count as speech, for us but not for the provider.
            hiss = random.Random(1).randbytes(RATE // 50 * 2)
            asked_at = 7.0
            for beat in range(50 * 12):
                if beat == 50 * asked_at:
                    line.send_frame(UserText(text="Bob, please."))
                line.send(hiss)
                await call.waits(0.02)
            [handed_over_at] = call.times(HandoffCompleted)
            assert asked_at < handed_over_at < asked_at + 1.0
