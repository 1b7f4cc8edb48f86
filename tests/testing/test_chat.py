"""`chat`: agents in plain text, and the assertions on their replies."""

from __future__ import annotations

import asyncio
import re
from datetime import date
from typing import Any

import pytest

from duologue import (
    Agent,
    Cascade,
    ConfigurationError,
    Endpointing,
    Handoff,
    IdlePrompts,
    IllegalState,
    Interruption,
    MemoryTransport,
    Pipeline,
    ServiceError,
    Session,
    Stage,
    Switch,
    Tool,
    ToolError,
    Tools,
    Vad,
)
from duologue.errors import DeadlineExceeded
from duologue.frames import Transfer
from duologue.services.google import GeminiLive
from duologue.services.openai import OpenAILLM, OpenAIRealtime
from duologue.testing import (
    Call,
    Chat,
    MockLLM,
    MockSTT,
    MockTTS,
    ScriptedGemini,
    ScriptedLLM,
    ScriptedOpenAI,
    calls,
    chat,
    hands_off,
)
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.server import Act, CallTool, HalfOpen, Speak
from duologue.testing.scripted.text_model import Reject


async def find_table(people: int, day: date) -> dict[str, Any]:
    """Find a free table."""
    raise AssertionError("the real restaurant")


async def book(time: str, session: Session) -> str:
    """Book a table."""
    session.data["booked"] = time
    return "booked"


WAITER = Agent(
    name="Waiter",
    instructions="You take bookings.",
    tools=[find_table, book],
    greeting="Good evening.",
    farewell="I put you through.",
)
MANAGER = Agent(name="Manager", instructions="You hear complaints.", greeting="The manager here.")
RULES: Any = {
    "table for four": [calls("find_table", people=4, day="2026-12-04"), "There is one at eight. Shall I book it?"],
    "yes please": [calls("book", time="20:00"), calls("book", time="20:00"), "It is booked."],
    "complain": [hands_off("Manager", "A complaint.", "The soup was cold."), "Tell me."],
    "hello": "Hello!",
}
FREE = {"find_table": {"time": "20:00"}}


async def test_a_conversation_with_tools_a_fake_and_data() -> None:
    async with chat([WAITER, MANAGER], RULES, tools=FREE, data={"guest": "Ann"}) as talk:
        assert (talk.greeting.agent, talk.greeting.text) == ("Waiter", "Good evening.")
        reply = await talk.say("A  table for FOUR on Friday, please.")
        found = reply.called("find_table", people=4, day=date(2026, 12, 4))
        assert (found.result, found.agent, found.error) == ({"time": "20:00"}, "Waiter", "")
        reply.says("at EIGHT", "book it")
        assert (reply.said, reply.tools) == ("A  table for FOUR on Friday, please.", ["find_table"])
        assert (reply.agent, reply.handoff, reply.errors, reply.ended) == ("Waiter", "", [], False)

        reply = await talk.say("Yes please")
        assert reply.text == "It is booked."
        assert reply.tools == ["book", "book"]
        assert talk.session.data == {"guest": "Ann", "booked": "20:00"}
    assert talk.log[-1] == "agent: It is booked."
    assert talk.outcome.error is None


async def test_a_handoff_belongs_to_the_reply() -> None:
    async with chat([WAITER, MANAGER], RULES) as talk:
        reply = await talk.say("I want to complain")
        assert (reply.agent, reply.handoff, reply.tools) == ("Manager", "Manager", [])
        assert reply.lines == [("Waiter", "I put you through."), ("Manager", "The manager here.")]
        (handoff,) = reply.handoffs
        assert (handoff.source, handoff.reason, handoff.summary) == ("Waiter", "A complaint.", "The soup was cold.")


async def test_a_flow_forbids_a_handoff() -> None:
    stages = [Stage(phase="door", agent="Waiter"), Stage(phase="office", agent="Manager")]
    async with chat([WAITER, MANAGER], RULES, flow=stages) as talk:
        reply = await talk.say("I complain")
        assert reply.agent == "Waiter"
        assert "cannot take the call" in reply.called("handoff_conversation").error


async def test_a_fake_is_a_function_an_error_or_a_value() -> None:
    seen = []

    def find(people: int) -> str:
        seen.append(people)
        return "eight"

    async with chat(WAITER, RULES, tools={"find_table": find, "book": ToolError("the kitchen is closed")}) as talk:
        assert (await talk.say("a table for four")).called("find_table").result == "eight"
        reply = await talk.say("yes please")
        assert [call.error for call in reply.calls] == ["the kitchen is closed"] * 2
    assert seen == [4]


async def test_a_fake_of_a_tool_with_a_schema() -> None:
    tool = Tool.from_schema({"name": "find_table", "parameters": {"type": "object"}}, lambda s, name, arguments: "real")
    async with chat(Agent(name="a", tools=[tool]), RULES, tools={"find_table": lambda people: people + 1}) as talk:
        assert (await talk.say("a table for four")).called("find_table").result == 5


async def test_wrong_arguments_do_not_reach_a_fake() -> None:
    rules: Any = {"book": [calls("book", when="8"), "Sorry."]}
    async with chat(WAITER, rules, tools={"book": "booked"}) as talk:
        reply = await talk.say("book")
        assert "when" in reply.called("book").error


def test_a_fake_for_no_tool_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no tool 'find_tabel' to replace: there are book, find_table"):
        chat(WAITER, RULES, tools={"find_tabel": 1})


@pytest.mark.parametrize(
    ("agents", "llm", "tools", "error"),
    [
        (WAITER, MockSTT(), {}, "is not a model"),
        (WAITER, ["Hello."], {}, "is not a model"),
        (WAITER, "nobody", {}, "there is no llm 'nobody'"),
        (WAITER, {"x": 3}, {}, "rule 'x': 3 is not a text, a call"),
        (WAITER, {"x": []}, {}, "rule 'x' has no steps"),
        (WAITER, {3: "x"}, {}, "3 is not the text of a rule"),
        (WAITER, RULES, ["book"], "tools is list: give a dict"),
        ([], RULES, {}, "at least one agent"),
        (["Waiter"], RULES, {}, "'Waiter' is not an Agent"),
        ([WAITER, WAITER], RULES, {}, "two agents are named 'Waiter'"),
    ],
)
async def test_what_cannot_chat_is_named(agents: Any, llm: Any, tools: Any, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        chat(agents, llm, tools=tools)


async def test_an_agent_that_knows_the_call_from_its_handoff_on() -> None:
    rules: Any = {"I complain": hands_off("Manager", "A complaint."), "reason: a complaint": "Tell me."}
    manager = Agent(name="Manager", history="own")
    async with chat([Agent(name="Waiter"), manager], rules) as talk:
        reply = await talk.say("I complain")
        assert (reply.handoff, reply.text) == ("Manager", "Tell me.")


async def test_a_switch_of_engines() -> None:
    engines = {name: Cascade(MockSTT(), MockLLM([f"I am {name}."]), MockTTS()) for name in ("one", "two")}
    agents = [Agent(name="Waiter", engine="one"), Agent(name="Manager", engine="two")]
    async with chat(agents, Switch(engines)) as talk:
        assert (await talk.say("hello")).text == "I am one."
        await talk.session.send(Transfer(target="Manager"))
        assert (await talk.later(1.0)).handoff == "Manager"
        assert (await talk.say("hello")).text == "I am two."


# -- assertions --------------------------------------------------------------------------------------------------------


async def test_failed_assertions_show_the_conversation() -> None:
    async with chat([WAITER, MANAGER], RULES, tools=FREE) as talk:
        reply = await talk.say("a table for four")
        conversation = (
            "\n\nThe conversation:\n"
            "Waiter: Good evening.\n"
            "caller: a table for four\n"
            '  find_table(people=4, day="2026-12-04") -> {"time":"20:00"}\n'
            "Waiter: There is one at eight. Shall I book it?"
        )
        with pytest.raises(AssertionError) as failed:
            reply.called("find_table", people=5)
        assert str(failed.value) == (
            "find_table(people=5) was not called; called were: find_table(people=4, day='2026-12-04')" + conversation
        )
        with pytest.raises(AssertionError, match=r"book\(\) was not called; called were"):
            reply.called("book")
        with pytest.raises(AssertionError, match=r"called were: find_table") as failed:
            reply.did_not_call()
        with pytest.raises(AssertionError, match=r"does not say 'nine', 'ten': 'There is one"):
            reply.says("nine", "eight", "ten")
        reply.did_not_call("book")
        reply.called("find_table", day=re.compile("^2026"), people=lambda people: people > 3)
        assert repr(reply) == (
            "<Reply Waiter: 'There is one at eight. Shall I book it?'; called find_table(people=4, day='2026-12-04')>"
        )


async def test_a_judge_reads_the_conversation() -> None:
    judge = MockLLM(["<think>Hm.</think> **Yes**, it asks.", "No: it is rude.", "Perhaps."])
    async with chat(WAITER, RULES, tools=FREE) as talk:
        reply = await talk.say("a table for four")
        assert await reply.judge("offers to book", llm=judge) == "it asks."
        (request,) = judge.requests
        assert "caller: a table for four" in request.messages[0].text
        assert request.messages[0].text.endswith("The criterion: offers to book")
        with pytest.raises(AssertionError, match=r"'is polite': no\. it is rude\.\nThe reply: 'There is one") as failed:
            await reply.judge("is polite", llm=judge)
        assert "caller: a table for four" in str(failed.value)
        with pytest.raises(ServiceError, match=r"says neither yes nor no: 'Perhaps\.'"):
            await reply.judge("is long", llm=judge)
        with pytest.raises(DeadlineExceeded, match="the judge MockLLM gave no verdict within 3 s"):
            await reply.judge("is slow", llm=MockLLM(first_token_s=100), timeout_s=3)


async def test_the_model_of_the_chat_may_judge() -> None:
    llm = ScriptedLLM({"The criterion": "Yes, briefly.", **RULES})
    async with chat(WAITER, llm) as talk:
        assert await (await talk.say("hello")).judge("greets", llm=llm) == "briefly."
        assert (await talk.say("hello")).text == "Hello!"


async def test_a_spoken_call_gives_the_same_replies() -> None:
    engine = Cascade(MockSTT(["a table for four"]), ScriptedLLM(RULES), MockTTS(seconds_per_sentence=1.0))
    fake = Tool(lambda people, day: "eight", name="find_table")
    waiter = Agent(name="Waiter", tools=[fake])
    async with Call.through(Vad(), Endpointing(), Interruption(), engine, Handoff([waiter]), Tools()) as call:
        reply = await call.asks("hello there")
        reply.called("find_table", people=4)
        reply.says("at eight", "book it")
        assert (reply.said, reply.agent) == ("a table for four", "Waiter")


# -- faults ------------------------------------------------------------------------------------------------------------


async def test_words_without_a_rule_fail_with_the_rules() -> None:
    with pytest.raises(ServiceError) as failed:
        async with chat(WAITER, RULES) as talk:
            await talk.say("What is the weather?")
    assert "no rule fits 'What is the weather?'; there are: 'table for four', 'yes please'" in str(failed.value)
    assert "caller: What is the weather?" in str(failed.value)


async def test_a_rule_without_a_further_step_fails() -> None:
    with pytest.raises(ServiceError, match="the rule 'table' has no step 2, after the tools' results"):
        async with chat(WAITER, {"table": calls("find_table", people=4, day="2026-12-04")}, tools=FREE) as talk:
            await talk.say("a table")


async def test_a_failure_that_is_expected() -> None:
    async with chat(WAITER, {}, may_fail=True) as talk:
        reply = await talk.say("hello")
        assert reply.text == "Sorry, something went wrong. Could you say that again?"
        assert "no rule fits 'hello'" in reply.errors[0]


async def test_a_reply_has_a_deadline_that_names_what_is_awaited() -> None:
    async def never() -> str:
        await asyncio.sleep(1000)
        return ""

    agent = Agent(name="a", tools=[Tool(never, timeout_s=2000)])
    with pytest.raises(DeadlineExceeded, match=r"no complete reply within 5 s: no result of never yet") as failed:
        async with chat(agent, {"go": [calls("never"), "Done."]}, timeout_s=5) as talk:
            await talk.say("go")
    assert "caller: go\n  never() …" in str(failed.value)


async def test_the_call_may_end_by_a_reply() -> None:
    async def hang_up(session: Session) -> str:
        await session.end("the agent hangs up")
        return "ok"

    async with chat(Agent(name="a", tools=[hang_up]), {"bye": ["Bye."], "end": [calls("hang_up"), "Bye."]}) as talk:
        reply = await talk.say("end it")
        assert reply.ended
        with pytest.raises(IllegalState, match="the call is over: the agent hangs up: nobody reads 'hello'"):
            await talk.say("hello")


@pytest.mark.parametrize("late", [{"three flights": "I found three."}, {}])
async def test_a_late_result_has_the_next_step_or_a_rule_of_its_own(late: dict[Any, Any]) -> None:
    async def slow() -> str:
        await asyncio.sleep(30)
        return "three flights"

    steps: Any = [calls("slow"), "I am looking.", *([] if late else ["I found three."])]
    agent = Agent(name="a", tools=[Tool(slow, mode="nonblocking")])
    async with chat(agent, {"flights": steps, **late}) as talk:
        assert (await talk.say("find flights")).text == "I am looking."
        assert (await talk.later(10)).text == ""
        assert (await talk.later(30)).text == "I found three."


async def test_two_chats_at_once() -> None:
    one, two = chat(Agent(name="One"), {"hi": "Hello!"}), chat(Agent(name="Two"), {"hi": "Good day!"})
    async with one, two:
        replies = await asyncio.gather(one.say("hi"), two.say("hi"))
    assert [(reply.agent, reply.text) for reply in replies] == [("One", "Hello!"), ("Two", "Good day!")]


async def test_a_prompt_of_a_processor_comes_later() -> None:
    async with chat(Agent(name="a"), {"hi": "Hello!"}, processors=[IdlePrompts("Are you there?", times=1)]) as talk:
        await talk.say("hi")
        assert (await talk.later(15)).text == "Are you there?"


async def test_a_pipeline_of_ones_own() -> None:
    transport = MemoryTransport()
    engine = Cascade(MockSTT(), MockLLM(["Good day to you."]), MockTTS())
    parts = [transport.input(), Vad(), Endpointing(), Interruption(), engine, transport.output()]
    async with Chat(Session(Pipeline(parts), agent=Agent(name="a", greeting="Hello."))) as talk:
        assert talk.greeting.text == "Hello."
        assert (await talk.say("hi")).text == "Good day to you."


@pytest.mark.seeds(20)
async def test_it_is_the_same_under_every_schedule() -> None:
    async with chat([WAITER, MANAGER], RULES, tools=FREE) as talk:
        for line, said in (("table for four", "There is one"), ("complain", "The manager here")):
            (await talk.say(line)).says(said)


# -- other models, over real sockets -----------------------------------------------------------------------------------


async def test_a_vendors_model_answers() -> None:
    script: list[list[Act]] = [[CallTool("find_table", {"people": 4, "day": "2026-12-04"})], [Speak("At eight.")]]
    server = ScriptedOpenAIHTTP(script)
    async with server, chat(WAITER, OpenAILLM(api_key="test", base_url=server.url), tools=FREE) as talk:
        reply = await talk.say("a table for four")
        reply.called("find_table", people=4)
        assert reply.text == "At eight."


@pytest.mark.parametrize("fault", [Reject(401, "invalid_api_key", "No."), HalfOpen()])
async def test_a_vendors_failure_is_raised(fault: Any) -> None:
    async with ScriptedOpenAIHTTP([[fault]] * 4) as server:
        with pytest.raises(ServiceError, match="the model has not answered"):
            async with chat(WAITER, OpenAILLM(api_key="test", base_url=server.url)) as talk:
                await talk.say("hello")


@pytest.mark.parametrize("vendor", ["openai", "gemini"])
async def test_a_native_engine_chats(vendor: str) -> None:
    script: list[list[Act]] = [[CallTool("find_table", {"people": 4, "day": "2026-12-04"})], [Speak("At eight.")]]
    agent = Agent(name="Waiter", tools=[find_table])
    server: Any = ScriptedOpenAI(script) if vendor == "openai" else ScriptedGemini(script)
    async with server:
        engine: Any
        if vendor == "openai":
            engine = OpenAIRealtime(api_key="test", base_url=server.url)
        else:
            engine = GeminiLive(api_key="test", base_url=server.url, ssl_context=server.ssl_context)
        async with chat(agent, engine, tools=FREE) as talk:
            reply = await talk.say("a table for four")
            reply.called("find_table", people=4)
            assert reply.text == "At eight."


async def test_a_judge_of_a_vendor_has_no_call() -> None:
    async with ScriptedOpenAIHTTP([[Speak("Yes. It greets.")], [Speak("No. It is short.")]]) as server:
        judge = OpenAILLM(api_key="test", base_url=server.url)
        async with chat(WAITER, RULES) as talk:
            reply = await talk.say("hello")
            assert await reply.judge("greets", llm=judge) == "It greets."
            with pytest.raises(AssertionError, match="It is short"):
                await reply.judge("is long", llm=judge)
        await judge.close()
