"""A call on disk: what was said and heard, that nothing was changed, and a copy without the caller's words.

python -m examples.trace
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from duologue import Agent, Endpointing, Interruption, Tools, Vad
from duologue.services.local import Rule
from duologue.testing import Call
from duologue.trace import Redaction, Trace, Verification, read, redact, verify

from .offline import offline


async def pay(amount: str) -> dict[str, str]:
    """Pay some dollars."""
    return {"status": "made"}


PAY = Rule("pay {amount:five|ninety} dollars", call="pay", args={"amount": "{amount}"}, then="It was {result[status]}.")


async def main() -> tuple[Verification, Verification]:
    """Record a call, show and verify its trace, and redact a copy. Returns what both verifications found."""
    with TemporaryDirectory() as folder:
        trace = Trace(folder)
        pipeline = (Vad(), Endpointing(), Interruption(), offline([PAY]), Tools())
        async with Call.through(*pipeline, agent=Agent(name="Bank", tools=(pay,)), trace=trace) as call:
            await call.asks("pay five dollars")
        path, copy = Path(folder, f"{trace.call}.jsonl"), Path(folder, "copy.jsonl")
        for record in read(path):
            if record.kind in ("item", "heard") and record.private:
                print(f"{record.at:7.2f}  {record.kind:<6} {record.private}")
        redact(path, copy, Redaction(caller=True))
        found = verify(path), verify(copy)
    for checked in found:
        print(f"{checked.records} records, {checked.redacted_records} redacted: {'whole' if checked.ok else 'CHANGED'}")
    return found


if __name__ == "__main__":
    anyio.run(main)
