"""What the other examples share: a phone call between a simulated caller and some agents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from duologue import Agent, Handoff, Pipeline, Processor, Session, Tools
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption, InterruptionPolicy
from duologue.processors.turns.vad import Vad
from duologue.services.local import Dialogue, Rule
from duologue.testing.caller import SimulatedCaller
from duologue.testing.script import converse
from duologue.transports.memory import MemoryTransport
from examples.offline import offline


async def phone_call(
    rules: Dialogue | Sequence[Rule],
    agents: Sequence[Agent],
    lines: Iterable[str],
    *,
    policy: InterruptionPolicy | None = None,
    extra: Sequence[Processor] = (),
    barge_in: str = "",
    engine: Processor | None = None,
) -> Session:
    """The caller says each line and listens; `barge_in` is said into the answer to the last one. Prints the log."""
    transport = MemoryTransport()
    pipeline = [
        *(transport.input(), Vad(), Endpointing(), Interruption(policy)),
        engine or offline(rules),
        Handoff(agents),
        Tools(),
        *extra,
        transport.output(),
    ]
    session = Session(Pipeline(pipeline))
    caller = SimulatedCaller(transport)

    async def script() -> None:
        *asked, last = lines
        for line in asked:
            await caller.say(line)
            await caller.listen()
        await caller.say(last)
        if barge_in:
            await caller.wait_for_agent_to_start()
            await caller.silence(1.5)
            await caller.say(barge_in)
        await caller.listen()

    outcome = await converse(session, script)
    if outcome.error is not None:
        raise SystemExit(f"The call failed: {outcome.error}")
    for item in session.conversation:
        what = f"{item.name}({item.data})" if item.kind == "tool_call" else item.text
        print(f"{item.at:6.2f}  {item.agent or item.role:<10} {what}{' ...' if item.status == 'interrupted' else ''}")
    return session
