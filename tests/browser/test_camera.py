"""The page's camera, and pictures that are dropped, pasted and chosen: the model sees them, and the log has them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.images.samples import quarters, saved

from .browser import opened
from .page import PageCall
from .server import Server, running
from .test_page import DESK, PHONE, violations

DROP = """([target, name, type, data, kind]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    const init = { bubbles: true, cancelable: true };
    const event = kind === "paste"
        ? new ClipboardEvent("paste", { ...init, clipboardData: transfer })
        : new DragEvent("drop", { ...init, dataTransfer: transfer });
    document.querySelector(target).dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model says what it sees."""
    with running(tmp_path_factory.mktemp("seeing"), "tests.browser.seeing:make_session") as server:
        yield server


async def give(page: Page, name: str, data: bytes, type: str = "image/png", *, kind: str = "drop") -> None:
    """Drop a file on the conversation, or paste it."""
    await page.evaluate(DROP, ["#captions", name, type, base64.b64encode(data).decode(), kind])


def pictures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row["metadata"]["data"] for row in rows if row["metadata"].get("name") == "image"]


@pytest.mark.real_clock
@pytest.mark.parametrize("transport", ["webrtc", "websocket"])
async def test_the_agent_sees_the_camera(chromium: str, seeing: Server, artifacts: Path, transport: str) -> None:
    async with opened(chromium, f"{seeing.url}/?transport={transport}", viewport=DESK) as tab:
        call, camera = PageCall(tab), tab.page.get_by_role("button", name="Camera", exact=True)
        await expect(camera).to_be_hidden()
        await call.talk()
        await call.type("what is this")
        await call.says("agent", "I see nothing.")
        await expect(camera).to_have_attribute("aria-pressed", "false")
        await camera.click()
        await expect(camera).to_have_attribute("aria-pressed", "true")
        await expect(tab.page.get_by_text("The agent sees your camera")).to_be_visible()
        await tab.page.wait_for_timeout(1_500)
        await call.type("and now")
        await call.begins("I see 1:")
        said = (await call.captions())[-1].text
        assert re.fullmatch(r"I see 1: (768|640) by \d+, many colours\.", said), said
        caller = [caption.text for caption in await call.captions() if caption.role == "caller"]
        assert any(re.fullmatch(r"Your camera · (768|640) × \d+", text) for text in caller), caller
        assert await violations(tab) == []
        await call.picture(artifacts / f"camera-{transport}.png")

        await call.button("Stop showing").click()
        await expect(camera).to_have_attribute("aria-pressed", "false")
        assert await tab.page.evaluate("document.getElementById('view-video').srcObject === null")
        session = await call.session()
        await call.hang_up()
        ended = await seeing.until("ended", session)
        [logged] = pictures(ended["rows"])
        assert (logged["mime"], logged["source"]) == ("image/jpeg", "camera")
        assert logged["bytes"] > 1_000
        assert tab.errors == []


@pytest.mark.real_clock
async def test_a_picture_is_dropped_pasted_and_refused(chromium: str, seeing: Server, artifacts: Path) -> None:
    async with opened(chromium, f"{seeing.url}/?transport=webrtc", viewport=DESK) as tab:
        call, page = PageCall(tab), tab.page
        await call.talk()
        await give(page, "notes.txt", b"hello", "text/plain")
        await expect(call.shown("error")).to_contain_text("“notes.txt” cannot be sent: it is not a picture")
        await give(page, "broken.png", saved(quarters(), "PNG")[:60])
        await expect(call.shown("error")).to_contain_text("broken.png")
        await call.button("Dismiss").click()

        await give(page, "card.png", saved(quarters(3_000, 2_000), "PNG"))
        await expect(page.get_by_text("card.png · 1600 × 1067")).to_be_visible()
        await call.picture(artifacts / "picture-waiting.png")
        assert await violations(tab) == []
        await call.type("what is this")
        await call.begins("I see 1: 1600 by 1067")
        await expect(page.get_by_role("img", name="Picture: card.png")).to_be_visible()
        await expect(page.get_by_label("Remove the picture")).to_be_hidden()

        await give(page, "image.png", saved(quarters(64, 48), "PNG"), kind="paste")
        await expect(page.get_by_text("image.png · 64 × 48")).to_be_visible()
        await call.button("Send").click()  # without words
        await call.begins("I see 2: 64 by 48")
        await page.get_by_role("button", name="Remove the picture").is_hidden()

        await page.locator("#picture-file").set_input_files(
            {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": saved(quarters(80, 60), "JPEG")}
        )
        await expect(page.get_by_text("photo.jpg · 80 × 60")).to_be_visible()
        await page.get_by_role("button", name="Remove the picture").click()
        await call.type("and that")
        await call.begins("I see 2: 64 by 48")

        await page.set_viewport_size(PHONE)
        await call.picture(artifacts / "pictures-phone.png")
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        session = await call.session()
        await call.hang_up()
        await expect(page.get_by_role("button", name="Picture", exact=True)).to_be_disabled()
        ended = await seeing.until("ended", session)
        assert [(each["name"], each["width"]) for each in pictures(ended["rows"])] == [
            ("card.png", 1600),
            ("image.png", 64),
        ]
        assert tab.errors == []


@pytest.mark.real_clock
async def test_a_camera_that_the_browser_refuses(chromium: str, seeing: Server) -> None:
    async with opened(chromium, f"{seeing.url}/?transport=websocket", viewport=DESK) as tab:
        call = PageCall(tab)
        await tab.page.evaluate(
            """() => {
                const media = navigator.mediaDevices, getUserMedia = media.getUserMedia.bind(media);
                media.getUserMedia = (wanted) => wanted.video
                    ? Promise.reject(new DOMException("no", "NotAllowedError")) : getUserMedia(wanted);
            }"""
        )
        await call.talk()
        await call.button("Camera").click()
        await expect(call.shown("error")).to_have_text(
            "The camera is blocked: allow it in the address bar, and press the button again."
        )
        await expect(tab.page.get_by_role("button", name="Camera", exact=True)).to_have_attribute(
            "aria-pressed", "false"
        )
        await call.type("what is this")
        await call.says("agent", "I see nothing.")
        await call.hang_up()
