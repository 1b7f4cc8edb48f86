"""`ControlName`: a right of a client beyond the conversation; `PageControls` carries out its requests."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, get_args

import msgspec

from ...agents.agent import Agent
from ...errors import BadInput, ConfigurationError
from ...frames import ApprovalGiven, Transfer
from ...processors.handoff.handoff import Handoff
from ...processors.handoff.takeover import find_engine
from ...processors.kernel.groups import active_leaves, leaves
from ...processors.switch import Switch
from ...services.answers import Answers
from ...session.session import Session
from .client import RtviClient
from .page_messages import PageMessages

ControlName = Literal["transfer", "approve", "interrupt", "agents", "usage", "latency", "connections", "whispers"]
"""A right of a client beyond the conversation:

`transfer`: hand over to another agent or engine. `approve`: see the tool calls that wait for approval, and decide.
`interrupt`: interrupt the agent without speaking. `agents`: the names, roles and descriptions of all agents, and
hand-offs. `usage`: consumption and cost. `latency`: the times of each turn. `connections`: the state of the services'
connections. `whispers`: words that others than the caller have put into the conversation.
"""
ALL_CONTROLS: frozenset[ControlName] = frozenset(get_args(ControlName))


def checked_controls(controls: Collection[ControlName]) -> frozenset[ControlName]:
    """Return the controls as a set. Raises ConfigurationError for an unknown one."""
    if isinstance(controls, str) or not ALL_CONTROLS.issuperset(controls):
        known = ", ".join(get_args(ControlName))
        raise ConfigurationError(f"controls is {controls!r}: give a list of {known}")
    return frozenset(controls)


ShortText = Annotated[str, msgspec.Meta(max_length=256)]


class TransferRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`duologue.transfer`: the agent and the engine that take the call; "" keeps the present one."""

    target: ShortText = ""
    engine: ShortText = ""
    reason: Annotated[str, msgspec.Meta(max_length=2_000)] = ""


class ApprovalDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`duologue.approve`: `approved` is True to let a waiting tool run."""

    call_id: ShortText
    approved: bool


class PageControls:
    """Carries out the requests of a page that `may` do them. `messages` knows the calls that wait for approval."""

    def __init__(self, session: Session, messages: PageMessages, may: frozenset[ControlName]) -> None:
        self._session, self._messages, self._may = session, messages, may
        self._handoff = find_handoff(session)

    def attach(self, client: RtviClient) -> None:
        """Answer the page's requests."""
        if "transfer" in self._may:
            client.on_client_message("duologue.transfer", self._transfer, TransferRequest)
        if "approve" in self._may:
            client.on_client_message("duologue.approve", self._approve, ApprovalDecision)
        if "interrupt" in self._may:
            client.on_client_message("duologue.interrupt", self._interrupt)

    async def _transfer(self, asked: TransferRequest) -> None:
        if self._handoff is None:
            raise BadInput("the call cannot be handed over: the pipeline has no Handoff")
        if asked.target and asked.target not in self._handoff.agents:
            raise BadInput(f"there is no agent {asked.target!r}; there are {', '.join(self._handoff.agents)}")
        await self._session.send(Transfer(target=asked.target, engine=asked.engine, reason=asked.reason))

    def _approve(self, asked: ApprovalDecision) -> None:
        if not self._messages.waits_for_approval(asked.call_id):
            raise BadInput(f"no tool call {asked.call_id!r} waits for approval")
        self._session.broadcast(ApprovalGiven(call_id=asked.call_id, approved=asked.approved, by="client"))

    def _interrupt(self, data: Any) -> None:
        self._session.interrupt("client")


def page_state(session: Session, may: frozenset[ControlName]) -> dict[str, Any]:
    """Return the fields of `duologue.state`: the caller's access, the active agent, and what the client may see."""
    agent, sees_all = session.agent, bool({"agents", "transfer"} & may)
    engine, engines = "", list[str]()
    known = [agent] if agent else []
    if sees_all:
        place, handoff = find_engine(session.pipeline), find_handoff(session)
        if isinstance(place, Switch):
            engine, engines = place.active, list(place.branches)
        known = list(handoff.agents.values()) if handoff else known
    return {
        "session_id": session.id,
        "agents": [_agent_fields(each, described=sees_all) for each in known],
        "agent": agent.name if agent else "",
        "engine": engine,
        "engines": engines,
        "access": session.audio.access,
        "mode": session.microphone.mode,
        "state": session.state.value,
        "volume": session.playback.volume,
        "camera_fps": camera_fps(session),
        "controls": sorted(may),
    }


def camera_fps(session: Session) -> float:
    """Return the frames a second of a camera that the active engine looks at, 0 for an engine that takes no images."""
    engines = [leaf for leaf in active_leaves(session.pipeline) if isinstance(leaf, Answers)]
    return max((engine.camera_fps for engine in engines if engine.image_limits is not None), default=0.0)


def find_handoff(session: Session) -> Handoff | None:
    """Return the `Handoff` in a session's pipeline, None without one."""
    return next((leaf for leaf in leaves(session.pipeline) if isinstance(leaf, Handoff)), None)


def _agent_fields(agent: Agent, *, described: bool) -> dict[str, str]:
    shown = {"display_name": agent.display_name, "colour": agent.colour}
    return {
        "name": agent.name,
        "role": agent.role,
        "description": agent.description if described else "",
        **{name: value for name, value in shown.items() if value},
    }
