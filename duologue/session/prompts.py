"""`Prompts`: the texts of agents that depend on the session: functions of it, and names that stand for its data."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from ..agents.agent import Agent
from ..agents.engine import EngineConfig
from ..errors import ConfigurationError, error_text
from ..frames.text import well_formed

_NONE_UNKNOWN: frozenset[str] = frozenset()  # one for all sessions: an empty set takes 216 bytes

log = logging.getLogger("duologue")

MAX_VALUE = 4_000
"""Characters of a value of the session's data in a text. The rest is left out."""
MAX_UNKNOWN = 64
"""The most unknown names that the log of a call warns of."""

_NAME = re.compile(r"\{([A-Za-z]\w*)\}", re.ASCII)


class PromptOwner(Protocol):
    """The part of a session that its prompts use."""

    @property
    def id(self) -> str: ...
    @property
    def agent(self) -> Agent | None: ...
    @property
    def data(self) -> Any: ...
    def report(self, error: Exception, processor: str) -> None: ...


class Prompts:
    """Makes the texts of agents for one session.

    In a text, `{name}` stands for a value of the session's data: the value of this key in a mapping, or the public
    attribute of this name of any other object. There is no other syntax: everything else in braces, such as JSON, stays
    as it is. A name that is not known stays too, and one whose value cannot be read: the log tells it once. A value is
    text, a container is JSON; it is not searched for names again. The result of a function is not searched either.
    """

    __slots__ = ("_made", "_session", "_unknown")

    def __init__(self, session: PromptOwner) -> None:
        self._session = session
        self._made: dict[str, tuple[str, str]] = {}  # the latest two prompts of each agent
        self._unknown = _NONE_UNKNOWN

    def of(self, agent: Agent) -> str:
        """Return an agent's instructions with its identity, as the session's data make them now.

        Raises ConfigurationError if the function raises an error, or returns anything but a text.
        """
        if callable(agent.instructions):
            text = agent.identified(_told_by(agent, agent.instructions, self._session))
        else:
            text = self.fill(agent.prompt)
        text = well_formed(text)
        if agent.varies:
            before = self._made.get(agent.name, ("", ""))
            if text != before[1]:
                self._made[agent.name] = before[1], text
        return text

    def fresh(self, config: EngineConfig) -> EngineConfig:
        """Return a configuration with the active agent's instructions as they are now; itself if they are the same.

        Instructions that a `Configure` has set stay until the next hand-off. An error is reported, and the latest
        instructions stay.
        """
        agent = self._session.agent
        if agent is None or not agent.varies or config.agent != agent.name:
            return config
        if config.instructions not in self._made.get(agent.name, ()):
            return config
        try:
            text = self.of(agent)
        except ConfigurationError as error:
            self._session.report(error, "Agent")
            return config
        return config if text == config.instructions else msgspec.structs.replace(config, instructions=text)

    def fill(self, text: str) -> str:
        """Return a text with the values of the session's data in the place of their names."""
        return _NAME.sub(self._value, text) if "{" in text else text

    def _value(self, found: re.Match[str]) -> str:
        name, data, why = found[1], self._session.data, "session.data has no such name"
        try:  # the data are the application's own objects, which may raise any error
            if isinstance(data, Mapping):
                if name in data:
                    return _inserted(data[name])
            elif not callable(value := getattr(data, name)):
                return _inserted(value)
            silent = isinstance(data, Mapping) and not data
        except AttributeError:
            silent = False
        except Exception as error:
            silent, why = False, f"its value cannot be told: {type(error).__name__}: {error_text(error)}"
        if not silent and name not in self._unknown and len(self._unknown) < MAX_UNKNOWN:
            self._unknown |= {name}
            log.warning("session %s: {%s} stays in a text: %s", self._session.id, name, why)
        return found[0]


def _told_by(agent: Agent, function: Callable[[Any], Any], session: PromptOwner) -> str:
    try:
        text = function(session)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"the instructions of agent {agent.name!r}: {type(error).__name__}: {error_text(error)}"
        ) from error
    if inspect.iscoroutine(text):
        text.close()
    if not isinstance(text, str):
        raise ConfigurationError(
            f"the instructions of agent {agent.name!r} are {type(text).__name__}: the function must return a text"
        )
    return text


def _inserted(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        with suppress(TypeError, ValueError):  # not plain data: as Python shows it
            value = msgspec.json.encode(value).decode()
    text = str(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"
