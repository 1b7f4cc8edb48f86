"""`Profile` and `Skill`: changes of an agent for one session, as Python or as JSON. `Agent.with_` applies them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from ..errors import BadInput, ConfigurationError
from ..frames.text import WellFormed
from ..processors.kernel.within import is_async
from .fields import check_several, check_strings, named_fields
from .tool import Tool

MAX_BYTES = 1024 * 1024
"""The largest file of a profile or a skill, in bytes."""

COLOUR = "(#[0-9A-Fa-f]{3}|#[0-9A-Fa-f]{6}|[A-Za-z]{3,30})?"
"""The pattern of a colour in CSS: a hex number or a name."""

_File = TypeVar("_File", bound=msgspec.Struct)


class Profile(WellFormed, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Replaces parts of an agent. A field that is None leaves the agent's own.

    `tools` turns tools on and off by name: {"refund": false} takes one from the agent. `colour` is a name or a hex
    number, such as "teal" or "#0a7".

        Profile.load("profiles/calm.json")
    """

    texts = ("instructions", "greeting")

    instructions: str | None = None
    model: str | None = None
    voice: str | dict[str, str] | None = None
    language: str | None = None
    greeting: str | None = None
    tools: dict[str, bool] = msgspec.field(default_factory=dict)
    display_name: Annotated[str, Meta(max_length=80)] | None = None
    colour: Annotated[str, Meta(pattern=f"^{COLOUR}$")] | None = None

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Read a profile from a JSON file. Raises BadInput that names the file and the field at fault."""
        return read_json(cls, path)

    def changes(self, agent: str, tools: Sequence[Tool]) -> dict[str, Any]:
        """Return the new values of an agent's fields. Raises ConfigurationError for a tool that it does not have."""
        there = [tool.name for tool in tools]
        for name in self.tools:
            if name not in there:
                raise ConfigurationError(f"a profile turns the tool {name!r} on or off: agent {agent!r} {_has(there)}")
        names = ("instructions", "model", "voice", "language", "greeting", "display_name", "colour")
        changes: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.tools:
            changes["tools"] = tuple(tool for tool in tools if self.tools.get(tool.name, True))
        return changes


class SkillFile(WellFormed, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of a skill. `tools` are the names of tools that the application gives."""

    texts = ("instructions",)

    name: str
    instructions: str = ""
    tools: tuple[str, ...] = ()


@named_fields
@dataclass(frozen=True, kw_only=True)
class Skill:
    """An ability that is added to an agent: a paragraph of instructions, and the tools that belong to it."""

    name: str
    instructions: str = ""
    tools: Iterable[Tool | Callable[..., Any]] = ()
    toolset: tuple[Tool, ...] = field(init=False, repr=False, compare=False)
    """The same as `tools`, all of them `Tool` objects."""

    def __post_init__(self) -> None:
        check_strings(self, "name", "instructions")
        check_several("Skill", "tools", self.tools, "tools=[f]")
        if not self.name.strip():
            raise ConfigurationError("a skill needs a name")
        made = tuple(tool if isinstance(tool, Tool) else Tool(tool) for tool in self.tools)
        object.__setattr__(self, "tools", made)
        object.__setattr__(self, "toolset", made)

    @classmethod
    def load(cls, path: str | Path, tools: Iterable[Tool | Callable[..., Any]] = ()) -> Skill:
        """Read a skill from a JSON file. Its tools are named there, and given here.

        Raises BadInput that names the file and the field at fault, ConfigurationError for a tool that is not given.
        """
        read = read_json(SkillFile, path)
        given = {tool.name: tool for tool in (t if isinstance(t, Tool) else Tool(t) for t in tools)}
        for name in read.tools:
            if name not in given:
                there = _given_tools(given)
                raise ConfigurationError(f"skill {read.name!r} in {path} needs the tool {name!r}: {there}")
        return cls(name=read.name, instructions=read.instructions, tools=[given[name] for name in read.tools])


def read_json(kind: type[_File], path: str | Path) -> _File:
    """Return the object in a JSON file. Raises BadInput that names the file, and the field at fault with the mend."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    if len(text) > MAX_BYTES:
        raise BadInput(f"{path} has more than {MAX_BYTES} bytes")
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"{path}: {_explained(str(error), kind)}") from error
    except msgspec.DecodeError as error:
        raise BadInput(f"{path} is not JSON: {error}") from error


def _explained(problem: str, kind: type[msgspec.Struct]) -> str:
    """Return msgspec's message with the field's name first, and the nearest known one for an unknown field."""
    said, _, place = problem.partition(" - at ")
    name = place.strip("`").removeprefix("$").removeprefix(".")
    if "unknown field" in said:
        unknown = said.split("`")[1]
        known = [field.encode_name for field in msgspec.structs.fields(kind)]
        near = difflib.get_close_matches(unknown, known, 1)
        mend = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(known)}"
        return f"there is no field {unknown!r}: {mend}"
    return f"{name}: {said}" if name else said


def appended(instructions: str | Callable[[Any], Any], chunks: Sequence[str]) -> str | Callable[[Any], Any]:
    """Return instructions with paragraphs behind them."""
    if not callable(instructions):
        return "\n\n".join(filter(None, (instructions, *chunks)))
    function: Callable[[Any], Any] = instructions

    def with_chunks(session: Any, text: Any) -> Any:
        return "\n\n".join((text, *map(session.prompts.fill, chunks))) if isinstance(text, str) else text

    async def told_later(session: Any) -> Any:
        return with_chunks(session, await function(session))

    def told(session: Any) -> Any:
        return with_chunks(session, function(session))

    return told_later if is_async(function) else told


def _has(names: Sequence[str]) -> str:
    return f"has {', '.join(names)}" if names else "has no tools"


def _given_tools(given: Iterable[str]) -> str:
    names = ", ".join(given)
    return f"Skill.load(…, tools=[…]) was given {names}" if names else "give it as Skill.load(…, tools=[…])"
