"""The page beside the voice: typed words, tools to approve, another engine, mute; and its looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import ViewportSize, expect

from .browser import Tab, opened
from .microphone import write_microphone
from .page import PageCall
from .server import Server, running

AXE = Path(__file__).parents[1] / "web" / "js" / "node_modules" / "axe-core" / "axe.min.js"
GREETING = "Hello, this is the corner shop. How can I help you?"
DESK = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=390, height=844)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


async def violations(tab: Tab) -> list[str]:
    """The serious and critical findings of axe."""
    if not AXE.exists():
        pytest.fail("axe-core is not installed: `make js` installs it")
    await tab.page.add_script_tag(path=AXE)
    await PageCall(tab).settled()
    found: dict[str, Any] = await tab.page.evaluate("axe.run()")
    return [
        f"{violation['id']}: {violation['help']}: {[node['target'] for node in violation['nodes']]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


@pytest.mark.real_clock
async def test_a_typed_call_with_another_engine_and_tools_to_approve(
    chromium: str, server: Server, artifacts: Path
) -> None:
    async with opened(chromium, server.url, viewport=DESK) as tab:
        call = PageCall(tab)
        await call.picture(artifacts / "idle.png")
        assert await violations(tab) == []
        await call.talk()
        await call.begins(GREETING)
        await call.type("where is my order")
        await call.says("agent", "I can look that up. What is your order number?")

        engine = tab.page.get_by_role("combobox", name="Engine")
        assert await engine.locator("option").all_inner_texts() == ["cascade", "native"]
        await engine.select_option("native")
        await expect(call.shown("timeline")).to_contain_text("native")
        await call.type("4567")
        await call.begins("Order 4567 is on its way and arrives tomorrow.")
        await expect(call.shown("tools")).to_contain_text("get_order")
        await expect(engine).to_have_value("native")

        await call.type("can I speak to billing")
        await expect(call.shown("agent")).to_have_text("Billing")
        await call.begins("Hello, you are speaking with billing.")
        await engine.select_option("cascade")
        await expect(call.shown("timeline")).to_contain_text("cascade")
        await call.type("I want a refund")
        await expect(call.button("Approve")).to_be_visible()
        await call.picture(artifacts / "approval.png")
        await call.button("Deny").click()
        await call.says("agent", "I am sorry, I may not do that.")
        await call.type("can I have a refund please")
        await call.button("Approve").click()
        await call.says("agent", "I have sent you 42 dollars back. Anything else?")
        await expect(call.shown("tools")).to_contain_text("refund")
        await expect(call.shown("cost")).to_contain_text("$")

        for theme in THEMES:
            for name, size in (("desk", DESK), ("phone", PHONE)):
                await tab.page.emulate_media(color_scheme=theme)
                await tab.page.set_viewport_size(size)
                await call.picture(artifacts / f"call-{theme}-{name}.png")
                assert await violations(tab) == []
                wide = await tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, f"the page has to be moved sideways: {name}"
        await call.hang_up()
        await call.picture(artifacts / "ended.png")
        assert tab.errors == []
        assert [url for url in tab.requests if not url.startswith((server.url, "blob:", "data:"))] == []


@pytest.mark.real_clock
async def test_a_muted_microphone_is_not_heard_and_the_space_bar_talks(
    chromium: str, server: Server, tmp_path: Path
) -> None:
    lines = {
        3.5: "where is my order",
        7.0: "what are your opening hours",
        12.0: "my order number is four five six seven",
        17.0: "thank you that is enough",
    }
    wav = write_microphone(tmp_path / "microphone.wav", lines)
    async with opened(chromium, f"{server.url}/?transport=websocket", microphone=wav) as tab:
        call = PageCall(tab)
        opened_at = await tab.now()
        await call.talk()
        mute = tab.page.get_by_role("button", name="Mute")
        await mute.click()
        await expect(mute).to_have_attribute("aria-pressed", "true")
        await tab.page.wait_for_timeout(max(0.0, opened_at + 5_300 - await tab.now()))
        await mute.click()
        await expect(mute).to_have_attribute("aria-pressed", "false")
        await call.says("caller", lines[7.0])

        await tab.page.get_by_label("Push to talk").check(force=True)
        await tab.page.get_by_test_id("captions").click()
        await tab.page.wait_for_timeout(max(0.0, opened_at + 14_800 - await tab.now()))
        await tab.page.keyboard.down("Space")
        await call.says("caller", lines[17.0])
        await tab.page.keyboard.up("Space")
        said = [caption.text for caption in await call.captions() if caption.role == "caller"]
        assert said == [lines[7.0], lines[17.0]]


@pytest.mark.real_clock
async def test_without_webrtc_the_page_takes_the_web_socket(chromium: str, server: Server) -> None:
    async with opened(chromium, server.url) as tab:
        await tab.page.add_init_script("delete window.RTCPeerConnection")
        await tab.page.reload()
        call = PageCall(tab)
        await call.talk()
        await call.says("agent", GREETING)
        assert (await server.until("connected", await call.session()))["kind"] == "websocket"
        assert (await tab.heard()).loud()


@pytest.mark.real_clock
async def test_a_blocked_microphone_is_explained(chromium: str, server: Server, artifacts: Path) -> None:
    async with opened(chromium, server.url, blocked=True) as tab:
        call = PageCall(tab)
        await call.button("Talk").click()
        await call.reaches("error")
        await expect(call.shown("error")).to_contain_text("Microphone blocked")
        await call.picture(artifacts / "blocked.png")
        assert await violations(tab) == []


@pytest.mark.real_clock
async def test_a_wrong_token_is_explained_and_the_right_one_accepted(
    chromium: str, tmp_path: Path, artifacts: Path
) -> None:
    with running(tmp_path, token="open sesame") as server:
        async with opened(chromium, f"{server.url}/?token=wrong") as tab:
            call = PageCall(tab)
            await call.button("Talk").click()
            await call.reaches("error")
            await expect(call.shown("error")).to_contain_text("token")
            await call.picture(artifacts / "token.png")
            assert await violations(tab) == []
            assert server.diary() == []
            await tab.page.get_by_label("Access token").fill("open sesame")
            await call.button("Continue").click()
            await call.reaches("connected")
            await call.hang_up()
            assert "token" not in tab.page.url
    assert "sesame" not in (tmp_path / "output.txt").read_text()
