"""Frames as bytes: what comes back is what went in, and what is malformed is refused by name."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue import frames
from duologue.errors import BadInput
from duologue.frames import (
    BotAudio,
    Control,
    Frame,
    Input,
    Output,
    Signal,
    ToolResult,
    UserAudio,
    UserText,
    UserTranscript,
    Word,
    decode,
    encode,
    frame_types,
)

CATALOGUE = tuple(
    kind
    for name in frames.__all__
    if isinstance(kind := getattr(frames, name), type)
    and issubclass(kind, Frame)
    and kind not in (Frame, Signal, Input, Output, Control)
)
FORMATS: tuple[Literal["msgpack", "json"], ...] = ("msgpack", "json")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = texts.filter(bool)
numbers = st.integers(-(2**63), 2**63 - 1)
reals = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | numbers | reals | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
words = st.builds(Word, texts, reals, reals)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """The values of a field of this type."""
    if isinstance(kind, msgspec.inspect.UnionType):
        return st.one_of([values(each) for each in kind.types])
    if isinstance(kind, msgspec.inspect.LiteralType):
        return st.sampled_from(kind.values)
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return st.lists(values(kind.item_type), max_size=3).map(tuple)
    if isinstance(kind, msgspec.inspect.DictType):
        scores = isinstance(kind.value_type, msgspec.inspect.FloatType)
        return st.dictionaries(names, reals, max_size=3) if scores else st.dictionaries(texts, plain, max_size=3)
    if isinstance(kind, msgspec.inspect.StructType):
        return words
    simple: dict[type[Any], st.SearchStrategy[Any]] = {
        msgspec.inspect.StrType: texts,
        msgspec.inspect.IntType: numbers,
        msgspec.inspect.FloatType: reals,
        msgspec.inspect.BoolType: st.booleans(),
        msgspec.inspect.BytesType: st.binary(max_size=20),
        msgspec.inspect.AnyType: plain,
        msgspec.inspect.NoneType: st.none(),
    }
    return simple[type(kind)]


def frames_of(kind: type[Frame]) -> st.SearchStrategy[Frame]:
    """Any frame of a type, every field filled."""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    fields = {field.name: values(field.type) for field in info.fields}
    if issubclass(kind, UserAudio | BotAudio):
        fields |= {
            "sample_rate": st.integers(1, 384_000),
            "channels": st.sampled_from([1, 2]),
            "audio": st.binary(max_size=5).map(lambda data: data * 4),
        }
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_every_frame_comes_back_as_it_was(kind: type[Frame], data: st.DataObject) -> None:
    frame = data.draw(frames_of(kind))
    for format in FORMATS:
        back = decode(encode(frame, format), format)
        assert type(back) is kind
        assert back == frame


def test_the_catalogue_has_all_four_families_and_knows_them_by_name() -> None:
    assert len(CATALOGUE) > 30
    assert {
        family for family in (Signal, Input, Output, Control) for kind in CATALOGUE if issubclass(kind, family)
    } == {
        Signal,
        Input,
        Output,
        Control,
    }
    assert set(CATALOGUE) <= set(frame_types())
    assert not {Frame, Signal, Input, Output, Control} & set(frame_types())


def test_what_has_its_default_takes_no_room() -> None:
    assert encode(UserText(text="hi"), "json") == b'{"type":"UserText","text":"hi"}'


def test_a_falsy_result_of_a_tool_is_a_result() -> None:
    results: list[Any] = [0, "", False, None, {}, []]
    for result in results:
        back = decode(encode(ToolResult(call_id="c", name="n", result=result)))
        assert isinstance(back, ToolResult)
        assert back.result == result
        assert type(back.result) is type(result)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b'{"type":"UserText","text":7}', "text"),
        (b'{"type":"UserText"}', "text"),
        (b'{"type":"UserTranscript","text":"a","words":[["b",0.0]]}', "words"),
        (b'{"type":"UserTranscript","text":"a","words":[["b",0.0,"late"]]}', "words"),
        (b'{"type":"ResponseEnded","status":"finished"}', "status"),
        (b'{"type":"ToolCall","call_id":"c","name":"n","arguments":[]}', "arguments"),
        (b'{"type":"UserAudio","audio":"not base64!"}', "audio"),
        (b'{"type":"UserAudio","audio":"AAA=","sample_rate":16000.5}', "sample_rate"),
        (b'{"type":"UserAudio","audio":"AAA=","sample_rate":0}', "sample_rate of 0"),
        (b'{"type":"UserAudio","audio":"AAAA"}', "UserAudio: 3 bytes"),
        (b'{"type":"Nonsense"}', "Nonsense"),
        (b'{"type":7}', "type"),
        (b'{"text":"hi"}', "type"),
        (b'["UserText","hi"]', "object"),
        (b"null", "object"),
        (b"", "truncated"),
        (b'{"type":"UserText","text":"h', "truncated"),
        (b'{"type":"UserText","text":"hi"} and more', "malformed|trailing"),
        (b'{"type":"UserText","text":"\xff"}', "utf-8|malformed"),
    ],
)
def test_a_malformed_frame_is_refused_and_the_field_named(data: bytes, names: str) -> None:
    with pytest.raises(BadInput, match=f"(?i){names}"):
        decode(data, "json")


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_an_integer_beyond_all_bounds_is_refused(digits: int) -> None:
    data = b'{"type":"UserAudio","audio":"AAA=","sample_rate":' + b"9" * digits + b"}"
    with pytest.raises(BadInput, match="sample_rate"):
        decode(data, "json")


@pytest.mark.parametrize(
    ("format", "opening"), [("json", b'{"type":"ToolResult","call_id":"c","name":"n","result":'), ("msgpack", b"")]
)
def test_endless_nesting_is_refused(format: Literal["msgpack", "json"], opening: bytes) -> None:
    deep = b"[" * 100_000 if format == "json" else b"\x91" * 100_000
    if format == "msgpack":
        whole = encode(ToolResult(call_id="c", name="n", result=None))
        opening = whole[:-1]
        assert whole[-1:] == b"\xc0"  # the result, None, comes last
    with pytest.raises(BadInput, match="recursion"):
        decode(opening + deep, format)


def test_lengths_that_lie_take_no_memory() -> None:
    opening = encode(ToolResult(call_id="c", name="n", result=None))[:-1]
    for lie in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"):
        with pytest.raises(BadInput, match="truncated"):
            decode(opening + lie)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_noise_is_refused_and_never_anything_worse(noise: bytes) -> None:
    for format in FORMATS:
        with pytest.raises(BadInput):
            decode(noise, format)


@settings(max_examples=100)
@given(frame=st.sampled_from(CATALOGUE).flatmap(frames_of), data=st.data())
def test_half_a_frame_is_refused(frame: Frame, data: st.DataObject) -> None:
    for format in FORMATS:
        whole = encode(frame, format)
        with pytest.raises(BadInput, match=r"truncated|malformed"):
            decode(whole[: data.draw(st.integers(0, len(whole) - 1))], format)


@settings(max_examples=200)
@given(frame=st.sampled_from(CATALOGUE).flatmap(frames_of), data=st.data())
def test_a_damaged_frame_is_a_frame_or_refused(frame: Frame, data: st.DataObject) -> None:
    for format in FORMATS:
        damaged = bytearray(encode(frame, format))
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        with suppress(BadInput):
            assert isinstance(decode(bytes(damaged), format), Frame)


class Unplain:
    """Has no form as data."""


def endless() -> list[Any]:
    nested: list[Any] = []
    nested.append(nested)
    return nested


@pytest.mark.parametrize(
    ("result", "why"),
    [(Unplain(), "Unplain"), ({1j: 2}, "complex|key")],
    ids=["object", "key"],
)
def test_what_has_no_plain_form_is_refused_by_the_name_of_its_frame(result: Any, why: str) -> None:
    for format in FORMATS:
        with pytest.raises(BadInput, match=f"ToolResult cannot be encoded: .*({why})"):
            encode(ToolResult(call_id="c", name="n", result=result), format)


def test_what_is_no_bytes_is_refused() -> None:
    with pytest.raises(BadInput, match="bytes"):
        decode(42)  # type: ignore[arg-type]


def test_not_a_number_survives_msgpack_and_is_null_in_json() -> None:
    back = decode(encode(UserAudio(audio=b"", at=math.nan)))
    assert isinstance(back, UserAudio)
    assert math.isnan(back.at)
    assert encode(UserAudio(audio=b"", at=math.nan), "json") == b'{"type":"UserAudio","audio":"","at":null}'


def test_an_application_adds_frames_of_its_own() -> None:
    decode(encode(UserText(text="before the new type exists")))

    class Mood(Input, frozen=True, kw_only=True):
        valence: float
        words: tuple[Word, ...] = ()

    mood = Mood(valence=0.25, words=(Word("oh ", 0.0, 0.5),))
    for format in FORMATS:
        assert decode(encode(mood, format), format) == mood
    with pytest.raises(BadInput, match=re.escape("$.valence")):
        decode(b'{"type":"Mood","valence":"good"}', "json")


def test_two_types_of_one_name_are_refused_and_nothing_else_suffers() -> None:
    def mine() -> Frame:
        class Twin(Input, frozen=True, kw_only=True):
            pass

        return Twin()

    def theirs() -> Frame:
        class Twin(Signal, frozen=True, kw_only=True):
            pass

        return Twin()

    for twin in (mine(), theirs()):
        with pytest.raises(BadInput, match=r"'Twin'.* shared by .*theirs.*Twin and .*mine.*Twin"):
            decode(encode(twin))
    assert decode(encode(UserText(text="hi"))) == UserText(text="hi")


def test_transcripts_keep_their_words() -> None:
    said = UserTranscript(text="two words", words=(Word("two ", 0.0, 0.3), Word("words", 0.3, 0.8)))
    back = decode(encode(said, "json"), "json")
    assert isinstance(back, UserTranscript)
    assert "".join(word.text for word in back.words) == "two words"
