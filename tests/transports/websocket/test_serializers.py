"""The dialects of the WebSocket: what is said comes back, and nothing that comes can do harm."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.audio.g711 import MU_LAW
from duologue.audio.pcm import downmix
from duologue.transports.websocket.pipecat_frames import PipecatSerializer, fields
from duologue.transports.websocket.serializers import (
    Audio,
    DuologueClientSerializer,
    DuologueSerializer,
    FastRtcSerializer,
    Malformed,
    Ping,
    Played,
    Serializer,
    Stop,
    TypedText,
)
from duologue.web.rtvi.messages import RtviWords

PCM = st.binary(max_size=400).map(lambda data: data[: len(data) // 2 * 2])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
DIALECTS = [
    DuologueSerializer(words=RtviWords()),
    DuologueSerializer(words=RtviWords(), binary=True),
    DuologueClientSerializer(),
    PipecatSerializer(),
    FastRtcSerializer(),
]


def text_of(message: dict[str, Any]) -> str:
    return json.dumps(message)


# -- there and back ----------------------------------------------------------------------------------------------------


@given(PCM, st.booleans(), st.sampled_from([8_000, 16_000, 24_000, 48_000]))
def test_audio_comes_back_in_json_and_binary(pcm: bytes, binary: bool, rate: int) -> None:
    server = DuologueSerializer(binary=binary, input_sample_rate=rate, output_sample_rate=rate)
    client = DuologueClientSerializer(binary=binary, input_sample_rate=rate, output_sample_rate=rate)
    assert client.parse(server.audio(pcm)) == Audio(pcm, rate)
    assert server.parse(client.audio(pcm)) == Audio(pcm, rate)


@given(PCM, st.sampled_from([8_000, 24_000, 48_000]))
def test_audio_comes_back_in_pipecats_frames(pcm: bytes, rate: int) -> None:
    pipecat = PipecatSerializer(output_sample_rate=rate)
    assert pipecat.parse(pipecat.audio(pcm)) == Audio(pcm, rate)


@given(st.binary(max_size=300))
def test_audio_comes_back_in_fastrtcs_events(code: bytes) -> None:
    fastrtc = FastRtcSerializer()
    pcm = MU_LAW.decode(code)
    assert fastrtc.parse(fastrtc.audio(pcm)) == Audio(pcm, 8_000)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_messages_come_back(message: dict[str, Any]) -> None:
    message = {**message, "label": "rtvi-ai", "type": "audio"}
    for dialect in DIALECTS[:4]:
        wired = dialect.message(message)
        assert wired is not None
        assert dialect.parse(wired) == message
    assert FastRtcSerializer().message(message) is None


# -- what comes --------------------------------------------------------------------------------------------------------


def test_the_kinds_of_messages_in_json() -> None:
    ours = DuologueSerializer()
    assert ours.parse('{"type":"ping"}') == Ping()
    assert ours.parse('{"type":"played","ms":20.5}') == Played(20.5)
    assert ours.pong() == '{"type":"pong"}'
    assert ours.clear() == '{"type":"clear_audio"}'
    assert json.loads(str(ours.error("code", "text"))) == {"type": "error", "code": "code", "message": "text"}


def test_only_the_given_words_are_known_on_a_channel() -> None:
    ready = text_of({"label": "rtvi-ai", "type": "client-ready"})
    assert DuologueSerializer(words=RtviWords()).parse(ready) == json.loads(ready)
    with pytest.raises(Malformed, match="type"):
        DuologueSerializer().parse(ready)
    assert PipecatSerializer().error("code", "text") is None
    assert b"rtvi-ai" in bytes(PipecatSerializer(words=RtviWords()).error("code", "text") or b"")  # type: ignore[arg-type]


def test_the_client_hears_of_everything() -> None:
    client = DuologueClientSerializer()
    assert client.parse('{"type":"pong"}') is None
    assert client.parse('{"type":"speaking","who":"user"}') == {"type": "speaking", "who": "user"}
    assert client.clear() is None
    with pytest.raises(Malformed, match="sample rate"):
        client.parse('{"type":"audio","data":"","sample_rate":1}')


def test_the_kinds_of_events_of_fastrtc() -> None:
    fastrtc = FastRtcSerializer()
    assert fastrtc.parse('{"event":"ping"}') == Ping()
    assert fastrtc.parse('{"event":"stop"}') == Stop()
    assert fastrtc.parse('{"event":"start","websocket_id":"x"}') is None
    assert fastrtc.connection_id('{"event":"start","websocket_id":"x"}') == "x"
    assert fastrtc.clear() is None
    refusal = json.loads(fastrtc.refusal("concurrency_limit_reached", 3))
    assert refusal == {"status": "failed", "meta": {"error": "concurrency_limit_reached", "limit": 3}}


def test_frames_as_the_protobuf_compiler_makes_them() -> None:
    pipecat = PipecatSerializer()
    assert pipecat.parse(bytes.fromhex("0a0a0801120261621a024869")) == TypedText("Hi")
    stereo = bytes.fromhex("0100030002000400")
    audio = b"\x08\x01\x12\x01a\x1a\x08" + stereo + b"\x20\xc4\xd8\x02\x28\x02\x30\x07"
    assert pipecat.parse(b"\x12" + bytes([len(audio)]) + audio) == Audio(b"\x02\0\x03\0", 44_100)
    # Fields that are not known yet are passed over: a number, 8 bytes, some bytes, 4 bytes.
    unknown = b"\x38\x01" + b"\x41" + bytes(8) + b"\x4a\x01x" + b"\x55" + bytes(4)
    assert pipecat.parse(unknown + b"\x22\x04\x0a\x02{}" + unknown) == {}
    assert pipecat.clear() == b"\x2a\x00"
    assert list(fields(b"\x08\x96\x01")) == [(1, 150)]


BAD_OURS = [
    "",
    "[]",
    "null",
    "{",
    '{"type":"audio"}',
    '{"type":"audio","data":5}',
    '{"type":"audio","data":"?"}',
    '{"type":"played"}',
    '{"type":"played","ms":-1}',
    '{"type":"played","ms":"1"}',
    '{"type":"played","ms":true}',
    '{"type":"played","ms":1e999}',
    '{"type":"whatever"}',
    '{"type":["audio"]}',
    "{}",
    "[" * 100_000,
    '{"type":"\\ud800"}',
]
BAD_PIPECAT = [
    "text",
    b"",
    b"\x0a",
    b"\x0a\x05",
    b"\x00\x00",
    b"\x0b",
    b"\xff" * 11,
    b"\x08\x01",
    b"\x0a\x00",
    b"\x0a\x03\x1a\x01\xff",
    b"\x12\x02\x1a\x00",
    b"\x12\x05\x1a\x01\x00\x20\x01",
    b"\x12\x06\x1a\x02\0\0\x28\x00",
    b"\x22\x03\x0a\x01[",
    b"\x2a\x00",
    b"\x0a\x00\x2a\x00",
]
BAD_FASTRTC = [
    b"",
    "x",
    "{}",
    '{"event":"mark"}',
    '{"event":"media"}',
    '{"event":"media","media":[]}',
    '{"event":"media","media":{"payload":"?"}}',
]


@pytest.mark.parametrize(
    ("dialect", "data"),
    [
        *((DuologueSerializer(), data) for data in BAD_OURS),
        *((PipecatSerializer(words=RtviWords()), data) for data in BAD_PIPECAT),
        *((FastRtcSerializer(), data) for data in BAD_FASTRTC),
    ],
)
def test_what_means_nothing_is_refused(dialect: Serializer, data: str | bytes) -> None:
    with pytest.raises(Malformed) as caught:
        dialect.parse(data)
    assert caught.value.code
    answer = dialect.error(caught.value.code, str(caught.value))
    assert answer


@given(st.binary(max_size=200) | st.text(max_size=200) | JSON.map(json.dumps))
def test_nothing_that_comes_does_harm(data: str | bytes) -> None:
    for dialect in DIALECTS:
        with contextlib.suppress(Malformed):
            dialect.parse(data)


@given(st.lists(st.sampled_from([b"\x0a", b"\x12", b"\x1a", b"\x20", b"\x28", b"\x02", b"\x00", b"\xff", b"{}"])))
def test_nothing_that_looks_like_a_frame_does_harm(parts: list[bytes]) -> None:
    with contextlib.suppress(Malformed):
        PipecatSerializer().parse(b"".join(parts))


def test_a_refusal_quotes_nothing_of_the_message() -> None:
    for data in ('{"type":"secret"}', '{"type":"audio","data":"secret!"}', "secret", '{"type":"played","ms":"secret"}'):
        with pytest.raises(Malformed) as caught:
            DuologueSerializer().parse(data)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("data", ["{}", '{"event":"start"}', '{"event":"start","websocket_id":""}', b"\0", "x"])
def test_a_connection_of_fastrtc_begins_with_its_id(data: str | bytes) -> None:
    with pytest.raises(Malformed):
        FastRtcSerializer.connection_id(data)


# -- µ-law -------------------------------------------------------------------------------------------------------------


def test_a_payload_of_silence() -> None:
    event = text_of({"event": "media", "media": {"payload": b64encode(b"\xff" * 160).decode()}})
    assert FastRtcSerializer().parse(event) == Audio(bytes(320), 8_000)


# -- any bytes, any text -----------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=60), st.integers(2, 6), st.lists(st.integers(0, 60), max_size=6))
def test_pipecats_audio_of_several_channels_may_be_cut_anywhere(data: bytes, channels: int, cuts: list[int]) -> None:
    pipecat, found = PipecatSerializer(), b""
    ends = sorted(min(cut, len(data)) for cut in cuts)
    for begin, end in zip([0, *ends], [*ends, len(data)], strict=True):
        frame = b"\x1a" + bytes([end - begin]) + data[begin:end] + b"\x20\x80\x7d\x28" + bytes([channels])
        received = pipecat.parse(b"\x12" + bytes([len(frame)]) + frame)
        assert isinstance(received, Audio)
        found += received.pcm
    assert found == downmix(data[: len(data) - len(data) % (2 * channels)], channels)


def test_half_a_character_is_no_reason_to_refuse_a_message() -> None:
    words = DuologueSerializer(words=RtviWords())
    message = words.parse('{"label":"rtvi-ai","type":"send-text","data":{"content":"a\\ud83d"}}')
    assert isinstance(message, dict)
    assert message["data"]["content"] == "a\ud83d"
