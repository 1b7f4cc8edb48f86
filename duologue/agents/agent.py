"""`Agent`: an agent as configuration. The same definition serves a cascade and a native engine."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..errors import ConfigurationError
from ..frames import Configure, ToolCall
from ..frames.text import well_formed, well_formed_data
from ..processors.kernel.node import Node
from .engine import language_line, plain_specs
from .fields import check_several, check_strings, named_fields
from .profile import COLOUR, Profile, Skill, appended
from .sources import ToolSource
from .tool import Tool, ToolSpec

_COLOUR = re.compile(COLOUR)


@named_fields
@dataclass(frozen=True, kw_only=True)
class Agent:
    """A persona that talks to the caller: its instructions, its voice, its tools, and the agents that may follow it.

    `targets` names the agents that it may hand the call to, None meaning any. `engine` names the branch of a
    `Switch` whose engine serves it; "" if there is only one engine. The agent says `greeting` when it takes the
    call, `farewell` when it hands the call on. With `history` "own" its model knows the call from its hand-off on,
    which has the reason and the summary, instead of all of it. `voice` is one of the engine's voices or, for an
    agent that several kinds of engines may serve, one for each family of voices: {"openai": "marin", "gemini":
    "Kore", "espeak": "en-us+f3"}. `model` is the language model that answers for it in a cascade, by default the one
    that its service was made with; services with one model refuse others. Functions in `tools` become `Tool` objects;
    the tools of a `ToolSource` among them may change during a call. Clients show the agent by its `display_name` and
    `colour`, such as "#0a7" or "teal".

    `instructions` may be a function of the session: a plain `def` that returns a text. It is called at the start and at
    hand-offs; by a cascade before each answer; by a native engine at the end of each turn of the agent, if the provider
    takes new instructions on the same connection. A text may refer to the session's data: `{name}` in the instructions,
    the identity, the greeting and the farewell (see `duologue.session.prompts`).

    Raises ConfigurationError, with the mend, for an unknown or wrong field.
    """

    name: str
    role: str = ""
    description: str = ""
    scope: str = ""
    instructions: str | Callable[[Any], str] = ""
    language: str = ""
    model: str = ""
    voice: str | Mapping[str, str] = ""
    tools: Iterable[Tool | ToolSource | Callable[..., Any]] = ()
    targets: tuple[str, ...] | None = None
    engine: str = ""
    greeting: str = ""
    farewell: str = ""
    history: Literal["all", "own"] = "all"
    display_name: str = ""
    colour: str = ""
    toolset: tuple[Tool, ...] = field(init=False, repr=False, compare=False)
    """The `tools` that are the agent's own, all of them `Tool` objects."""
    sources: tuple[ToolSource, ...] = field(init=False, repr=False, compare=False)
    """The sources among the `tools`."""
    varies: bool = field(init=False, repr=False, compare=False)
    """True if the prompt may change during the call."""

    def __post_init__(self) -> None:
        texts = "name", "role", "description", "scope", "language", "model", "engine", "greeting", "farewell"
        check_strings(self, *texts, "display_name", "colour")
        if not callable(self.instructions):
            check_strings(self, "instructions")
        elif inspect.iscoroutinefunction(self.instructions):
            raise ConfigurationError("the instructions of an agent are an `async def`: use a plain `def`")
        if not isinstance(self.voice, Mapping):
            check_strings(self, "voice")
        check_several("Agent", "tools", self.tools, "tools=[f]")
        if not _COLOUR.fullmatch(self.colour):
            raise ConfigurationError(f'Agent.colour is {self.colour!r}: give a name or a hex number, such as "#0a7"')
        if self.history not in ("all", "own"):
            raise ConfigurationError(f'an agent\'s history is "all" or "own", not {self.history!r}')
        if self.targets is not None:
            check_several("Agent", "targets", self.targets, 'targets=("Billing",)')
        # As models and clients give names back.
        object.__setattr__(self, "name", well_formed(self.name))
        object.__setattr__(self, "targets", well_formed_data(self.targets))
        if not self.name.strip():
            raise ConfigurationError("an agent needs a name")
        given = tuple(t if isinstance(t, Tool | ToolSource) else Tool(t) for t in self.tools)
        made = tuple(t for t in given if isinstance(t, Tool))
        object.__setattr__(self, "tools", given)
        object.__setattr__(self, "toolset", made)
        object.__setattr__(self, "sources", tuple(t for t in given if isinstance(t, ToolSource)))
        object.__setattr__(self, "varies", callable(self.instructions) or "{" in self.prompt)
        if twice := _twice(t.name for t in made):
            raise ConfigurationError(f"agent {self.name!r} has two tools named {twice!r}")

    @property
    def prompt(self) -> str:
        """The instructions with the identity block: the same text for every engine. Raises ConfigurationError if they
        are a function.
        """
        if callable(self.instructions):
            raise ConfigurationError(f"the instructions of agent {self.name!r} are a function of the session")
        return self.identified(self.instructions)

    def with_(self, profile: Profile | None = None, *, skills: Iterable[Skill] = ()) -> Agent:
        """Return this agent with a profile and skills; itself stays as it is.

        Fields of the profile replace the agent's, tools that it turns off are left out; each skill appends its
        instructions and its tools; a tool that the agent has already is there once. Raises ConfigurationError for a
        tool that the agent does not have, and two tools of one name.
        """
        changes = profile.changes(self.name, self.toolset) if profile is not None else {}
        instructions, tools = changes.get("instructions", self.instructions), changes.get("tools", self.toolset)
        skills = list(skills)
        if chunks := [skill.instructions for skill in skills if skill.instructions]:
            changes["instructions"] = appended(instructions, chunks)
        added = (tool for skill in skills for tool in skill.toolset)
        changes["tools"] = tuple(dict.fromkeys((*tools, *self.sources, *added)))
        return replace(self, **changes)

    def identified(self, instructions: str) -> str:
        """Return instructions with the identity block of this agent."""
        lines = [
            f"{label}: {value}"
            for label, value in (("Role", self.role), ("Description", self.description), ("Scope", self.scope))
            if value
        ]
        if self.language:
            lines.append(language_line(self.language))
        if not lines:
            return instructions
        return "\n".join([instructions, "", "--- Agent Identity ---", *lines])


def configuration(
    agent: Agent, more_tools: Iterable[ToolSpec] = (), voices: str = "", prompt: str | None = None
) -> Configure:
    """Return an engine's whole configuration for an agent, without options. The agent's own tools come first.

    `voices` is the family of the engine's voices. An agent that names no voice of this family gets the default.
    `prompt` is the agent's prompt as the session makes it, by default the plain one.
    """
    specs = {tool.name: tool.spec for tool in agent.toolset if tool.mode != "disabled"}
    for spec in more_tools:
        specs.setdefault(spec.name, spec)
    return Configure(
        agent=agent.name,
        instructions=agent.prompt if prompt is None else prompt,
        voice=agent.voice if isinstance(agent.voice, str) else agent.voice.get(voices, ""),
        language=agent.language,
        model=agent.model,
        tools=plain_specs(specs.values()),
    )


def check_tools_run(agent: Agent, nodes: Iterable[Node]) -> None:
    """Raise ConfigurationError if the agent has tools, and none of these nodes takes their calls."""
    if agent.tools and not any(ToolCall in node.follows for node in nodes):
        raise ConfigurationError(
            f"agent {agent.name!r} has tools, but nothing runs them: put Tools() behind the engine"
        )


def by_name(agents: Iterable[Agent]) -> dict[str, Agent]:
    """Return the agents by name. Raises ConfigurationError without agents, or for two of one name."""
    check_several("the call", "agents", agents, "[Agent(…), Agent(…)]")
    found: dict[str, Agent] = {}
    for agent in agents:
        if not isinstance(agent, Agent):
            raise ConfigurationError(f"{agent!r} is not an Agent")
        if agent.name in found:
            raise ConfigurationError(f"two agents are named {agent.name!r}")
        found[agent.name] = agent
    if not found:
        raise ConfigurationError("there must be at least one agent")
    return found


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
