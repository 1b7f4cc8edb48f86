"""`chat`: a conversation with agents in plain text, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeAlias

from ..agents.agent import Agent, by_name
from ..agents.flow import Flow, Stage
from ..agents.sources import ToolSource
from ..agents.tool import Tool
from ..errors import ConfigurationError, DeadlineExceeded, IllegalState, ServiceError
from ..frames import HandoffCompleted, HandoffFailed, HandoffStarted, ResponseEnded, UserText
from ..processors.handoff.handoff import Handoff
from ..processors.handoff.takeover import find_engine
from ..processors.kernel.groups import leaves
from ..processors.kernel.node import Node
from ..processors.pipeline import Pipeline
from ..processors.processor import Processor
from ..processors.tools import Tools
from ..services.cascade import Cascade
from ..services.llm import LLM
from ..services.native.engine import SpeechToSpeech
from ..services.remote.llm import RemoteLLM
from ..services.vendors import find
from ..session.session import Session
from .call import QUIET_S, BareCall, Probe
from .clock import VirtualClockLoop
from .fakes import with_fakes
from .reply import Reply, transcript
from .scripted_llm import ScriptedLLM, ScriptedRules
from .texts import NoSTT, NoTTS

REPLY_S = 60.0
"""Seconds that a reply may take by default, with its tools and hand-offs."""
POLL_S = 0.05

Brain: TypeAlias = LLM | Node | ScriptedRules | str
"""The model of a chat: a language model, an engine, rules for a `ScriptedLLM`, or the name of a vendor."""


class Chat(BareCall):
    """A conversation in plain text: `say` types a line and returns the agents' `Reply`.

    The block begins when the agents have said their greeting, which is the reply `greeting`. A reply is complete when
    the agents owe nothing: they have said everything, every tool has its result, and no hand-off is on its way. If it
    takes longer than `timeout_s` seconds, `DeadlineExceeded` is raised and names the missing part; if the model fails,
    `ServiceError`, unless the chat `may_fail`. See `BareCall` for errors that end the call.
    """

    def __init__(
        self, session: Session[Any], *, ends: bool = True, may_fail: bool = False, timeout_s: float = REPLY_S
    ) -> None:
        super().__init__(session, ends=ends, may_fail=may_fail)
        self.timeout_s = timeout_s
        self._greeting: Reply | None = None
        self._responses_read = 0

    async def __aenter__(self) -> Self:
        seen = self.mark()
        await super().__aenter__()
        try:
            await self._owes_nothing()
            self._greeting = self._checked(seen)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    @property
    def greeting(self) -> Reply:
        """The words of the agents before the caller's first line. Raises IllegalState before the block."""
        if self._greeting is None:
            raise IllegalState("the chat has not begun")
        return self._greeting

    async def say(self, text: str) -> Reply:
        """Type a line as the caller, and return the reply. Raises IllegalState if the call is over."""
        if not self.session.live:
            reason = f": {self.outcome.reason}" if self.is_over else ""
            raise IllegalState(f"the call is over{reason}: nobody reads {text!r}")
        seen = self.mark()
        await self.session.send(UserText(text=text))
        await self._owes_nothing()
        return self._checked(seen)

    async def later(self, seconds: float) -> Reply:
        """Let time pass, and return what the agents have said and done meanwhile, for example with a late result."""
        seen = self.mark()
        await asyncio.sleep(seconds)
        await self._owes_nothing()
        return self._checked(seen)

    def _checked(self, seen: frozenset[str]) -> Reply:
        if self.is_over and not self.may_fail and (error := self.outcome.error) is not None:
            raise error
        reply = self.reply(seen)
        failed = next((frame for frame in self._responses() if frame.status == "failed"), None)
        if failed is not None and not self.may_fail:
            said = f"The conversation:\n{reply.conversation}"
            raise ServiceError(f"the model has not answered: {failed.reason}{self._hint()}\n\n{said}")
        return reply

    def _hint(self) -> str:
        """Return the mend for a model on the network under the virtual clock, which does not wait for it."""
        remote = any(isinstance(leaf, RemoteLLM | SpeechToSpeech) for leaf in leaves(self.session.pipeline))
        if not (remote and isinstance(asyncio.get_running_loop(), VirtualClockLoop)):
            return ""
        return "\nThe virtual clock does not wait for a model outside this process: use @pytest.mark.real_clock."

    def _responses(self) -> list[ResponseEnded]:
        """Return the responses that have ended since the last reply."""
        if self.probe is None:
            return []
        ended = self.came(ResponseEnded)
        new, self._responses_read = ended[self._responses_read :], len(ended)
        return new

    async def _owes_nothing(self) -> None:
        """Wait until the agents owe nothing for `QUIET_S`, or the call is over."""
        quiet_s, left_s = 0.0, self.timeout_s
        while quiet_s < QUIET_S and not self.is_over:
            if left_s <= 0:
                said = "\n".join(transcript(self.session.conversation))
                why = f"{self._owed() or 'it goes on and on'}{self._hint()}\n\nThe conversation:\n{said}"
                raise DeadlineExceeded(f"no complete reply within {self.timeout_s:g} s: {why}")
            await asyncio.sleep(POLL_S)
            left_s -= POLL_S
            quiet_s = 0.0 if self._owed() else quiet_s + POLL_S

    def _owed(self) -> str:
        session = self.session
        if waiting := [call.name for call in session.calls.open()]:
            return f"no result of {', '.join(waiting)} yet"
        if session.draining:
            return "the call is about to end"
        started = self.came(HandoffStarted)
        if len(started) > len(self.came(HandoffCompleted)) + len(self.came(HandoffFailed)):
            return f"the hand-off to {started[-1].target} is on its way"
        return "the model has not finished" if session.floor.owner == "agent" else ""


def chat(
    agents: Agent | Iterable[Agent],
    llm: Brain,
    *,
    flow: Flow | Iterable[Stage] | None = None,
    tools: Mapping[str, Any] | None = None,
    shared: Iterable[Tool | ToolSource | Callable[..., Any]] = (),
    data: Any = None,
    processors: Iterable[Processor] = (),
    timeout_s: float = REPLY_S,
    may_fail: bool = False,
    **options: Any,
) -> Chat:
    """Return a chat with agents, to be used as `async with chat(…) as talk: reply = await talk.say("…")`.

    `llm` is a language model, an engine or a `Switch` of engines, the rules of a `ScriptedLLM`, or the name of a
    vendor's model such as "openai". `flow` has the stages of the call, as for `Handoff`; `shared` are the tools given
    to `Tools`. `tools` replaces tools by name: with a function, which is called with the arguments that it takes, an
    exception, which is raised, or any other value, which is the result. `data` is the session's. `processors` stand
    before the engine. `options` are those of `Session`.

    Raises ConfigurationError for a tool that no agent has, and for rules that are not of a `ScriptedLLM`'s form.
    """
    agents = list(by_name([agents] if isinstance(agents, Agent) else agents).values())
    if not isinstance(tools or {}, Mapping):
        raise ConfigurationError(
            f"tools is {type(tools).__name__}: give a dict, with the fake of each tool by its name"
        )
    agents, own = with_fakes(agents, shared, tools or {})
    pipeline = Pipeline([*processors, _engine(llm), Handoff(agents, flow), Tools(own), Probe()])
    return Chat(Session(pipeline, data=data, **options), timeout_s=timeout_s, may_fail=may_fail)


def _engine(llm: Brain) -> Node:
    if isinstance(llm, str):
        llm = find("llm", llm).load()()
    elif isinstance(llm, Mapping):
        llm = ScriptedLLM(llm)
    if isinstance(llm, LLM):
        return Cascade(NoSTT(), llm, NoTTS())
    if isinstance(llm, Node) and find_engine(llm) is not None:
        return llm
    raise ConfigurationError(f"{llm!r} is not a model: give an LLM, an engine, rules, or the name of a vendor")
