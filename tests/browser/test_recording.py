"""The recorder of the browser tests, on a page of its own: what it says was heard can be believed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from duologue.services.local.recognizer import Grammar, Recognizer

from .browser import opened
from .microphone import duration_s, write_microphone

LINE = "where is my order"

# The microphone goes through a peer connection, and a tone of 300 ms is played 200 ms after it was asked for.
PAGE = b"""<!doctype html><script>
async function call() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const [near, far] = [new RTCPeerConnection(), new RTCPeerConnection()];
  near.onicecandidate = ({ candidate }) => far.addIceCandidate(candidate);
  far.onicecandidate = ({ candidate }) => near.addIceCandidate(candidate);
  far.ontrack = ({ streams }) => (document.querySelector("audio").srcObject = streams[0]);
  near.createDataChannel("chat").onopen = ({ target }) => target.send(JSON.stringify({ type: "hello" }));
  near.addTrack(stream.getAudioTracks()[0], stream);
  await near.setLocalDescription();
  await far.setRemoteDescription(near.localDescription);
  await far.setLocalDescription();
  await near.setRemoteDescription(far.localDescription);
}
function beep() {
  const context = new AudioContext();
  const tone = context.createOscillator();
  tone.connect(context.destination);
  const at = context.currentTime + 0.5;
  tone.start(at);
  tone.stop(at + 0.3);
  return performance.now() + 500;
}
</script><audio autoplay></audio><button onclick="call()">Call</button>"""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def page() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = Thread(target=partial(server.serve_forever, poll_interval=0.05))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.real_clock
async def test_what_is_played_and_said_is_recorded_with_its_times(chromium: str, tmp_path: Path) -> None:
    wav = write_microphone(tmp_path / "microphone.wav", {2.0: LINE})
    with page() as url:
        async with opened(chromium, url, microphone=wav) as tab:
            played_at = await tab.page.evaluate("beep()")
            await tab.page.get_by_role("button", name="Call").click()
            await tab.page.wait_for_function(
                """seconds => __tap.sounds.some(({ kind, times, rate, blocks: [block] }) =>
                    kind === "microphone" && times.length * block?.length > seconds * rate)""",
                arg=2.0 + duration_s(LINE) + 1.2,
            )
            [heard], said = await tab.sounds("track"), await tab.said()
            [tone] = await tab.sounds("played")
            assert sorted(message.received for message in await tab.messages("hello")) == [False, True]

    [(start, end)] = tone.loud()
    assert start == pytest.approx(played_at, abs=100)
    assert end - start == pytest.approx(300, abs=60)
    for sound in (heard, said):
        begun, ended = sound.loud()[0][0], sound.loud()[-1][1]
        assert ended - begun == pytest.approx(1000 * duration_s(LINE), abs=250)
        words = Recognizer(Grammar.from_phrases([LINE, "what are your opening hours"])).recognize(
            sound.between(begun - 300, ended + 300).tobytes(), sound.rate
        )
        assert words.text == LINE
    assert heard.loud()[0][0] >= said.loud()[0][0] - 30
