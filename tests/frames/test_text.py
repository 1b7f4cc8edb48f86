"""Every text is well-formed where it enters, whatever it was cut into."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duologue.agents.agent import Agent
from duologue.agents.engine import EngineConfig
from duologue.agents.flow import Flow, Stage
from duologue.agents.tool import ToolSpec
from duologue.errors import BadInput
from duologue.frames import (
    ApprovalWanted,
    BotText,
    Configure,
    End,
    ErrorRaised,
    Frame,
    HandoffCompleted,
    Respond,
    ResponseEnded,
    Say,
    ToolCall,
    ToolCalled,
    ToolResult,
    Transcribed,
    Transfer,
    UserText,
    UserTranscript,
    decode,
    encode,
)
from duologue.frames.text import TextPieces, from_json, joined, to_json, well_formed, well_formed_data
from duologue.session.conversation import Conversation
from duologue.session.item import Item

DIRT = "\ud83d \ude00\ud83d\ude00 e\u0301 \x00\x07\x9f \ufeff\u202e a\r\nb\tc"
CLEAN = "\ufffd \ufffd\U0001f600 \xe9   a\nb\tc"

ANY = st.text(st.characters(exclude_categories=()), max_size=30) | st.text(
    st.sampled_from("ae\u0301\u0323\u1100\u1161\u11a8\ud83d\ude00\r\n\0\u202e\u200d👩"), max_size=30
)


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted(min(place, len(text)) for place in places)
    return [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def test_what_is_made_of_a_text() -> None:
    assert well_formed(DIRT) == CLEAN
    assert well_formed("plain, ASCII") == "plain, ASCII"
    assert well_formed("a\rb\r\nc\u2028d\x85e") == "a\nb\nc\nd\ne"


@given(ANY)
def test_a_well_formed_text_can_be_encoded_and_stays_as_it_is(text: str) -> None:
    found = well_formed(text)
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert unicodedata.is_normalized("NFC", found)
    assert well_formed(found) == found


@given(ANY, st.lists(st.integers(0, 30), max_size=6))
@example("a\ud83d\ude00b", [2])
@example("a\r\nb", [2])
@example("e\u0301", [1])
def test_a_text_in_pieces_becomes_the_same_text(text: str, places: list[int]) -> None:
    pieces, found = TextPieces(), ""
    for piece in cut(text, places):
        found = joined(found, pieces.feed(piece))
    found = joined(found, pieces.flush())
    assert found == well_formed(text)


FRAMES: list[tuple[Frame, str]] = [
    (UserText(text=DIRT), "text"),
    (Say(text=DIRT), "text"),
    (Respond(instructions=DIRT), "instructions"),
    (UserTranscript(text=DIRT), "text"),
    (Transcribed(text=DIRT), "text"),
    (BotText(text=DIRT), "text"),
    (ResponseEnded(reason=DIRT), "reason"),
    (Configure(instructions=DIRT), "instructions"),
    (Transfer(target="x", summary=DIRT), "summary"),
    (End(reason=DIRT), "reason"),
    (ErrorRaised(processor="x", category="x", message=DIRT), "message"),
    (HandoffCompleted(source="a", target="b", summary=DIRT), "summary"),
]


@pytest.mark.parametrize(("frame", "field"), FRAMES, ids=lambda value: type(value).__name__)
def test_the_texts_of_frames_are_well_formed(frame: Frame, field: str) -> None:
    assert getattr(frame, field) == CLEAN
    assert decode(encode(frame, "json"), "json") == frame
    changed: Frame = msgspec.structs.replace(frame, **{field: DIRT + "!"})
    assert getattr(changed, field) == CLEAN + "!"


NESTED: dict[str, Any] = {"a\ud83d": [DIRT, {"b": (DIRT, 1, None, b"\xff")}]}
CLEAN_DATA = CLEAN.replace("\n", "\r\n")  # line ends of data stay


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (ToolCall(call_id="1", name="n", arguments=NESTED), "arguments"),
        (ToolCalled(call_id="1", name="n", arguments=NESTED), "arguments"),
        (ApprovalWanted(call_id="1", name="n", arguments=NESTED), "arguments"),
        (ToolResult(call_id="1", name="n", result=NESTED), "result"),
        (Configure(options=NESTED), "options"),
        (ToolSpec(name="n", parameters=NESTED), "parameters"),
        (EngineConfig(options=NESTED), "options"),
        (Item(id="1", kind="tool_result", role="tool", data=NESTED), "data"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_data_is_well_formed_at_every_depth(made: msgspec.Struct, field: str) -> None:
    assert getattr(made, field) == {"a\ufffd": [CLEAN_DATA, {"b": (CLEAN_DATA, 1, None, b"\xff")}]}


def nested(levels: int) -> Any:
    inner: Any = []
    for _ in range(levels - 1):
        inner = {"a": inner} if isinstance(inner, list) else [inner]
    return inner


def circular() -> Any:
    circle: list[Any] = []
    circle.extend([circle, circle])
    return circle


@pytest.mark.parametrize("data", [nested(101), nested(100_000), circular()], ids=["101", "100,000", "circle"])
def test_data_of_many_levels_is_refused_by_the_name_of_its_place(data: Any) -> None:
    for make in (
        lambda: ToolResult(call_id="c", name="n", result=data),
        lambda: ToolCall(call_id="c", name="n", arguments={"a": data}),
        lambda: Item(id="i", kind="tool_result", role="tool", data=data),
        lambda: Configure(options={"a": data}),
    ):
        with pytest.raises(BadInput, match=r"(result|arguments|data|options): the data is nested more than 100 levels"):
            make()
    with pytest.raises(BadInput, match="not a JSON value"):
        to_json(circular())


def test_data_of_the_most_levels_passes_on_a_deep_stack() -> None:
    data = nested(100)

    def below(calls: int) -> Any:
        return below(calls - 1) if calls else ToolResult(call_id="c", name="n", result=data).result

    assert below(600) is data


def test_data_that_is_well_formed_is_not_copied() -> None:
    plain = {"a": ["b", {"c": 1}]}
    assert well_formed_data(plain) is plain


def test_the_log_and_its_rows_are_well_formed() -> None:
    log = Conversation("s", lambda: 0.0)
    item = log.add("message", "caller", text=DIRT, author=DIRT)
    assert (item.text, item.author) == (CLEAN, CLEAN)
    assert log.update(item.id, text=DIRT + ".").text == CLEAN + "."
    msgspec.json.encode(log.rows())


def test_names_are_as_models_give_them_back() -> None:
    apart = "Zoe\u0308"
    agent = Agent(name=apart, targets=(apart,))
    stage = Stage(phase=apart, agent=apart, next=apart, can_return_to={apart})
    assert [agent.name, *(agent.targets or ()), stage.phase, stage.agent, *stage.reachable] == ["Zo\xeb"] * 6
    assert Flow([stage]).first.agent == Transfer(target=apart).target


class Shape(msgspec.Struct):
    text: str
    data: bytes = b""


def test_json_with_half_a_character_is_read_and_other_faults_are_not() -> None:
    decoder = msgspec.json.Decoder(Shape)
    assert from_json(r'{"text": "a\ud83d", "data": "aGk="}', decoder) == Shape("a\ud83d", b"hi")
    assert from_json('{"text": "a\ud83d", "data": "aGk="}', decoder) == Shape("a\ud83d", b"hi")
    assert well_formed(from_json(json.dumps({"text": DIRT}).encode(), decoder).text) == CLEAN
    for bad in (r'{"text": "\ud83d"', '{"text": 1}', r'{"text": 1, "x": "\ud83d"}', "{"):
        with pytest.raises(msgspec.DecodeError):
            from_json(bad, decoder)


@pytest.mark.parametrize("levels", [63, 64, 65, 66, 500, 100_000])
@pytest.mark.parametrize("tail", ["", ', "]}"', r', "\ud83d", "\"]"'])
def test_json_of_others_has_64_levels(levels: int, tail: str) -> None:
    opening, closing = '[{"[{": ' * (levels // 2) + "[" * (levels % 2), "]" * (levels % 2) + "}]" * (levels // 2)
    text = opening + "1" + closing[:-1] + tail + closing[-1]
    for data in (text, text.encode(), bytearray(text.encode())):
        if levels <= 64:
            assert from_json(data)
        else:
            with pytest.raises(msgspec.DecodeError, match=r"nested more than 64 levels|recursion"):
                from_json(data)
    assert len(from_json("[" + "[{}, []]," * 500 + "1]")) == 501


@pytest.mark.parametrize("text", [5, 0, None, b"hello", ["hello"]])
def test_a_field_for_a_text_takes_nothing_else(text: Any) -> None:
    with pytest.raises(BadInput, match=r"UserText.text is a text, not \w+"):
        UserText(text=text)
