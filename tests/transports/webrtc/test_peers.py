"""Far ends of all kinds: gateways with G.711 alone, RSA certificates, offers with too many addresses or no sense."""

from __future__ import annotations

import asyncio
import gc
import re
from typing import Any

import aioice
import aiortc.rtcpeerconnection
import numpy as np
import pytest
from aiortc import RTCCertificate, RTCPeerConnection
from aiortc.rtcdtlstransport import generate_certificate
from cryptography.hazmat.primitives.asymmetric import rsa

from duologue.errors import BadInput
from duologue.testing.webrtc import WebRTCClient
from duologue.transports.webrtc.codecs import make_decoder, make_encoder, offered_codec
from duologue.transports.webrtc.peer import MAX_ADDRESSES, MAX_SDP, close_connection
from duologue.transports.webrtc.sdp import has_fingerprint
from tests.patience import until
from tests.transports.webrtc.test_webrtc import line
from tests.web.webrtc_client import RATE, envelope, loudness, tone

real_clock = pytest.mark.real_clock


# -- G.711 -------------------------------------------------------------------------------------------------------------


@real_clock
@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_a_far_end_with_g711_alone_is_heard_and_hears(codec: str) -> None:
    async with line() as it, WebRTCClient(it.request, codecs=[codec]) as client:
        client.microphone.say(tone(1.0, 16_000, hz=440))
        await until(lambda: it.engine.heard)
        await it.engine.say(tone(1.0, RATE, hz=600))
        await until(lambda: len(it.engine.pcm()) > 2 * 16_000 * 1.5)
        await until(lambda: len(client.heard_pcm()) > 2 * 8_000 * 1.5)
        for pcm, rate, hz in ((it.engine.pcm(), 16_000, 440), (client.heard_pcm(), client.heard_rate, 600)):
            sounding = np.flatnonzero(envelope(pcm, rate) > 1000)
            assert 0.9 < (sounding[-1] - sounding[0] + 1) * 0.01 < 1.1
            spectrum = np.abs(np.fft.rfft(np.frombuffer(pcm, "<i2").astype(float)))
            assert abs(np.argmax(spectrum) * rate / (len(pcm) / 2) - hz) < 5


@real_clock
async def test_opus_is_answered_alone_where_it_is_offered() -> None:
    async with line() as it:
        client = WebRTCClient(it.request, codecs=["PCMU", "opus"])
        answer = await it.transport.accept((await client.offer())["sdp"])
        assert re.findall(r"a=rtpmap:\d+ (\w+)/", answer.partition("m=video")[0]) == ["opus"]
        await client.close()


@pytest.mark.parametrize(
    ("lines", "codec"),
    [
        (["m=audio 9 UDP/TLS/RTP/SAVPF 0 8 101", "a=rtpmap:101 telephone-event/8000"], "PCMU"),
        (["m=audio 9 UDP/TLS/RTP/SAVPF 8"], "PCMA"),
        (["m=audio 9 UDP/TLS/RTP/SAVPF 0 96", "a=rtpmap:96 OPUS/48000/2"], "opus"),
        (["m=audio 9 UDP/TLS/RTP/SAVPF 9", "a=rtpmap:9 G722/8000"], None),
        (["m=audio 9 UDP/TLS/RTP/SAVPF 9", "a=rtpmap:111 opus/48000/2"], None),
        (["m=video 9 UDP/TLS/RTP/SAVPF 0"], None),
    ],
)
def test_the_best_codec_of_an_offer(lines: list[str], codec: str | None) -> None:
    assert offered_codec("v=0\r\n" + "\r\n".join(lines) + "\r\n") == codec


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_each_packet_of_g711_has_twenty_milliseconds(codec: Any) -> None:
    encoder, decoder = make_encoder(codec, 24_000), make_decoder(codec)
    pcm = tone(1.0, 24_000, hz=500)
    payloads = [encoder.encode(pcm[at : at + 960]) for at in range(0, len(pcm), 960)]
    assert {len(payload) for payload in payloads} == {160}
    heard = b"".join(map(decoder.decode, payloads))
    assert loudness(heard[3200:], 8_000, 500) == pytest.approx(loudness(pcm, 24_000, 500), abs=0.5)


# -- the handshake -----------------------------------------------------------------------------------------------------


@real_clock
async def test_an_answer_has_one_fingerprint() -> None:
    async with line() as it:
        client = WebRTCClient(it.request)
        answer = await it.transport.accept((await client.offer())["sdp"])
        assert {found.split()[0] for found in re.findall(r"a=fingerprint:(.+)", answer)} == {"sha-256"}
        assert len(set(re.findall(r"a=fingerprint:(.+)", answer))) == 1
        await client.close()


class RsaCertificate(RTCCertificate):
    """As GStreamer has it: RSA, and a DTLS server with this certificate shares no ECDSA suite."""

    @classmethod
    def generateCertificate(cls) -> RsaCertificate:  # noqa: N802
        key: Any = rsa.generate_private_key(65537, 2048)
        return cls(key=key, cert=generate_certificate(key))

    def _create_ssl_context(self, srtp_profiles: Any) -> Any:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384")
        return context


@real_clock
async def test_a_far_end_with_an_rsa_certificate_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiortc.rtcpeerconnection, "RTCCertificate", RsaCertificate)
    async with line() as it, WebRTCClient(it.request) as client:
        assert client.state == "connected"
        await until(lambda: it.engine.heard)


# -- hostile offers ----------------------------------------------------------------------------------------------------


def with_candidates(sdp: str, addresses: list[str], kind: str = "udp") -> str:
    lines = "".join(
        f"a=candidate:{number} 1 {kind} 2130706431 {address} {4000 + number} typ host\r\n"
        for number, address in enumerate(addresses)
    )
    return re.sub(r"(m=audio .*\r\n)", lambda found: found[1] + lines, sdp)


@real_clock
@pytest.mark.parametrize("public_only", [False, True])
async def test_an_offer_names_few_addresses(monkeypatch: pytest.MonkeyPatch, public_only: bool) -> None:
    tried: set[str] = set()
    add = aioice.Connection.add_remote_candidate

    async def counted(self: aioice.Connection, candidate: aioice.Candidate | None) -> None:
        if candidate is not None:
            tried.add(candidate.host)
        await add(self, candidate)

    monkeypatch.setattr(aioice.Connection, "add_remote_candidate", counted)
    addresses = [f"10.1.{number // 200}.{number % 200}" for number in range(150)] + ["8.8.8.8", "fd00::1", "127.0.0.1"]
    addresses += ["64:ff9b::a00:1", "2002:a00:1::1", "224.0.1.1"]  # 10.0.0.1 by NAT64 and 6to4, and a group
    async with line(public_candidates_only=public_only) as it:
        client = WebRTCClient(it.request)
        sdp = (await client.offer())["sdp"]
        sdp = re.sub(r"a=candidate:.*\r\n", "", sdp)
        await it.transport.accept(with_candidates(with_candidates(sdp, ["10.9.9.9"], "tcp"), addresses))
        for number in range(50):
            await it.transport.add_candidate(f"candidate:1 1 udp 1 10.2.0.{number} 5000 typ host", "0", 0)
        if public_only:
            assert tried == {"8.8.8.8"}
        else:
            assert len(tried) == MAX_ADDRESSES
            assert "10.9.9.9" not in tried
        await client.close()


@real_clock
async def test_offers_that_are_too_long_or_without_a_codec_are_refused() -> None:
    async with line() as it:
        client = WebRTCClient(it.request)
        sdp = (await client.offer())["sdp"]
        with pytest.raises(BadInput, match=f"at most {MAX_SDP}"):
            await it.transport.accept(sdp + "a=x:" + "y" * MAX_SDP)
        with pytest.raises(BadInput, match="none of the codecs opus, PCMU, PCMA"):
            await it.transport.accept("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 9\r\na=rtpmap:9 G722/8000\r\n")
        await client.close()


@real_clock
async def test_an_offer_whose_bundle_has_no_first_section_is_refused_and_leaves_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = asyncio.all_tasks()
    async with line() as it:
        client = WebRTCClient(it.request)
        sdp = (await client.offer())["sdp"]
        with pytest.raises(BadInput, match="BUNDLE group begins with a media section that it does not have"):
            await it.transport.accept(sdp.replace("a=group:BUNDLE 0", "a=group:BUNDLE 77 0"))
        await client.close()
    await until(lambda: asyncio.all_tasks() == before)
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert "Traceback" not in caplog.text


@real_clock
async def test_an_offer_without_a_fingerprint_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with line() as it:
        client = WebRTCClient(it.request)
        sdp = (await client.offer())["sdp"]
        with pytest.raises(BadInput, match="the offer's audio has no fingerprint"):
            await it.transport.accept(re.sub(r"a=fingerprint:.*\r\n", "", sdp))
        await client.close()
    gc.collect()
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize(
    ("session", "audio", "other", "named"),
    [(True, False, False, True), (False, True, False, True), (False, False, True, False), (False, False, False, False)],
)
def test_the_fingerprint_is_that_of_the_offer_or_of_its_audio(
    session: bool, audio: bool, other: bool, named: bool
) -> None:
    line = "a=fingerprint:sha-256 AB:CD\r\n"
    parts = ["v=0\r\n", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"]
    sdp = "".join(part + (line if has else "") for part, has in zip(parts, (session, audio, other), strict=True))
    assert has_fingerprint(sdp) is named


@real_clock
async def test_a_section_that_cannot_be_connected_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def connect(self: RTCPeerConnection) -> None:
        raise AssertionError

    async with line() as it:
        client = WebRTCClient(it.request)
        sdp = (await client.offer())["sdp"]
        monkeypatch.setattr(RTCPeerConnection, "_RTCPeerConnection__connect", connect)
        with caplog.at_level("INFO", "duologue"):
            await it.transport.accept(sdp)
            await until(lambda: "a media section of an offer could not be connected" in caplog.text)
        await client.close()
    gc.collect()
    assert "never retrieved" not in caplog.text


@real_clock
async def test_a_message_to_a_client_that_has_just_gone_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    async with line() as it, WebRTCClient(it.request) as client:
        await until(lambda: it.transport._peer is not None and it.transport._peer.can_send)
        peer = it.transport._peer
        assert peer is not None
        assert peer._pc.sctp is not None
        await peer._pc.sctp.transport.stop()  # as by the client's notice
        peer._channel.send("too late")
        await asyncio.sleep(0.1)
        await client.close()
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_connection_that_cannot_be_closed_as_it_should_is_closed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pc = RTCPeerConnection()
    audio = pc.addTransceiver("audio")
    close = pc.close

    async def broken() -> None:
        raise AttributeError("'NoneType' object has no attribute 'stop'")

    monkeypatch.setattr(pc, "close", broken)
    await asyncio.wait_for(close_connection(pc), 5)
    assert audio.receiver.transport.transport.state == "closed"
    assert "AttributeError" in caplog.text
    await close()
