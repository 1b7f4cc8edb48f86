"""Images for tests."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from duologue.testing.conformance.scenarios.capabilities import PIXEL

__all__ = ["PIXEL", "as_jpeg", "look", "quarters", "saved"]

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Return an image whose quarters are red, green, blue and white, from the upper left one, row by row."""
    image = Image.new("RGB", (width, height), WHITE)
    for colour, (x, y) in ((RED, (0, 0)), (GREEN, (1, 0)), (BLUE, (0, 1))):
        box = x * width // 2, y * height // 2, (x + 1) * width // 2, (y + 1) * height // 2
        image.paste(colour, box)
    return image


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """Return an image as a file."""
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def as_jpeg(width: int = 64, height: int = 48) -> bytes:
    """Return the quarters as a JPEG, which no engine converts."""
    return saved(quarters(width, height), "JPEG", quality=90)


def look(data: bytes) -> str:
    """Return the colours of an image's quarters, as letters: RGBW for `quarters`."""
    with Image.open(io.BytesIO(data)) as image:
        plain = image.convert("RGB")
    width, height = plain.size
    places = [(x, y) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    return "".join(_letter(plain.getpixel(place)) for place in places)


def _letter(colour: Any) -> str:
    near = {
        name: sum(abs(a - b) for a, b in zip(colour, known, strict=True))
        for name, known in {"R": RED, "G": GREEN, "B": BLUE, "W": WHITE, "K": (0, 0, 0)}.items()
    }
    name = min(near, key=lambda each: near[each])
    return name if near[name] < 90 else "?"
