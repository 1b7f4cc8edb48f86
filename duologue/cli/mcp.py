"""`duologue mcp`: offers agents as an MCP server, so that a coding assistant can try them in plain text."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

from ..errors import DuologueError, MissingExtra
from ..testing.chatting import Chat, chat
from ..testing.reply import Reply, transcript
from .chat import model_for, session_data
from .profiles import with_files
from .target import find_agents

INSTRUCTIONS = (
    "Talk to the voice agents of an application in plain text. say sends a line of the caller and returns what the "
    "agents have said and done. reset begins another call. transcript returns the call up to now."
)


def run_mcp(
    target: str,
    llm: str = "",
    *,
    scripted: bool = False,
    data: str = "",
    profiles: Sequence[str] = (),
    skills: Sequence[str] = (),
) -> int:
    """Serve the agents at "module:object" over stdin and stdout, until the client goes. Returns the exit code.

    The options are those of `run_chat`. Raises ConfigurationError for agents that are not there, or
    that no model can answer for, and MissingExtra without the package.
    """

    def make() -> Chat:
        found = with_files(find_agents(target), profiles, skills)
        model = model_for(target, llm, found.rules, scripted=scripted)
        return chat(found.agents, model, flow=found.flow, data=session_data(data), may_fail=True)

    with redirect_stdout(sys.stderr):  # stdout has messages only
        make()  # an error of the agents is shown at once
    print(f"{target} is offered as an MCP server on stdin and stdout.", file=sys.stderr)
    asyncio.run(_serve_trial(AgentTrial(make)))
    return 0


async def _serve_trial(trial: AgentTrial) -> None:
    try:
        await server_for(trial).run_stdio_async()
    finally:
        await trial.reset()


def server_for(trial: AgentTrial) -> Any:
    """Return the package's server with the tools of a trial. Raises MissingExtra without the package."""
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError as error:
        raise MissingExtra("mcp", "mcp", str(error)) from error

    server = MCPServer("duologue", instructions=INSTRUCTIONS)
    for tool in (trial.say, trial.reset, trial.transcript):
        server.add_tool(tool, structured_output=False)
    return server


class AgentTrial:
    """One call at a time with agents that `make` gives anew for each call."""

    def __init__(self, make: Callable[[], Chat]) -> None:
        self._make = make
        self._talk: Chat | None = None
        self._turn = asyncio.Lock()

    async def say(self, text: str) -> str:
        """Say something as the caller, and return the answer: the words of the agents, the tools that they called with
        their results, hand-offs and errors. The first line begins a call; after its end the next one begins another.
        """
        async with self._turn:
            heard: list[Reply] = []
            try:
                if self._talk is None or self._talk.is_over:
                    self._talk = await self._make().__aenter__()
                    heard.append(self._talk.greeting)
                heard.append(await self._talk.say(text))
            except DuologueError as error:
                return f"error: {type(error).__name__}: {error}"
            return "\n".join(line for reply in heard for line in reply_lines(reply)) or "(the agents say nothing)"

    async def reset(self) -> str:
        """End the call. The next line begins another."""
        async with self._turn:
            talk, self._talk = self._talk, None
            if talk is not None and not talk.is_over:
                talk.session.cancel("reset")
                await talk.over()
            return "The next line begins another call."

    async def transcript(self) -> str:
        """Return everything said and done in the call up to now."""
        talk = self._talk
        return "\n".join(transcript(talk.session.conversation)) if talk is not None else "(no call has begun)"


def reply_lines(reply: Reply) -> list[str]:
    """Return a reply as lines."""
    lines = [f"{agent}: {text.strip()}" for agent, text in reply.lines]
    lines += [f"  called {call} -> {call.error or repr(call.result)}" for call in reply.calls]
    lines += [f"  handed over from {each.source} to {each.target}: {each.reason}" for each in reply.handoffs]
    lines += [f"  error: {error}" for error in reply.errors]
    if reply.ended:
        lines.append("  the call is over")
    return lines
