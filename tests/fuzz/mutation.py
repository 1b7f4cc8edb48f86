"""`Mutator`: hostile messages made of valid messages, from a seed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from random import Random
from typing import Any

DEEP = (60, 300, 3_000)
"""Depths of nesting."""
LONG = (300, 20_000, 70_000)
"""Lengths of long texts and lists."""
TEXTS = (
    "",
    " ",
    "\x00",
    "\ud83d",
    "\udc00\ud800",
    "a\u202eb\u2066c",
    "\r\n[ERROR] forged line",
    "\x1b[2J\x1b[31mred",
    "e\u0301" * 40,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 5,
    "नमस्ते। ",
    "你好。",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "%s%n{0}{x.__class__}",
    "<think>",
    "NaN",
    "AAAA",
    "=" * 9,
    "127.0.0.1",
    "__proto__",
)
NUMBERS = (0, -0.0, -1, 1, 0.5, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 1e308, 5e-324, math.inf, math.nan)
_MARK = "\x02deep"


class Mutator:
    """Makes hostile inputs. Two with the same seed make the same."""

    def __init__(self, seed: object) -> None:
        self.random = Random(str(seed))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.random.random() < probability

    # -- messages --------------------------------------------------------------------------------------------------

    def message(self, samples: Sequence[Any]) -> str:
        """Return the JSON of one of these valid messages, with mutations most of the time."""
        message = self.random.choice(samples)
        if self.chance(0.85):
            message = self.changed(message)
        text = self.json(message)
        if self.chance(0.1):
            return self.mangled(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
        return text

    def changed(self, value: Any) -> Any:
        """Return a copy of plain data with one to three changes."""
        root = [copy.deepcopy(value)]
        for _ in range(self.random.choice((1, 1, 2, 3))):
            places = list(_places(root))
            container, key = self.random.choice(places)
            self._change(container, key)
        return root[0]

    def _change(self, container: Any, key: Any) -> None:
        random, old = self.random, container[key]
        deed = random.random()
        if deed < 0.55:
            container[key] = self.value()
        elif deed < 0.7 and isinstance(old, str):
            container[key] = self.text(old)
        elif deed < 0.8 and isinstance(container, dict):
            del container[key]
        elif deed < 0.9 and isinstance(container, dict):
            container[random.choice((*container, self.text("key")))] = random.choice((old, self.value()))
        else:
            container[key] = random.choice(([old], {"x": old}, [old] * random.choice((2, 50)), str(old)[:5_000]))

    def value(self) -> Any:
        """Return an odd value."""
        kind = self.random.randrange(8)
        if kind < 2:
            return self.random.choice(NUMBERS)
        if kind < 4:
            return self.text(self.random.choice(TEXTS))
        if kind == 4:
            return f"{_MARK}{self.random.choice(DEEP)}"
        if kind == 5:
            return [self.random.choice((None, 0, "x", [], {}))] * self.random.choice((0, 1, 3, LONG[0]))
        return self.random.choice((None, True, False, [], {}, {"type": {}}, {"": ""}))

    def text(self, text: str) -> str:
        """Return a text made of another one."""
        random = self.random
        deed = random.randrange(5)
        if deed == 0:
            return random.choice(TEXTS)
        if deed == 1:
            return (text or "x") * (random.choice(LONG if self.chance(0.1) else LONG[:1]) // max(1, len(text)))
        at = random.randint(0, len(text))
        if deed == 2:
            return text[:at] + random.choice(TEXTS) + text[at:]
        return text[:at] if deed == 3 else text[:at] + chr(random.randrange(0x3000)) + text[at + 1 :]

    def json(self, value: Any) -> str:
        """Return JSON, also of what JSON does not have. Marks become deeply nested lists."""
        text = json.dumps(value, ensure_ascii=self.chance(0.5))
        place = text.find(json.dumps(_MARK)[1:-1])
        mark = json.dumps(_MARK)[1:-1] if place >= 0 else _MARK
        while (place := text.find(f'"{mark}')) >= 0:
            end = text.index('"', place + 1)
            depth = int(text[place + 1 + len(mark) : end] or 1) if text[place + 1 + len(mark) : end].isdigit() else 1
            left, right = self.random.choice((("[", "]"), ('{"a":', "}")))
            text = f"{text[:place]}{left * depth}1{right * depth}{text[end + 1 :]}"
        return text

    # -- bytes -----------------------------------------------------------------------------------------------------

    def mangled(self, data: bytes, most: int = 6) -> bytes:
        """Return bytes with some flipped, cut, repeated, put in or overwritten."""
        random, changed = self.random, bytearray(data)
        for _ in range(random.randint(1, most)):
            at = random.randint(0, len(changed))
            deed = random.randrange(6)
            if deed == 0 and at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            elif deed == 1 and at < len(changed):
                changed[at] = random.choice((0, 0x7F, 0x80, 0xFF, random.randrange(256)))
            elif deed == 2:
                del changed[at : at + random.randint(1, 16)]
            elif deed == 3:
                changed[at:at] = random.randbytes(random.randint(1, 16))
            elif deed == 4:
                changed[at:at] = changed[at : at + random.randint(1, 64)]
            else:
                size = random.choice((1, 2, 4, 8))
                number = random.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 2**63, 2**64 - 1)) % (1 << 8 * size)
                changed[at : at + size] = number.to_bytes(size, random.choice(("little", "big")))
        return bytes(changed)

    def noise(self, most: int = 700) -> bytes:
        """Return random bytes."""
        return self.random.randbytes(self.random.randint(0, most))

    def pieces(self, data: Any) -> list[Any]:
        """Return a text or bytes cut at random places."""
        cuts = sorted(self.random.randint(0, len(data)) for _ in range(self.random.randint(0, 6)))
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _places(value: Any) -> Any:
    """Yield each (container, key) in plain data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield value, key
        yield from _places(part)
