"""`ToolSource`: tools that come from elsewhere, and may change during a call."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import count
from typing import Any

import msgspec

from ..frames import UserImage
from .tool import Tool

MAX_NAME = 64
"""Characters of a tool's name that every provider takes."""


class ToolSource:
    """A source of tools, such as a server. It stands among the `tools` of an `Agent` or of `Tools`.

    `name` is its name in errors. A source may serve several calls at the same time; each has its `session`.
    """

    name: str

    def tools(self, session: Any) -> Sequence[Tool]:
        """Return the tools that a call has at present."""
        raise NotImplementedError

    async def open(self, session: Any, changed: Callable[[], None]) -> None:
        """Prepare the tools for a call, and return soon: the call waits for this.

        `changed` is called, on the loop of the call, whenever `tools` has changed. An error that this raises is
        reported, and the call goes on with the tools that the source has.
        """

    async def close(self, session: Any) -> None:
        """End the work for a call."""


class WithImages(msgspec.Struct, frozen=True):
    """The result of a tool with images. The model receives these like images that the caller shows."""

    result: Any
    images: tuple[UserImage, ...]


def named_apart(sources: Iterable[tuple[str, Sequence[Tool]]], taken: Iterable[str]) -> dict[str, Tool]:
    """Return the tools of several sources by the names that a model has for them.

    Each source is its name and its tools. A tool keeps its name, unless that is among `taken` or a tool before it has
    it: then it is named after its source as well, as "source_name", with a number if that is taken too.
    """
    names, found = set(taken), dict[str, Tool]()
    for source, tools in sources:
        for tool in tools:
            name = free_name(tool.name, names, source)
            names.add(name)
            found[name] = tool if name == tool.name else tool.renamed(name)
    return found


def provider_name(name: str) -> str:
    """Return a name that every provider takes: of letters, digits, _ and -, at most `MAX_NAME` characters."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return (plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}")[:MAX_NAME]


def free_name(name: str, taken: Container[str], source: str = "") -> str:
    """Return a name for a tool that is not among `taken`: the name, "source_name", or that with a number."""
    wanted = provider_name(f"{source}_{name}") if source and name in taken else provider_name(name)
    free, numbers = wanted, count(2)
    while free in taken:
        number = f"_{next(numbers)}"
        free = wanted[: MAX_NAME - len(number)] + number
    return free
