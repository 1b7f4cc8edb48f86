"""The program in docs/vision.md runs, and its tables say what holds."""

from __future__ import annotations

import pytest

from duologue.images.limits import ImageLimits, ImageRules
from duologue.services.context import Budget
from duologue.services.google import GeminiLLM
from duologue.services.google.options import LIVE_IMAGES
from duologue.services.llm import LLM
from duologue.services.openai.options import OPENAI_IMAGES
from tests.services.test_pages import DOCS, program


async def test_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    await program("vision.md")["main"]()
    assert capsys.readouterr().out.splitlines() == [
        "{'source': 'picture', 'name': 'wall.png', 'mime': 'image/jpeg', 'width': 2048, 'height': 1536}",
        "{'source': 'camera', 'name': '', 'mime': 'image/jpeg', 'width': 2048, 'height': 1536}",
        "caller: (image)",
        "caller: what is this",
        "agent: I see 1.",
        "caller: (image)",
        "caller: and now",
        "agent: I see 2.",
    ]


def test_the_tables() -> None:
    page, rules, mib = (DOCS / "vision.md").read_text(encoding="utf-8"), ImageRules(), 1024 * 1024
    assert f"| `max_bytes` | {rules.max_bytes // mib} MiB |" in page
    assert f"| `max_pixels` | {rules.max_pixels // 1_000_000} million |" in page
    assert f"converting | {rules.deadline_s:g} s |" in page
    assert f"| `max_redirects` | {rules.max_redirects} |" in page
    assert f"the {Budget().images} newest images" in page
    rows = {
        "a cascade: OpenAI, any other model": LLM.images,
        "a cascade: Gemini": GeminiLLM.images,
        "OpenAI Realtime": OPENAI_IMAGES,
        "Gemini Live": LIVE_IMAGES,
    }
    for name, limits in rows.items():
        assert row(name, limits) in page


def row(name: str, limits: ImageLimits | None) -> str:
    assert limits is not None
    names = {"image/webp": "WebP"}
    types = sorted(names.get(mime, mime.removeprefix("image/").upper()) for mime in limits.types)
    return f"| {name} | {', '.join(types)} | {limits.max_bytes // (1024 * 1024)} MiB | {limits.max_side:,} |"
