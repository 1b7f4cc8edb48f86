"""The rule-based dialogue: patterns, slots, questions, tools, agents, and being worked out from the messages alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from duologue.errors import BadInput, ConfigurationError, ToolError
from duologue.services.context import Message, ToolRequest
from duologue.services.local.dialogue import Memory, Rule, RuleBook, Rules, RulesReply, ToolUse

TOOLS = ["get_weather", "get_time", "book_table", "handoff_conversation"]
CITIES = "{city:Paris|London|New York}"
WEATHER = Rule(
    f"* weather [in {CITIES}] *",
    ask={"city": ("Which city?", "In Paris, London or New York?")},
    call="get_weather",
    args={"city": "{city}"},
    then="It is {result[temperature]} degrees in {city}.",
)


def message(role: Any, text: str, calls: tuple[ToolRequest, ...] = (), call_id: str = "") -> Message:
    return Message(role=role, text=text, calls=calls, call_id=call_id)


class Caller:
    """A conversation with rules: keeps the messages, as a session would."""

    def __init__(self, rules: Rules | RuleBook, tools: Sequence[str] = TOOLS) -> None:
        self.rules, self.tools = rules, tools
        self.messages: list[Message] = []

    def says(self, text: str) -> RulesReply:
        self.messages.append(message("user", text))
        return self.next_reply()

    def next_reply(self, heard: str | None = None) -> RulesReply:
        reply = self.rules.reply(self.messages, self.tools)
        assert self.rules.reply(list(self.messages), self.tools) == reply
        self.messages.append(message("assistant", reply.text if heard is None else heard, reply.calls))
        return reply

    def gets(self, *results: Any) -> RulesReply:
        calls = self.messages[-1].calls
        for call, result in zip(calls, results, strict=True):
            content = result if isinstance(result, str) else json.dumps(result)
            self.messages.append(message("tool", content, call_id=call.call_id))
        return self.next_reply()

    def becomes(self, role: str) -> None:
        self.messages.insert(0, message("system", identity(role)))


def identity(role: str) -> str:
    return f"Be brief.\n\n--- Agent Identity ---\nRole: {role}\nDescription: helps\nScope: all"


def understood(pattern: str, utterance: str) -> dict[str, Any] | None:
    """The slots that a pattern finds in an utterance, None if it does not match."""
    found: list[dict[str, Any]] = []

    def note(memory: Memory) -> str:
        found.append({name: value for name, value in memory.items() if name != "utterance"})
        return "yes"

    Rules([Rule(pattern, note)]).reply([message("user", utterance)], ())
    return found[0] if found else None


@pytest.mark.parametrize(
    ("pattern", "utterance", "slots"),
    [
        ("(hello|hi) [there]", "Hello!", {}),
        ("(hello|hi) [there]", "hi, there", {}),
        ("(hello|hi) [there]", "hello you", None),
        ("good (morning|(after|fore) noon)", "good after noon", {}),
        ("hello|good evening", "Good evening.", {}),
        ("* billing *", "billing", {}),
        ("* billing *", "I have a billing problem", {}),
        ("* billing *", "the bill", None),
        ("what is the weather in {city:paris|new york}", "What's the weather in New York?", {"city": "new york"}),
        ("what is the weather in {city:paris|new york}", "What is the weather in York?", None),
        ("I don't know", "I do not know", {}),
        ("my name is {name}", "My name is Zoë O’Neil-Smith.", {"name": "Zoë O'Neil Smith"}),
        ("my name is {name}", "My name is", None),
        ("call me {name}", "um, call me Bob please", {"name": "Bob"}),
        ("from {start} to {end} [today]", "from Rome to Oslo today", {"start": "Rome", "end": "Oslo"}),
        ("say please", "say please", {}),
        ("[a table] for {guests:number} [people]", "a table for twenty five people", {"guests": 25}),
        ("[a table] for {guests:number} [people]", "for 1,200", {"guests": 1200}),
        ("[a table] for {guests:number} [people]", "for a few people", None),
        # The words that the pattern names are found before a wildcard takes them.
        ("* weather * [in {city:paris|oslo}] *", "the weather today in Oslo, please tell me", {"city": "oslo"}),
        ("{size:small|large|extra large} coffee", "extra large coffee", {"size": "extra large"}),
    ],
)
def test_patterns(pattern: str, utterance: str, slots: dict[str, Any] | None) -> None:
    assert understood(pattern, utterance) == slots


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("zero", 0),
        ("nineteen", 19),
        ("forty two", 42),
        ("a hundred", 100),
        ("two hundred and five", 205),
        ("one thousand two hundred", 1_200),
        ("twenty five thousand and three", 25_003),
        ("three million", 3_000_000),
        ("five five five oh one", 55_501),
        ("555 01", 55_501),
        ("twenty eleven", None),
        ("two hundred and", None),
        ("thousand thousand", None),
        ("1,23", None),
        ("half", None),
    ],
)
def test_numbers(said: str, number: int | None) -> None:
    assert understood("{n:number}", said) == (None if number is None else {"n": number})


def test_a_pattern_full_of_wildcards_is_quick() -> None:
    assert understood("* a * a * a * a * {x} a * {y} b", "a " * 500) is None


def test_the_first_rule_that_fits_answers_and_else_the_fallback() -> None:
    caller = Caller(Rules([Rule("* paris *", "First."), Rule("paris", "Second.")], fallback=("What?", "Pardon?")))

    assert caller.says("Paris").text == "First."
    assert [caller.says(text).text for text in ("Rome", "...", "Oslo")] == ["What?", "Pardon?", "What?"]


def test_one_rule_may_have_several_patterns() -> None:
    caller = Caller(Rules([Rule(["bye [bye]", "see you *"], "Goodbye.")]))

    assert caller.says("Bye bye").text == caller.says("See you tomorrow").text == "Goodbye."


def test_variants_take_turns() -> None:
    caller = Caller(Rules([Rule("hi", ["Hello.", "Hello again."]), Rule("what", "I said hello.")]))

    assert [caller.says(text).text for text in ("hi", "what", "hi", "hi")] == [
        "Hello.",
        "I said hello.",
        "Hello again.",
        "Hello.",
    ]


def test_slots_are_remembered() -> None:
    rules = Rules(
        [
            Rule("my name is {name}", "Hello {name}."),
            Rule("what is my name", lambda memory: f"It is {memory['name'].upper()}.", when=lambda m: "name" in m),
            Rule("who am i", "You are {name}."),
            Rule("who am i", "You have not told me."),
            Rule("repeat after me *", "You said: {utterance}"),
        ]
    )
    caller = Caller(rules, ())

    assert caller.says("Who am I?").text == "You have not told me."
    assert caller.says("What's my name?").text == "Sorry, I did not catch that."
    assert caller.says("My name is Ann").text == "Hello Ann."
    assert caller.says("Who am I?").text == "You are Ann."
    assert caller.says("What's my name?").text == "It is ANN."
    assert caller.says("Repeat after me: ha!").text == "You said: Repeat after me: ha!"


def test_state_is_kept_by_remember_and_read_by_when() -> None:
    rules = Rules(
        [
            Rule("cancel [my order]", "Are you sure?", remember={"confirming": True}),
            Rule("yes", "Cancelled.", when=lambda memory: memory["confirming"], remember={"confirming": False}),
            Rule("yes", "Yes what?"),
        ],
        memory={"confirming": False},
    )
    caller = Caller(rules)

    assert [caller.says(text).text for text in ("yes", "cancel my order", "yes", "yes")] == [
        "Yes what?",
        "Are you sure?",
        "Cancelled.",
        "Yes what?",
    ]


def test_calls_a_tool_and_tells_the_result() -> None:
    caller = Caller(Rules([WEATHER]))

    reply = caller.says("What's the weather like in new york today?")
    assert reply.text == ""
    assert [(call.name, call.arguments) for call in reply.calls] == [("get_weather", {"city": "New York"})]
    assert caller.gets({"temperature": 21}).text == "It is 21 degrees in New York."


def test_asks_for_what_is_missing_and_takes_the_answer() -> None:
    caller = Caller(Rules([WEATHER]))

    assert caller.says("How is the weather?") == RulesReply("Which city?")
    assert caller.says("Um, in London please.").calls[0].arguments == {"city": "London"}
    assert caller.gets({"temperature": 9}).text == "It is 9 degrees in London."
    assert caller.says("and the weather?").calls[0].arguments == {"city": "London"}


@pytest.mark.parametrize("answer", ["London", "london, I think", "I would say London"])
def test_an_answer_may_be_part_of_what_is_said(answer: str) -> None:
    caller = Caller(Rules([WEATHER]))
    caller.says("weather")

    assert caller.says(answer).calls[0].arguments == {"city": "London"}


def test_does_not_ask_for_what_was_named_already() -> None:
    flight = Rule(
        "* fly [to {end:Rome|Oslo}] *",
        "From {start} to {end}.",
        ask={"start:Rome|Oslo|Paris": "From where?", "end": "To where?"},
    )

    assert Caller(Rules([flight])).says("I have to fly tomorrow from Paris, please").text == "To where?"
    caller = Caller(Rules([flight]))
    assert caller.says("I would like to fly to Rome").text == "From where?"
    assert caller.says("Oslo").text == "From Oslo to Rome."
    assert caller.says("I want to fly from Paris").text == "From Paris to Rome."


def test_asks_again_twice_and_then_gives_up() -> None:
    caller = Caller(Rules([WEATHER], fallback="Let us start again."))

    assert [caller.says(text).text for text in ("weather", "hm", "the big one", "what", "London")] == [
        "Which city?",
        "In Paris, London or New York?",
        "Which city?",
        "Let us start again.",
        "Let us start again.",
    ]


def test_another_topic_leaves_the_question() -> None:
    caller = Caller(Rules([WEATHER, Rule("* open *", "From nine to five.")]))
    caller.says("weather")

    assert caller.says("When are you open?").text == "From nine to five."
    assert caller.says("London").text == "Sorry, I did not catch that."


def test_fills_several_slots_one_after_the_other() -> None:
    rules = Rules(
        [
            Rule(
                "* table * [for {guests:number} [people]]",
                "I book a table.",
                ask={"name": "Your name?", "guests": "How many, {name}?", "day:Monday|Friday": "Which day?"},
                call="book_table",
                args={"name": "{name}", "guests": "{guests}", "note": "for {guests} on {day}", "list": ["{day}", 1]},
                then="{result}",
            ),
            Rule("*", "Anything else?"),
        ]
    )
    caller = Caller(rules)

    assert caller.says("I would like a table").text == "Your name?"
    assert caller.says("My name is Ann Lee").text == "How many, Ann Lee?"
    assert caller.says("We are twenty one, I believe").text == "Which day?"
    reply = caller.says("on friday")
    assert reply.text == "I book a table."
    assert reply.calls[0].arguments == {
        "name": "Ann Lee",
        "guests": 21,
        "note": "for 21 on Friday",
        "list": ["Friday", 1],
    }
    assert caller.gets("Done!").text == "Done!"
    assert caller.says("bla").text == "Anything else?"


def test_parallel_calls_are_answered_together() -> None:
    rule = Rule(
        "compare {a} and {b}",
        call=[ToolUse("get_weather", {"city": "{a}"}), ToolUse("get_weather", {"city": "{b}"}), ToolUse("get_time")],
        then="{result[0][t]} in {a}, {result[1][t]} in {b}, at {result[2]}.",
    )
    caller = Caller(Rules([rule]))

    reply = caller.says("Compare Rome and Oslo")
    assert [call.arguments for call in reply.calls] == [{"city": "Rome"}, {"city": "Oslo"}, {}]
    assert len({call.call_id for call in reply.calls}) == 3
    assert caller.gets({"t": 30}, {"t": 0}, "noon").text == "30 in Rome, 0 in Oslo, at noon."


@pytest.mark.parametrize(("result", "text"), [(0, "0!"), ("", "!"), ({}, "{}!"), ([1], "[1]!"), ("a b", "a b!")])
def test_a_falsy_result_is_a_result(result: Any, text: str) -> None:
    caller = Caller(Rules([Rule("go", call="get_time", then="{result}!")]))
    caller.says("go")

    assert caller.gets(result).text == text


def test_then_may_be_a_function_or_take_turns() -> None:
    def tell(result: Any, memory: Memory) -> str:
        return f"{memory['city']}: {result['error'] if 'error' in result else result['temperature']}"

    caller = Caller(
        Rules(
            [
                Rule(f"weather {CITIES}", call="get_weather", args={"city": "{city}"}, then=tell),
                Rule("time", call="get_time", then=("It is {result}.", "Now {result}.")),
            ]
        )
    )
    caller.says("Weather Paris")
    assert caller.gets({"temperature": 5}).text == "Paris: 5"
    caller.says("Weather Paris")
    assert caller.gets({"error": "no data"}).text == "Paris: no data"
    caller.says("time")
    assert caller.gets("noon").text == "It is noon."
    caller.says("time")
    assert caller.gets("one").text == "Now one."


def test_a_failed_tool_is_told() -> None:
    caller = Caller(Rules([WEATHER], failed="{tool} failed: {error}"))
    caller.says("weather in Paris")

    assert caller.gets({"error": "timeout"}).text == "get_weather failed: timeout"


def test_a_result_that_does_not_fit_is_an_error() -> None:
    caller = Caller(Rules([WEATHER]))
    caller.says("weather in Paris")

    with pytest.raises(ToolError, match=r"weather.*get_weather does not fit.*temperature"):
        caller.gets({"temp": 5})


def test_a_tool_that_is_not_there_is_not_called() -> None:
    caller = Caller(Rules([WEATHER], unavailable="I have no {tool} here."), tools=["get_time"])

    assert caller.says("weather in Paris") == RulesReply("I have no get_weather here.")


def test_calls_have_new_and_repeatable_ids() -> None:
    callers = [Caller(Rules([WEATHER])) for _ in range(2)]
    for caller in callers:
        for _ in range(3):
            caller.says("weather in Paris")
            caller.gets({"temperature": 1})

    ids = [[call.call_id for message in caller.messages for call in message.calls] for caller in callers]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3


def test_a_result_that_comes_late_is_told_when_nobody_asks_anything() -> None:
    caller = Caller(Rules([WEATHER, Rule("hello", "Hello!")]))
    call = caller.says("weather in Paris").calls[0]
    pending = message("tool", '{"status": "pending"}', call_id=call.call_id)
    caller.messages.append(pending)

    assert caller.next_reply().text == "One moment, please."
    assert caller.says("hello").text == "Hello!"
    caller.messages[caller.messages.index(pending)] = message("tool", '{"temperature": 3}', call_id=call.call_id)
    assert caller.next_reply().text == "It is 3 degrees in Paris."
    assert caller.next_reply().text == "Hello!"  # told once


def test_a_missing_result_is_an_error() -> None:
    caller = Caller(Rules([Rule("go", call=[ToolUse("get_time"), ToolUse("get_weather")])]))
    first, second = caller.says("go").calls
    caller.messages.append(message("tool", "1", call_id=first.call_id))

    with pytest.raises(BadInput, match=f"{second.call_id}.*get_weather has no result"):
        caller.next_reply()
    with pytest.raises(BadInput, match="'x' belongs to no call"):
        Rules([WEATHER]).reply([message("tool", "1", call_id="x")], TOOLS)


def test_greets_when_the_caller_has_said_nothing() -> None:
    assert Rules([], greeting="Welcome.").reply([message("system", "Be brief.")], ()).text == "Welcome."


def test_a_question_cut_short_still_counts_and_one_that_was_not_asked_does_not() -> None:
    for heard, answered in (("", True), ("Which ci", True), ("which city", True), ("Please hold the line.", False)):
        caller = Caller(Rules([WEATHER]))
        caller.messages.append(message("user", "weather"))
        caller.next_reply(heard=heard)
        assert bool(caller.says("Paris").calls) is answered, heard


def book() -> RuleBook:
    def to(target: str) -> Mapping[str, str]:
        return {"target": target, "reason": "asked", "summary": "Caller says: {utterance}"}

    return RuleBook(
        {
            "Receptionist": Rules(
                [
                    Rule("my name is {name}", "Hello {name}."),
                    Rule("* (bill|billing|invoice) *", call="handoff_conversation", args=to("billing")),
                    Rule("what is this", "Reception."),
                ]
            ),
            "Billing agent": Rules(
                [
                    Rule("[*] invoice [number] {invoice:number}", "Invoice {invoice} is paid, {name}."),
                    Rule("* weather *", call="handoff_conversation", args=to("reception")),
                    Rule("what is this", "Billing."),
                ],
                greeting="Billing, how can I help?",
                memory={"name": None},
            ),
        }
    )


def test_a_rule_book_goes_by_the_role_in_the_instructions() -> None:
    for role, answer in (
        ("Receptionist", "Reception."),
        ("billing agent", "Billing."),
        ("Somebody", "Reception."),
        (None, "Reception."),
    ):
        caller = Caller(book())
        if role:
            caller.becomes(role)
        assert caller.says("What is this?").text == answer


def test_a_rule_book_may_have_another_default() -> None:
    other = Rules([Rule("*", "Other.")])

    assert RuleBook({"A": Rules([])}, other).reply([message("user", "hi")], ()).text == "Other."


def test_a_hand_off_keeps_what_is_known_and_the_new_agent_goes_on() -> None:
    caller = Caller(book())
    caller.becomes("Receptionist")
    assert caller.says("My name is Ann").text == "Hello Ann."
    call = caller.says("I have a billing question").calls[0]
    assert call.arguments["summary"] == "Caller says: I have a billing question"

    caller.messages[0] = message("system", identity("Billing agent"))
    assert caller.gets({"accepted": True}).text == "Billing, how can I help?"
    assert caller.says("Invoice number forty two").text == "Invoice 42 is paid, Ann."


def test_the_new_agent_answers_what_was_said_if_it_can() -> None:
    caller = Caller(book())
    caller.says("My name is Ann")
    assert caller.says("What about invoice 7?").calls

    caller.messages.insert(0, message("system", identity("Billing agent")))
    caller.gets({"accepted": True})
    assert caller.says("invoice 7").text == "Invoice 7 is paid, Ann."

    direct = Caller(book())
    direct.says("My name is Ann")
    direct.says("the invoice 7")
    direct.messages.insert(0, message("system", identity("Billing agent")))
    assert direct.gets({"accepted": True}).text == "Invoice 7 is paid, Ann."


def test_a_refused_hand_off_is_told_by_the_agent_who_tried() -> None:
    caller = Caller(book())
    caller.says("billing")

    assert caller.gets({"accepted": False, "reason": "closed"}).text == "Sorry, that did not work: closed."


def test_an_agent_does_not_hand_back_what_it_was_handed() -> None:
    there = Rules([Rule("* billing *", call="handoff_conversation", args={"target": "a"})], greeting="Here is B.")
    back = Rules([Rule("* billing *", call="handoff_conversation", args={"target": "b"})], greeting="Here is A.")
    caller = Caller(RuleBook({"A": back, "B": there}))
    caller.says("billing")
    caller.becomes("B")

    assert caller.gets({"accepted": True}) == RulesReply("Here is B.")


def test_messages_of_another_kind_of_model_are_understood() -> None:
    messages = [
        message("user", "What is the weather in Paris?"),
        message("assistant", "Let me see.", (ToolRequest(call_id="abc", name="lookup", arguments={"where": "Paris"}),)),
        message("tool", "sunny", call_id="abc"),
        message("assistant", "Sunny!"),
        message("user", ""),
        message("user", "And how is the weather now?"),
    ]

    assert Rules([WEATHER]).reply(messages, TOOLS).calls[0].arguments == {"city": "Paris"}


def test_expected_phrases_hold_what_a_caller_may_say() -> None:
    rules = Rules(
        [
            Rule("(hello|hi) [there|you]", "Hello."),
            Rule("* What's the weather [in {city:Paris|New York}] *", "Fine.", ask={"city": "Where?"}),
            Rule("my name is {name}", "Hello."),
            Rule("{anything}", "Hm."),
            Rule("[*|really] no", "No."),
            Rule("(hello|hi) [there|you]", "Twice."),
        ]
    )

    assert rules.expected_phrases() == [
        "(hello|hi) [(there|you)]",
        "what's the weather [in (paris|new york)]",
        "my name is",
        "[really] no",
        "(paris|new york)",
    ]
    (numbers,) = Rules([Rule("{n:number}", "Ok.")]).expected_phrases()
    assert numbers.startswith("((zero|one|two|")
    assert "|(twenty|thirty|" in numbers
    assert numbers.endswith("|ninety) [(one|two|three|four|five|six|seven|eight|nine)])")
    assert "what is this" in book().expected_phrases()


def test_streams_words_with_their_spaces() -> None:
    text = " It is  21\ndegrees. "

    assert list(Rules([]).stream(text)) == [" It ", "is  ", "21\n", "degrees. "]
    assert "".join(book().stream(text)) == text
    assert list(Rules([]).stream("")) == []


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("", "it is empty"),
        ("?!", "it is empty"),
        ("(a|b", r"'\)' is missing"),
        ("[a", r"'\]' is missing"),
        ("a)", r"'\)' closes nothing"),
        ("{city", r"'\{' closes nothing"),
        ("(a|)", "an option is empty"),
        ("{1}", "'1' is not a name for a slot"),
        ("{a:}", "slot 'a' has an empty choice"),
        ("{a:x||y}", "slot 'a' has an empty choice"),
    ],
)
def test_refuses_a_pattern_it_cannot_read(pattern: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refused:
        Rules([Rule(pattern, "Yes.")])
    assert f"pattern {pattern!r}: " in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (Rule("hi", "Hello {nam}."), r"rule 'hi', reply: nothing fills \{nam\}; there are city, name"),
        (Rule("hi", ["Hello.", "Hello {nam}."]), r"nothing fills \{nam\}"),
        (Rule("hi", "Hello {name.__class__}."), r"cannot use \{name.__class__\}"),
        (Rule("hi", "Hello {name"), r"rule 'hi': 'Hello \{name'"),
        (Rule("hi", "Hello {}"), r"cannot use \{\}"),
        (Rule("hi", "{result}"), r"nothing fills \{result\}"),
        (Rule("hi", ()), "neither a reply nor a call"),
        (Rule("hi", 5), "5 is neither a template"),  # type: ignore[arg-type]
        (Rule("hi"), "neither a reply nor a call"),
        (Rule((), "Yes."), "has no pattern"),
        (Rule("hi", "Yes.", then="{result}"), "`then` without a call"),
        (Rule("hi", call="t", args={"a": ["{x}"]}), r"args of t: nothing fills \{x\}"),
        (Rule("hi", call="t", then="{reslt}"), r"then: nothing fills \{reslt\}"),
        (Rule("hi", call=[ToolUse("t", {"a": "{x}"})]), r"args of t: nothing fills \{x\}"),
        (Rule("hi", call=[ToolUse("t")], args={"a": 1}), "args belong to a single call"),
        (Rule("hi", call=["t"]), "name of a tool or several ToolUse"),  # type: ignore[list-item]
        (Rule("hi", call=""), "name of a tool or several ToolUse"),
        (Rule("hi", "Yes.", ask={"day": "Which day in {town}?"}), r"ask day: nothing fills \{town\}"),
        (Rule("hi", "Yes.", ask={"day:a|": "Which?"}), "ask: slot 'day' has an empty choice"),
        (Rule("my {result}", "Yes."), "result: this name has a meaning of its own"),
    ],
)
def test_refuses_a_rule_that_cannot_work(rule: Rule, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Rules([rule, Rule("in {city}", "Ok."), Rule("i am {name}", "Ok.")])


def test_refuses_texts_that_use_what_is_not_always_known() -> None:
    with pytest.raises(ConfigurationError, match=r"fallback: nothing fills \{name\}"):
        Rules([Rule("i am {name}", "Ok.")], fallback="What, {name}?")
    with pytest.raises(ConfigurationError, match=r"greeting: nothing fills \{utterance\}"):
        Rules([], greeting="{utterance}")
    with pytest.raises(ConfigurationError, match="at least one agent"):
        RuleBook({})
    given = Rules([], fallback="What, {name}?", memory={"name": "Ann"})
    assert given.reply([message("user", "x")], ()).text == "What, Ann?"


def test_a_result_that_is_text_of_100_000_brackets_is_a_text() -> None:
    caller = Caller(Rules([Rule("time", call="get_time", then=lambda result, memory: result[:3])]))
    caller.says("time")
    assert caller.gets("[" * 100_000).text == "[[["
