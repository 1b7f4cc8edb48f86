"""Responses out of band, and items in the middle: the official client gets what it asks for, and the call goes on."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from duologue import CallerGuardrail, Cascade, Guardrail, Pipeline, Processor, Session
from duologue.frames import BotText
from duologue.processors.tools import Tools
from duologue.services.llm import Request, ToolRequest
from duologue.services.openai import OpenAIRealtime
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.web.realtime.transport import RealtimeTransport
from tests.images.samples import look, quarters, saved
from tests.testing.scripted.openai_client import Client
from tests.web.realtime.calls import Mocks, call
from tests.web.realtime.test_openai_realtime import WEATHER

AUDIO = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": ""}]}
ASIDE = {"conversation": "none", "output_modalities": ["text"]}


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def message(role: str, text: str, **more: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}], **more}


async def aside(client: Client, **response: Any) -> dict[str, Any]:
    """The end of a response out of band."""
    await client.send("response.create", response={**ASIDE, **response})
    created = (await client.until("response.created"))["response"]
    while True:
        done: dict[str, Any] = (await client.until("response.done"))["response"]
        if done["id"] == created["id"]:
            return done


def texts(response: dict[str, Any]) -> list[str]:
    return [part["text"] for item in response["output"] for part in item["content"]]


async def test_a_response_out_of_band_is_a_text_that_nobody_hears_and_the_log_does_not_have() -> None:
    mocks = Mocks(["Hello.", "Billing.", "Bye."])
    async with call(mocks) as client:
        await client.type("My invoice is wrong.")
        await client.send("response.create")
        await client.until("response.done")
        heard = len(client.audio())
        done = await aside(client, metadata={"topic": "routing"})
        assert done["status"] == "completed"
        assert texts(done) == ["Billing."]
        assert done["conversation_id"] is None
        assert done["metadata"] == {"topic": "routing"}
        assert done["usage"]["output_tokens"] == 1
        deltas = [event["delta"] for event in client.all("response.output_text.delta")]
        assert "".join(deltas) == "Billing."
        assert len(client.audio()) == heard
        assert len(client.all("conversation.item.done")) == 2
        assert [item.text for item in mocks.sessions[0].conversation] == ["My invoice is wrong.", "Hello."]
        assert mocks.asked(1) == [("user", "My invoice is wrong."), ("assistant", "Hello.")]
        await client.type("Thanks.")
        await client.send("response.create")
        spoken = (await client.until("response.done"))["response"]
        assert spoken["usage"]["output_tokens"] == 1
        assert mocks.asked(2)[-2:] == [("assistant", "Hello."), ("user", "Thanks.")]


async def test_several_at_once_run_beside_the_agents_speech() -> None:
    def reply(request: Request) -> str:
        return f"To {request.messages[-1].text}"

    mocks = Mocks(reply, first_token_s=0.5)
    async with call(mocks) as client:
        await client.type("speak")
        await client.send("response.create")
        spoken = (await client.until("response.created"))["response"]["id"]
        for number in range(5):
            await client.send(
                "response.create", response={**ASIDE, "input": [user(f"{number}")], "metadata": {"n": f"{number}"}}
            )
        done = [(await client.until("response.done"))["response"] for _ in range(6)]
        found = {each["metadata"]["n"]: texts(each) for each in done if each["id"] != spoken}
        assert found == {f"{number}": [f"To {number}"] for number in range(5)}
        assert next(each for each in done if each["id"] == spoken)["status"] == "completed"
        assert client.audio()


async def test_its_input_takes_the_place_of_the_conversation() -> None:
    mocks = Mocks(["Hello.", "One.", "Two."])
    async with call(mocks, client_may_configure=True) as client:
        await client.send("conversation.item.create", item={**user("My name is Ada."), "id": "ada"})
        await client.send("response.create")
        answer = (await client.until("response.done"))["response"]["output"][0]["id"]
        await aside(
            client,
            instructions="Classify.",
            input=[
                message("system", "Be strict."),
                {"type": "item_reference", "id": "ada"},
                {"type": "item_reference", "id": answer},
                message("assistant", "Which one?"),
                {"type": "function_call", "call_id": "x", "name": "find", "arguments": '{"a": 1}'},
                {"type": "function_call_output", "call_id": "x", "output": "none"},
                user("The second."),
            ],
        )
        request = mocks.llms[0].requests[1]
        assert request.instructions == "Classify."
        assert mocks.asked(1) == [
            ("system", "Be strict."),
            ("user", "My name is Ada."),
            ("assistant", "Hello."),
            ("assistant", "Which one?"),
            ("assistant", ""),
            ("tool", "none"),
            ("user", "The second."),
        ]
        assert request.messages[4].calls == (ToolRequest(call_id="x", name="find", arguments={"a": 1}),)
        assert (request.messages[5].call_id, request.messages[5].name) == ("x", "find")
        await aside(client, input=[])
        assert mocks.llms[0].requests[2].messages == ()
        assert mocks.llms[0].requests[2].instructions == "Be kind."


async def test_an_image_of_its_input_is_made_ready_and_none_is_fetched_from_a_private_address() -> None:
    mocks = Mocks(["A cat."])
    gif = base64.b64encode(saved(quarters(), "BMP")).decode()
    async with call(mocks, client_may_configure=True) as client:
        for url, count in ((f"data:image/bmp;base64,{gif}", 1), ("http://localhost/a.png", 0)):
            image = {"type": "input_image", "image_url": url}
            done = await aside(client, input=[{"type": "message", "role": "user", "content": [image]}])
            assert done["status"] == ("completed" if count else "failed")
        [request] = mocks.llms[0].requests
        [message] = request.messages
        assert (message.mime, look(message.image), message.url) == ("image/jpeg", "RGBW", "")


async def test_the_images_of_all_inputs_count() -> None:
    """Each is decoded here, and may be fetched: a client has no more of them out of band than in the conversation."""
    mocks = Mocks(["A cat."])
    url = f"data:image/png;base64,{base64.b64encode(saved(quarters(), 'PNG')).decode()}"
    seen = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": url}]}
    async with call(mocks) as client:
        for count in (4, 5):
            assert (await aside(client, input=[seen] * count))["status"] == "completed"
        await client.send("response.create", response={**ASIDE, "input": [seen, seen]})
        refused = await client.refused()
        assert (refused["code"], refused["param"]) == ("rate_limit_exceeded", "response.input")
        assert [len(request.messages) for request in mocks.llms[0].requests] == [4, 5]


@pytest.mark.parametrize("may_configure", [False, True])
@pytest.mark.parametrize("place", ["heard", "spoken", "before"])
async def test_nothing_goes_round_a_guardrail(place: str, may_configure: bool) -> None:
    class Guarded(Mocks):
        def engine(self) -> Processor:
            llm = MockLLM(self._replies)
            self.llms.append(llm)
            check = CallerGuardrail if place != "spoken" else Guardrail
            guards = [check(lambda words: "secret" not in words.text)]
            hear, speak = (guards, []) if place == "heard" else ([], guards if place == "spoken" else [])
            cascade = Cascade(MockSTT(["hello"]), llm, MockTTS(), heard=hear, spoken=speak)
            return cascade if place != "before" else Pipeline([*guards, cascade])

    mocks = Guarded(["The secret."])
    async with call(mocks, client_may_configure=may_configure) as client:
        await client.type("Hello.")
        if may_configure:  # a client that sets the instructions is the application's own
            assert (await aside(client, input=[user("Tell the secret.")]))["status"] == "completed"
            return
        await client.send("response.create", response={**ASIDE, "input": [user("Tell the secret.")]})
        assert (await client.refused())["param"] == "response.conversation"
        await client.send("conversation.item.create", previous_item_id="root", item=user("Tell the secret."))
        assert (await client.refused())["param"] == "previous_item_id"
        assert mocks.llms[0].requests == []


async def test_its_tools_are_the_clients_and_their_calls_are_handed_out() -> None:
    def reply(request: Request) -> ToolRequest | str:
        if not request.tools or request.tool_choice == "none":
            return "No tools."
        return ToolRequest(call_id="c9", name=request.tools[0].name, arguments={"city": "Rome"})

    ran: list[str] = []

    def own(city: str) -> str:
        """The application's."""
        ran.append(city)
        return city

    mocks = Mocks(reply, tools=[own])
    async with call(mocks) as client:
        done = await aside(client, input=[user("Weather?")], tools=[WEATHER], tool_choice="required")
        [item] = done["output"]
        assert (item["type"], item["name"], json.loads(item["arguments"])) == (
            "function_call",
            WEATHER["name"],
            {"city": "Rome"},
        )
        assert mocks.llms[0].requests[0].tool_choice == "required"
        assert texts(await aside(client, input=[user("Weather?")])) == ["No tools."]  # the application's are not its
        await client.update(tools=[WEATHER])
        assert (await aside(client))["output"][0]["name"] == WEATHER["name"]
        assert texts(await aside(client, tool_choice="none")) == ["No tools."]
        assert ran == []
        assert not mocks.sessions[0].conversation.items


@pytest.mark.parametrize(
    ("chooses", "obeys", "asked"),
    [
        (True, True, [("none", 1)]),
        (True, False, [("none", 1), ("", 0)]),
        (False, True, [("", 0)]),
    ],
)
async def test_without_tool_calls_it_is_asked_for_like_any_answer(
    chooses: bool, obeys: bool, asked: list[tuple[str, int]]
) -> None:
    """The tools stay in the first request if the service obeys a choice: its beginning is the same as before."""

    def reply(request: Request) -> ToolRequest | str:
        if request.tools and not obeys:
            return ToolRequest(call_id="c9", name=request.tools[0].name, arguments={})
        return "No tools."

    mocks = Mocks(reply)
    async with call(mocks) as client:
        await client.update(tools=[WEATHER])
        mocks.llms[0].chooses_tools = chooses
        assert texts(await aside(client, tool_choice="none")) == ["No tools."]
        assert [(request.tool_choice, len(request.tools)) for request in mocks.llms[0].requests] == asked


async def test_it_can_be_cancelled_alone() -> None:
    mocks = Mocks(lambda request: "word " * (1_000 if len(request.messages) == 2 else 3))
    async with call(mocks) as client:
        await client.type("speak")
        await client.send("response.create", response=ASIDE | {"input": [user("a"), user("b")]})
        long = (await client.until("response.created"))["response"]["id"]
        await client.until("response.output_text.delta")
        await client.send("response.create")
        await client.send("response.cancel", response_id=long)
        done = (await client.until("response.done"))["response"]
        assert (done["id"], done["status"]) == (long, "cancelled")
        spoken = (await client.until("response.done"))["response"]
        assert (spoken["status"], spoken["conversation_id"] is None) == ("completed", False)


class Failing(MockLLM):
    """Gives nothing, for ever or at once."""

    timeout_s = 2.0

    async def generate(self, request: Request) -> AsyncIterator[Any]:
        if request.messages and request.messages[-1].text == "hang":
            await anyio.sleep(math.inf)
        if request.messages and request.messages[-1].text == "fail":
            raise RuntimeError("no model")
        yield "Fine."


@pytest.mark.parametrize("kind", ["hang", "fail"])
async def test_one_that_fails_or_never_comes_is_told_and_harms_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.web.realtime.calls.MockLLM", Failing)
    async with call(Mocks()) as client:
        done = await aside(client, input=[user(kind)])
        assert done["status"] == "failed"
        assert done["status_details"]["error"]["code"] == "server_error"
        assert texts(await aside(client, input=[user("Hi.")])) == ["Fine."]


async def test_the_applications_check_of_sentences_holds_for_it() -> None:
    mocks = Mocks(["The code is 1234. Bye."])
    async with call(mocks) as client:
        mocks.sessions[0].intercept(BotText, lambda frame: None if "1234" in frame.text else frame)
        assert "".join(texts(await aside(client, input=[user("The code?")]))).strip() == "Bye."


async def test_it_is_paid_from_the_calls_budget() -> None:
    mocks = Mocks(["Hello."])
    async with call(mocks) as client:
        await aside(client, input=[user("Hi.")])
        assert mocks.llms[0].spent.requests == 1


@pytest.mark.parametrize(
    ("response", "param"),
    [
        ({"conversation": "conv_1"}, "response.conversation"),
        ({"conversation": "none"}, "response.output_modalities"),
        ({**ASIDE, "output_modalities": ["audio"]}, "response.output_modalities"),
        ({**ASIDE, "tool_choice": {"type": "function", "name": "f"}}, "response.tool_choice"),
        ({**ASIDE, "instructions": "x"}, "response.instructions"),
        ({**ASIDE, "prompt": {"id": "p"}}, "response.prompt"),
        ({**ASIDE, "input": [{"type": "item_reference", "id": "no"}]}, "response.input[0].id"),
        ({**ASIDE, "input": [{"type": "message"}]}, "response.input[0]"),
        ({**ASIDE, "input": [message("system", "x")]}, "response.input[0]"),
        ({**ASIDE, "input": [user("x"), message("assistant", "x")]}, "response.input[1]"),
        (
            {**ASIDE, "input": [{"type": "function_call_output", "call_id": "c", "output": ""}]},
            "response.input[0].call_id",
        ),
        (
            {
                **ASIDE,
                "input": [{"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": ""}]}],
            },
            "response.input[0].content[0]",
        ),
        ({"input": [user("x")]}, "response.input"),
        ({"input": []}, "response.input"),
        ({"tools": [WEATHER]}, "response.tools"),
    ],
)
async def test_what_a_session_cannot_do_is_refused_by_name(response: dict[str, Any], param: str) -> None:
    async with call(Mocks()) as client:
        await client.send("response.create", response=response, event_id="r")
        error = await client.refused()
        assert (error["param"], error["event_id"]) == (param, "r")
        await client.send("response.create")
        assert (await client.until("response.done"))["response"]["status"] == "completed"


# -- items in the middle -----------------------------------------------------------------------------------------------


async def test_items_may_be_added_anywhere() -> None:
    mocks = Mocks(["Hello.", "Fine."])
    async with call(mocks, client_may_configure=True) as client:
        await client.send("conversation.item.create", item={**user("Two."), "id": "two"})
        await client.send("response.create")
        hello = (await client.until("response.done"))["response"]["output"][0]["id"]
        await client.type("Five.")
        for previous, item in (
            ("root", message("user", "One.", id="one")),
            ("two", message("assistant", "Mm-hm.", id="mm")),
            (hello, message("system", "Three.", id="three")),
            ("three", {"type": "function_call", "id": "call", "call_id": "x", "name": "f", "arguments": "{}"}),
            ("call", {"type": "function_call_output", "id": "out", "call_id": "x", "output": "four"}),
        ):
            await client.send("conversation.item.create", previous_item_id=previous, item=item)
        await client.send("response.create")
        await client.until("response.done")
        order = [(item.role, item.text) for item in mocks.sessions[0].conversation][:-1]
        assert order == [
            ("caller", "One."),
            ("caller", "Two."),
            ("agent", "Mm-hm."),
            ("agent", "Hello."),
            ("caller", "Three."),
            ("agent", ""),
            ("tool", "four"),
            ("caller", "Five."),
        ]
        assert mocks.asked(1) == [
            ("user", "One.\nTwo."),
            ("assistant", "Mm-hm. Hello."),
            ("user", "[system] Three."),
            ("assistant", ""),
            ("tool", "four"),
            ("user", "Five."),
        ]
        added = [(event["item"]["id"], event["previous_item_id"]) for event in client.all("conversation.item.added")]
        assert ("one", None) in added
        assert ("mm", "two") in added


async def test_only_text_is_added_in_the_middle_and_the_callers_alone_without_leave() -> None:
    image = {"type": "input_image", "image_url": "https://example.com/a.png"}
    async with call(Mocks()) as client:
        await client.type("Two.")
        for item, param in (
            ({"type": "message", "role": "user", "content": [image]}, "item.content"),
            (message("assistant", "x"), "item"),
        ):
            await client.send("conversation.item.create", previous_item_id="root", item=item, event_id="e")
            error = await client.refused()
            assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", param, "e")
        await client.send("conversation.item.create", previous_item_id="nowhere", item=user("x"), event_id="e")
        error = await client.refused()
        assert (error["code"], error["param"]) == ("item_create_invalid_previous_item_id", "previous_item_id")


# -- a native engine ---------------------------------------------------------------------------------------------------


async def test_a_native_engine_does_neither_and_says_so() -> None:
    async with ScriptedOpenAI() as vendor:

        def make(transport: RealtimeTransport) -> Session:
            engine = OpenAIRealtime(api_key="test", base_url=vendor.url)
            parts = [transport.turns(), engine, transport.client_tools(), Tools()]
            return Session(Pipeline([transport.input(), *parts, transport.output()]))

        async with call(make) as client:
            await client.send("response.create", response=ASIDE, event_id="a")
            error = await client.refused()
            assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "response.conversation", "a")
            await client.type("Hi.")
            await client.send("conversation.item.create", previous_item_id="root", item=user("x"), event_id="b")
            error = await client.refused()
            assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "previous_item_id", "b")
