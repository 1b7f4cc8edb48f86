"""A native engine behind the endpoint: from one client of the Realtime API through us to another server of it."""

from __future__ import annotations

import anyio

from duologue import Pipeline, Session
from duologue.processors.tools import Tools
from duologue.services.openai import OpenAIRealtime
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import Act, CallTool, Speak
from duologue.web.realtime.transport import RealtimeTransport
from tests.testing.scripted.openai_client import silence
from tests.web.realtime.calls import call, speech

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def test_a_native_engine_is_served_as_a_cascade_is() -> None:
    answers: list[list[Act]] = [
        [Speak("Hello to you.", seconds=1.0)],
        [CallTool("get_weather", {"city": "Oslo"}, call_id="c1")],
        [Speak("one two three four five six seven eight", seconds=4.0)],
        [Speak("A long story. " * 5, seconds=10.0, pace=1.0)],
        [Speak("All right.")],
    ]
    transcripts = ["hello", "the weather please", "a story", "stop"]
    async with ScriptedOpenAI(answers, transcripts=transcripts) as provider:

        def make(transport: RealtimeTransport) -> Session:
            engine = OpenAIRealtime(model="gpt-realtime-2.1", api_key="test", base_url=provider.url)
            parts = [transport.input(), transport.turns(), engine, transport.client_tools(), Tools()]
            return Session(Pipeline([*parts, transport.output()]))

        async with call(make) as client:
            await client.update(audio={"input": {"transcription": {"model": "any"}}}, tools=[WEATHER])
            await client.speak(speech(1.0) + silence(1.5))
            await client.until("response.done")
            await anyio.sleep(1)
            said = client.all("conversation.item.input_audio_transcription.completed")
            assert [event["transcript"] for event in said] == ["hello"]
            assert len(client.audio()) == 24_000 * 2

            await client.speak(speech(1.0) + silence(1.5))
            await client.until("response.function_call_arguments.done")
            await client.until("response.done")
            await client.send(
                "conversation.item.create", item={"type": "function_call_output", "call_id": "c1", "output": "rain"}
            )
            await client.send("response.create")
            item = (await client.until("response.done"))["response"]["output"][0]
            assert provider.got[0].results == [("c1", "rain")]

            # The provider forgets the words that the client has not played.
            await client.connection.conversation.item.truncate(item_id=item["id"], content_index=0, audio_end_ms=2000)
            await client.until("conversation.item.truncated")
            await anyio.sleep(0.1)
            assert [end_ms for _, end_ms in provider.got[0].truncated] == [2000]
            assert provider.got[0].history[-1].text == "one two three four"

            await client.speak(speech(1.0) + silence(2.5))
            await client.speak(speech(1.0) + silence(1.5))
            cancelled = (await client.until("response.done"))["response"]
            assert cancelled["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
            answer = (await client.until("response.done"))["response"]
            assert answer["output"][0]["content"][0]["transcript"] == "All right."
