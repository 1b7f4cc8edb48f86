"""Hooks: observe tool calls, hide words of the caller from log and model, and refuse tool calls.

python -m examples.hooks
"""

from __future__ import annotations

import anyio
import msgspec

from duologue import Agent, Endpointing, Interruption, Processor, Session, Tools, Vad
from duologue.frames import ToolCall, ToolCalled, ToolResult, UserTranscript
from duologue.services.local import Rule
from duologue.testing import Call

from .offline import offline


async def pay(amount: str) -> dict[str, str]:
    """Pay some dollars."""
    return {"status": "made"}


def hide_code(said: UserTranscript) -> UserTranscript:
    """Keep the code from the log and the model."""
    return msgspec.structs.replace(said, text=said.text.replace("one two three", "hidden"))


async def limit(call: ToolCall) -> ToolCall | ToolResult:
    """Refuse large payments: the tool does not run."""
    refusal = ToolResult(call_id=call.call_id, name=call.name, result={"status": "refused"})
    return refusal if call.name == "pay" and call.arguments["amount"] == "ninety" else call


class Compliance(Processor):
    """Sets the hooks of its call. It stands in the pipeline and does not handle frames."""

    async def open(self) -> None:
        self.session.intercept(UserTranscript, hide_code)
        self.session.intercept(ToolCall, limit, timeout_s=1.0)
        self.session.on(ToolCalled, lambda called: print(f"        {called.name} is called with {called.arguments}"))


CODE = Rule("my code is (one two three|hidden)", "Thank you. How much shall I pay?")
PAY = Rule("pay {amount:five|ninety} dollars", call="pay", args={"amount": "{amount}"}, then="It was {result[status]}.")


async def main() -> Session:
    """Let the caller give a code, and ask for a small payment and a large one."""
    pipeline = (Vad(), Endpointing(), Interruption(), offline([CODE, PAY]), Tools(), Compliance())
    async with Call.through(*pipeline, agent=Agent(name="Bank", tools=(pay,))) as call:
        for line in ("my code is one two three", "pay five dollars", "pay ninety dollars"):
            await call.asks(line)
    call.print()
    return call.session


if __name__ == "__main__":
    anyio.run(main)
