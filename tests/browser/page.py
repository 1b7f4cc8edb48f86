"""The page as its users know it: by the names of its controls, and by what it shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Locator, expect

from duologue.services.local.recognizer import Grammar, Recognizer

from .browser import Sound, Tab
from .server import Server

PAUSE_MS = 700
"""A pause between sentences is shorter."""


@dataclass(frozen=True)
class Caption:
    """A caption as it is shown; `unheard` is the part of its text that is dimmed."""

    role: str
    agent: str
    final: bool
    text: str
    unheard: str


class PageCall:
    """A call by a page."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.page = tab.page

    async def talk(self) -> None:
        """Press Talk, and wait until there is a connection."""
        await self.button("Talk").click()
        await self.reaches("connected")

    async def reaches(self, state: str) -> None:
        """Wait until the page shows this state."""
        await expect(self.shown("state")).to_have_text(state)

    async def hang_up(self) -> None:
        """Press the button, and wait until the call has ended."""
        await self.button("Hang up").click()
        await self.reaches("ended")

    async def type(self, text: str) -> None:
        """Write to the agent."""
        await self.page.get_by_role("textbox", name="Message").fill(text)
        await self.button("Send").click()

    def button(self, name: str) -> Locator:
        """The button of this name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def shown(self, what: str) -> Locator:
        """The part of the page of this data-testid."""
        return self.page.get_by_test_id(what)

    async def says(self, role: str, text: str) -> None:
        """Wait until a final caption has this text, all of it heard."""
        caption = self.shown("captions").locator(f'[data-role="{role}"][data-final="true"]')
        exact = caption.filter(has=self.page.get_by_text(text, exact=True))
        await expect(exact.last).to_be_visible()

    async def begins(self, text: str) -> None:
        """Wait until the agent says this, of which not everything need have been heard."""
        said = self.shown("captions").locator('[data-role="agent"]').filter(has_text=text)
        await expect(said.last).to_be_visible()

    async def captions(self) -> list[Caption]:
        """The captions, without the names of the speakers."""
        found: list[dict[str, Any]] = (
            await self.shown("captions")
            .locator("[data-role]")
            .evaluate_all(
                """captions => captions.map(caption => {
                const text = caption.querySelector(".text") ?? caption;
                return {
                    role: caption.dataset.role,
                    agent: caption.dataset.agent ?? "",
                    final: caption.dataset.final === "true",
                    text: text.textContent.trim(),
                    unheard: [...text.querySelectorAll(".unheard")].map(part => part.textContent).join("").trim(),
                };
            })"""
            )
        )
        return [Caption(**caption) for caption in found]

    async def session(self) -> str:
        """The session's id, as the server has told the page."""
        [state, *_] = await self.tab.messages("duologue.state")
        return str(state.content["data"]["session_id"])

    async def events(self, server: Server, event: str) -> list[dict[str, Any]]:
        """The entries of this call in the server's diary."""
        session = await self.session()
        return [entry for entry in server.diary(event) if entry["session"] == session]

    async def picture(self, path: Path) -> None:
        """A screenshot, for people to look at."""
        await self.settled()
        await self.page.screenshot(path=path)

    async def settled(self) -> None:
        """Wait until nothing fades any more: colours have contrast then."""
        await self.page.evaluate(
            """() => Promise.allSettled(document.getAnimations()
                .filter(animation => animation.effect.getComputedTiming().endTime !== Infinity)
                .map(animation => animation.finished))"""
        )


def utterances(sound: Sound) -> list[tuple[float, float]]:
    """When the agent spoke, from and to in ms, without the pauses between the sentences of an answer."""
    spans: list[tuple[float, float]] = []
    for start, end in sound.loud():
        if spans and start - spans[-1][1] < PAUSE_MS:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return spans


def understood(sound: Sound, expected: Sequence[str]) -> list[str]:
    """A recording's spans as a recogniser that knows these texts hears them; "" for anything else."""
    recognizer = Recognizer(Grammar.from_phrases([plain(text) for text in expected]))
    return [
        recognizer.recognize(sound.between(start - 200, end + 200).tobytes(), sound.rate).text
        for start, end in utterances(sound)
    ]


def plain(text: str) -> str:
    """A text as a recogniser writes it."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))
