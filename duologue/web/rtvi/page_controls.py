"""`PageControls`: the page's requests, of types `duologue.…`: hand over, change the engine, approve, interrupt."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ...agents.agent import Agent
from ...errors import BadInput
from ...frames import ApprovalGiven, Transfer
from ...processors.handoff.handoff import Handoff
from ...processors.handoff.takeover import find_engine
from ...processors.kernel.groups import leaves
from ...processors.switch import Switch
from ...session.session import Session
from .client import RtviClient
from .page_messages import PageMessages

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
    """Carries out the page's requests. `messages` knows the tool calls that wait for approval."""

    def __init__(self, session: Session, messages: PageMessages) -> None:
        self._session, self._messages = session, messages
        self._handoff = find_handoff(session)

    def attach(self, client: RtviClient) -> None:
        """Answer the page's requests."""
        client.on_client_message("duologue.transfer", self._transfer, TransferRequest)
        client.on_client_message("duologue.approve", self._approve, ApprovalDecision)
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


def page_state(session: Session) -> dict[str, Any]:
    """Return the fields of `duologue.state`: the active agent and engine, and all agents and engines."""
    place, handoff = find_engine(session.pipeline), find_handoff(session)
    switch = place if isinstance(place, Switch) else None
    known = handoff.agents.values() if handoff else [session.agent] if session.agent else []
    return {
        "session_id": session.id,
        "agents": [_agent_fields(agent) for agent in known],
        "agent": session.agent.name if session.agent else "",
        "engine": switch.active if switch else "",
        "engines": list(switch.branches) if switch else [],
        "access": session.audio.access,
    }


def find_handoff(session: Session) -> Handoff | None:
    """Return the `Handoff` in a session's pipeline, None without one."""
    return next((leaf for leaf in leaves(session.pipeline) if isinstance(leaf, Handoff)), None)


def _agent_fields(agent: Agent) -> dict[str, str]:
    return {"name": agent.name, "role": agent.role, "description": agent.description}
