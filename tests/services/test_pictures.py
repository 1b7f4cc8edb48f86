"""The caller's images and their camera, in a cascade and in native engines."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue import Agent, Cascade, Endpointing, Fallback, Handoff, Interruption, Vad, images
from duologue.errors import ConfigurationError
from duologue.frames import CallerStartedSpeaking, ErrorRaised, Transfer, UserImage, UserText
from duologue.images import ImageLimits
from duologue.images.decoding import convert
from duologue.services.context import IMAGE_COMES, IMAGE_LEFT_OUT, IMAGE_UNSEEN
from duologue.services.google import GeminiLive
from duologue.services.llm import Message
from duologue.services.openai import OpenAIRealtime
from duologue.services.remote.connection import Connection
from duologue.testing import Call
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import Speak
from tests.images.samples import PIXEL, as_jpeg, look, quarters, saved
from tests.images.web import OPEN, RULES, answer, web
from tests.services.eager_calls import GUESS, SAID, Model, Voice, calling
from tests.services.native.engine_calls import EngineCall
from tests.services.story import story

CMYK = saved(quarters().convert("CMYK"), "JPEG", quality=95)


def seen(llm: MockLLM, request: int = -1) -> list[Message]:
    """Return the messages with an image that a request had."""
    return [message for message in llm.requests[request].messages if message.image or message.url]


def logged(call: Any) -> list[dict[str, Any]]:
    """Return the data of the images in the log."""
    return [item.data for item in call.session.conversation if item.name == "image"]


async def test_the_model_sees_an_image_as_it_can_take_it_and_the_log_has_it() -> None:
    llm = MockLLM(["Four colours."])
    async with story(llm=llm) as call:
        await call.session.send(UserImage(image=CMYK, mime="image/png", name="card.png"))
        await call.types("What is this?")
        await call.waits_until(3)
        assert not call.errors
    [shown] = seen(llm)
    assert (shown.text, shown.mime, look(shown.image)) == ("What is this?", "image/jpeg", "RGBW")
    [data] = logged(call)
    assert (data["width"], data["height"], data["name"], data["image"]) == (64, 48, "card.png", shown.image)
    row = next(row for row in call.session.conversation.rows() if row["metadata"].get("name") == "image")
    assert "image" not in row["metadata"]["data"]
    assert row["metadata"]["data"]["bytes"] == len(shown.image)
    json.dumps(call.session.conversation.rows())
    [whole] = [row for row in call.session.conversation.rows(images=True) if row["metadata"].get("name") == "image"]
    assert whole["metadata"]["data"]["image"] == shown.image


async def test_an_image_that_is_refused_is_an_error_and_the_call_goes_on() -> None:
    llm = MockLLM(["I see nothing."])
    async with story(llm=llm) as call:
        for bad in (UserImage(image=bytes(40_000_000)), UserImage(image=b"hello"), UserImage(), UserImage(url="x")):
            await call.session.send(bad)
        await call.session.send(UserImage(image=as_jpeg(640, 480)[:3_000], name="half.jpg"))
        await call.types("What is this?")
        await call.waits_until(3)
        problems = [error.message for error in call.came(ErrorRaised)]
        assert len(problems) == 5
        assert all(error.category == "bad_input" for error in call.came(ErrorRaised))
        for problem in ("40.0 MB", "not an image", "empty", "web address", "half.jpg"):
            assert any(problem in each for each in problems), problem
    notes = [item.text for item in call.session.conversation if item.kind == "note"]
    assert len(notes) == 2
    assert "(an image did not come: 'half.jpg' is damaged" in notes[1]
    assert seen(llm) == []
    assert call.log[-1] == "agent: I see nothing."


async def test_a_slow_image_holds_up_neither_audio_nor_answers_and_is_seen_later() -> None:
    llm = MockLLM(["It has not come yet.", "Now I see it."])
    async with web(lambda path: [3.5, answer(as_jpeg())]) as server, story(llm=llm) as call:
        llm.image_rules = RULES
        await call.session.send(UserImage(url=f"http://{OPEN}:{server.port}/"))
        asked_at = call.session.now()
        await call.says(1.0)
        spoken_s = call.session.now() - asked_at
        assert spoken_s == pytest.approx(1.2, abs=0.05)
        await call.waits_until(4)
        await call.waits_until(8)
        await call.types("And now?")
        await call.waits_until(11)
        assert not call.errors
    first, second = llm.requests[0], llm.requests[-1]
    assert not seen(llm, 0)
    assert any(IMAGE_COMES in message.text for message in first.messages)
    assert [message.image for message in seen(llm)] == [as_jpeg()]
    assert second is llm.requests[1]


async def test_several_images_keep_their_order_whatever_comes_first() -> None:
    llm = MockLLM(["Two."])
    async with web(lambda path: [1.0, answer(as_jpeg())]) as server, story(llm=llm) as call:
        llm.image_rules = RULES
        await call.session.send(UserImage(url=f"http://{OPEN}:{server.port}/"))
        await call.session.send(UserImage(image=PIXEL, mime="image/png"))
        await call.types("Compare them.")
        await call.waits_until(5)
    assert [message.image for message in seen(llm)] == [as_jpeg(), PIXEL]


async def test_too_many_images_at_once_are_refused() -> None:
    async with web(lambda path: [60.0]) as server, story() as call:
        llm = next(leaf for leaf in _leaves(call) if isinstance(leaf, MockLLM))
        llm.image_rules = RULES
        for _ in range(12):
            await call.session.send(UserImage(url=f"http://{OPEN}:{server.port}/"))
        await call.waits_until(1)
        assert len(call.errors) == 2
        await call.waits_until(6)
        assert len(call.errors) == 12
        assert [item.kind for item in call.session.conversation] == ["note"] * 10


async def test_the_images_of_one_call_do_not_hold_up_those_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[str] = []

    def slow(*given: Any) -> Any:
        time.sleep(0.02)  # in a thread
        converted.append(given[-1])
        return convert(*given)

    monkeypatch.setattr(images, "convert", slow)
    async with story() as many, story() as other:
        for number in range(10):
            await many.session.send(UserImage(image=CMYK, name=f"{number}"))
        await other.session.send(UserImage(image=CMYK, name="mine"))
        await other.waits_until(2)
        assert not many.errors + other.errors
    assert len(converted) == 11
    assert converted.index("'mine'") < 4


def _leaves(call: Any) -> list[Any]:
    from duologue.processors.kernel.groups import leaves

    return list(leaves(call.session.pipeline))


# -- a camera ----------------------------------------------------------------------------------------------------------


class Film:
    """A camera: every picture has another width, by which it is known."""

    def __init__(self, call: Any, fps: float = 1.0) -> None:
        self.call, self.fps, self.number = call, fps, 0
        self.on = True

    async def run(self) -> None:
        while self.on:
            self.number += 1
            frame = UserImage(image=as_jpeg(63 + self.number, 48), source="camera")
            await self.call.session.send(frame)
            await anyio.sleep(1 / self.fps)


@asynccontextmanager
async def filming(call: Any, fps: float = 1.0) -> AsyncIterator[Film]:
    film = Film(call, fps)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(film.run)
        yield film
        film.on = False
        tasks.cancel_scope.cancel()


async def test_the_newest_frame_goes_with_a_question_in_a_cascade() -> None:
    llm = MockLLM(["A cup.", "A plate."])
    engine = Cascade(MockSTT(["what is this", "and this"]), llm, MockTTS())
    async with Call.through(Vad(), Endpointing(), Interruption(), engine) as call, filming(call) as film:
        await call.waits(4.5)
        before = film.number
        await call.asks("what is this")
        await call.waits(3)
        await call.asks("and this")
        assert not call.errors
    first, second = seen(llm, 0), seen(llm, 1)
    assert [message.text for message in first] == ["what is this"]
    assert len(second) == 2
    widths = [data["width"] - 63 for data in logged(call)]
    assert len(widths) == 2  # one for each question, whatever the camera has sent
    assert before <= widths[0] < widths[1] <= film.number
    assert {data["source"] for data in logged(call)} == {"camera"}


async def test_a_camera_that_is_off_is_not_shown() -> None:
    llm = MockLLM(["Nothing."])
    async with story(llm=llm) as call:
        async with filming(call):
            await call.waits_until(3)
        await call.waits_until(8)
        await call.types("What do I show you?")
        await call.waits_until(10)
    assert seen(llm) == []
    assert logged(call) == []


async def test_typed_questions_in_one_turn_show_one_frame() -> None:
    llm = MockLLM(["Fine."])
    async with story(llm=llm) as call, filming(call):
        await call.waits_until(2.5)
        await call.types("Look", respond=False)
        await call.waits_until(4)
        await call.types("at this.")
        await call.waits_until(6)
    assert len(logged(call)) == 1


async def test_ten_minutes_of_camera_do_not_fill_the_request_or_the_log() -> None:
    llm = MockLLM(["Yes."])
    large = as_jpeg(640, 480)
    async with story(llm=llm) as call:
        for number in range(60):
            await call.session.send(UserImage(image=large + bytes([number]), source="camera"))
            await call.types(f"Question {number}?")
            await call.waits_until(10.0 * (number + 1))
        assert not call.errors
    assert len(llm.requests) == 60
    assert len(logged(call)) == 60
    assert len(seen(llm)) == llm.budget.images == 8
    assert sum(IMAGE_LEFT_OUT in message.text for message in llm.requests[-1].messages) == 52


async def test_thirty_frames_a_second_cost_no_more_than_one() -> None:
    async with story() as call:
        llm = next(leaf for leaf in _leaves(call) if isinstance(leaf, MockLLM))
        watched: list[int] = []
        llm.watched = lambda frame: watched.append(frame.width)  # type: ignore[method-assign]
        async with filming(call, fps=30):
            await call.waits_until(5.5)
    assert len(watched) == 6
    assert watched == sorted(watched)


async def test_an_eager_answer_has_the_frame_and_is_taken() -> None:
    llm = Model(["A cat."])
    async with calling(llm, Voice()) as call:
        await call.gives(UserImage(image=PIXEL, mime="image/png", source="camera"))
        await anyio.sleep(0.5)
        await call.begins()
        await call.may_end(GUESS)
        await call.gives(UserImage(image=as_jpeg(), source="camera"))
        await anyio.sleep(0.5)
        await call.ends(SAID)
        assert await call.answered() == "A cat."
        assert call.discarded == []
    assert len(llm.requests) == 1
    assert [message.image for message in seen(llm)] == [PIXEL]


async def test_after_the_caller_went_on_the_newer_frame_takes_the_place_of_the_first() -> None:
    llm = Model(["A cat."])
    async with calling(llm, Voice()) as call:
        await call.gives(UserImage(image=PIXEL, mime="image/png", source="camera"))
        await anyio.sleep(0.5)
        await call.begins()
        await call.may_end(GUESS)
        await call.goes_on()
        await call.gives(UserImage(image=as_jpeg(), source="screen"))
        await anyio.sleep(1.5)
        await call.ends(SAID)
        assert await call.answered() == "A cat."
    assert [message.image for message in seen(llm)] == [as_jpeg()]
    assert [data["source"] for data in logged(call)] == ["screen"]


async def test_a_bad_frame_is_an_error_and_the_next_one_is_seen() -> None:
    llm = MockLLM(["A cat."])
    async with story(llm=llm) as call:
        await call.session.send(UserImage(image=as_jpeg(640, 480)[:1_000], source="camera"))
        await call.waits_until(1.5)
        assert len(call.errors) == 1
        await call.session.send(UserImage(image=as_jpeg(), source="camera"))
        await call.waits_until(3)
        await call.types("What is this?")
        await call.waits_until(5)
    assert [message.image for message in seen(llm)] == [as_jpeg()]


@pytest.mark.parametrize("fps", [0, -1, 60, float("nan")])
async def test_an_impossible_rate(fps: float) -> None:
    llm = MockLLM(["Fine."])
    llm.camera_fps = fps
    with pytest.raises(ConfigurationError, match="camera_fps"):
        async with story(llm=llm):
            pass


# -- native engines ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def on_openai(**settings: Any) -> AsyncIterator[EngineCall[OpenAIRealtime, ScriptedOpenAI]]:
    async with ScriptedOpenAI([[Speak("A cat.")], [Speak("A dog.")]]) as server:
        engine = OpenAIRealtime(api_key="test", base_url=server.url)
        engine.image_rules = RULES
        async with EngineCall(engine, server) as call:
            yield call


@asynccontextmanager
async def on_gemini() -> AsyncIterator[EngineCall[GeminiLive, ScriptedGemini]]:
    async with ScriptedGemini([[Speak("A cat.")], [Speak("A dog.")]]) as server:
        engine = GeminiLive(api_key="test", base_url=server.url, ssl_context=server.ssl_context)
        engine.image_rules = RULES
        async with EngineCall(engine, server) as call:
            yield call


def images_at(server: ScriptedOpenAI) -> list[str]:
    items = [message["item"] for message in server.got[0].messages if message["type"] == "conversation.item.create"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    return [part["image_url"] for part in parts if part["type"] == "input_image"]


def video_at(server: ScriptedGemini) -> list[str]:
    inputs = [message.get("realtime_input", {}) for message in server.got[0].messages]
    return [found["video"]["mime_type"] for found in inputs if "video" in found]


async def test_openai_gets_an_image_as_it_can_take_it_before_its_answer() -> None:
    async with web(lambda path: answer(saved(quarters(), "WEBP"))) as server, on_openai() as call:
        await call.session.send(UserImage(url=f"http://{OPEN}:{server.port}/cat.webp"))
        await call.asks("What is this?")
        [url] = images_at(call.server)
        assert url.startswith("data:image/jpeg;base64,")
        assert any(message.url == url for message in call.server.got[0].history)
        assert [data["mime"] for data in logged(call)] == ["image/jpeg"]
        assert not call.errors


async def test_openai_gets_the_newest_frame_when_the_caller_begins_to_speak() -> None:
    async with on_openai() as call, filming(call) as film:
        await anyio.sleep(3.5)
        assert images_at(call.server) == []
        newest = film.number
        call.session.floor.caller_speaks(True, call.session.now())
        await anyio.sleep(0.5)
        assert call.came(CallerStartedSpeaking)
        assert len(images_at(call.server)) == 1
        assert [data["width"] - 63 for data in logged(call)] == [newest]
        call.session.floor.caller_speaks(False, call.session.now())
        await anyio.sleep(2)
        call.session.floor.caller_speaks(True, call.session.now())
        await anyio.sleep(0.5)
        assert len(images_at(call.server)) == 1  # once in a turn
        await call.asks("What is this?")
        await anyio.sleep(2)
        await call.asks("And this?")
        assert len(images_at(call.server)) == 2
        assert not call.errors


async def test_gemini_gets_frames_at_the_rate_and_the_log_one_for_a_question() -> None:
    async with on_gemini() as call, filming(call, fps=8):
        await anyio.sleep(9.5)
        await call.asks("What is this?")
        await anyio.sleep(1.0)
        frames = len(video_at(call.server))
        assert 9 <= frames <= call.session.now() + 1
        assert set(video_at(call.server)) == {"image/jpeg"}
        assert len(logged(call)) == 1
        assert not call.errors


async def test_gemini_gets_frames_at_the_rate_that_is_set() -> None:
    async with on_gemini() as call:
        call.engine.camera_fps = 0.25
        async with filming(call, fps=8):
            await anyio.sleep(10)
        assert len(video_at(call.server)) == 3


async def test_gemini_gets_an_image_by_its_address_and_of_another_type() -> None:
    async with web(lambda path: answer(saved(quarters(), "GIF"))) as server, on_gemini() as call:
        await call.session.send(UserImage(url=f"http://{OPEN}:{server.port}/cat.gif"))
        await call.asks("What is this?")
        assert video_at(call.server) == ["image/jpeg"]
        assert not call.errors


@pytest.mark.parametrize("engine", [on_openai, on_gemini])
async def test_images_that_are_refused_reach_no_provider(engine: Any) -> None:
    async with engine() as call:
        for bad in (UserImage(image=bytes(40_000_000)), UserImage(url="http://127.0.0.1/"), UserImage(image=b"no")):
            await call.session.send(bad)
        await call.session.send(UserText(text="Hello."))
        await call.hears(1)
        assert len(call.errors) == 3
        sent = images_at(call.server) if isinstance(call.server, ScriptedOpenAI) else video_at(call.server)
        assert sent == []


# -- a change of engines -----------------------------------------------------------------------------------------------


async def test_an_image_that_is_not_ready_and_the_camera_go_to_the_next_engine() -> None:
    first, second = MockLLM(["One."]), MockLLM(["Two."])
    engines = {name: Cascade(MockSTT(), llm, MockTTS()) for name, llm in (("a", first), ("b", second))}
    second.image_rules = first.image_rules = RULES
    handoff = Handoff([Agent(name="Ada", engine="a"), Agent(name="Ben", engine="b")])
    async with (
        web(lambda path: [2.0, answer(as_jpeg())]) as server,
        story(handoff, engines=engines) as call,
    ):
        await call.session.send(UserImage(url=f"http://{OPEN}:{server.port}/"))
        await call.session.send(UserImage(image=PIXEL, mime="image/png", source="camera"))
        await call.waits_until(0.5)
        await call.session.send(Transfer(target="Ben"))
        await call.waits_until(1)
        await call.types("What is this?")
        await call.waits_until(6)
        assert not call.errors
    assert [message.image for message in seen(second)] == [as_jpeg(), PIXEL]
    assert [data["image"] for data in logged(call)] == [as_jpeg(), PIXEL]
    assert first.requests == []


async def test_a_model_of_two_takes_what_both_take() -> None:
    narrow = MockLLM(["Fine."])
    narrow.images = ImageLimits(types=frozenset({"image/jpeg"}), max_side=32)
    both = Fallback([MockLLM(["Fine."]), narrow])
    async with story(engine=Cascade(MockSTT(), both, MockTTS())) as call:
        await call.session.send(UserImage(image=saved(quarters(), "PNG"), mime="image/png"))
        await call.types("What is this?")
        await call.waits_until(3)
        [data] = logged(call)
    assert (data["mime"], data["width"], data["height"]) == ("image/jpeg", 32, 24)


class Blind(MockLLM):
    """A model that takes no images."""

    images = None


async def test_a_model_that_takes_no_images_says_so_and_is_told_of_those_of_another_engine() -> None:
    first, second = MockLLM(["One."]), Blind(["I cannot see it."])
    engines = {name: Cascade(MockSTT(), llm, MockTTS()) for name, llm in (("a", first), ("b", second))}
    assert engines["b"].capabilities.images is None
    first.image_rules = RULES
    handoff = Handoff([Agent(name="Ada", engine="a"), Agent(name="Ben", engine="b")])
    async with (
        web(lambda path: [2.0, answer(as_jpeg())]) as server,
        story(handoff, engines=engines) as call,
    ):
        await call.session.send(UserImage(image=PIXEL, mime="image/png"))
        await call.session.send(UserImage(url=f"http://{OPEN}:{server.port}/"))
        await call.session.send(UserImage(image=PIXEL, mime="image/png", source="camera"))
        await call.waits_until(0.5)
        await call.session.send(Transfer(target="Ben"))
        await call.waits_until(1)
        await call.types("What is this?")
        await call.waits_until(4)
        assert [error.message for error in call.came(ErrorRaised)] == ["Blind takes no images"]
        await call.session.send(UserImage(image=PIXEL, mime="image/png"))
        await call.waits_until(5)
        assert len(call.came(ErrorRaised)) == 2
    assert seen(second) == []
    assert any(IMAGE_UNSEEN in message.text for message in second.requests[0].messages)
    assert [item.text for item in call.session.conversation if item.kind == "note"] == [
        "(an image did not come: Blind takes no images)"
    ]


async def test_a_network_that_does_not_keep_up_gets_the_voice_and_no_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    async with on_gemini() as call, filming(call, fps=2):
        await anyio.sleep(2.5)
        before = len(video_at(call.server))
        assert before >= 2
        monkeypatch.setattr(Connection, "unsent", 25)
        await anyio.sleep(5)
        assert len(video_at(call.server)) == before
        monkeypatch.undo()
        await anyio.sleep(2)
        assert len(video_at(call.server)) > before
