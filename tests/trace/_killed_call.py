"""A call in real time that goes on until its process is killed: `python -m tests.trace._killed_call FOLDER [KEY]`."""

from __future__ import annotations

import sys

import anyio

from duologue.trace import Trace
from tests.trace.calls import cascade


async def main(folder: str, key: str | None) -> None:
    trace = Trace(folder, sign=key, audio=True)
    async with cascade(trace, may_fail=True) as call:
        print(trace.call, flush=True)
        number = 0
        while True:
            number += 1
            trace.note("custom", {"number": number})
            print(number, flush=True)
            if number % 100 == 1:
                await call.types(f"Question {number}.")
            await anyio.sleep(0.002)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
