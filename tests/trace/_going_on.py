"""A call in real time in a process of its own, which can be killed, and taken up again by another process.

    python -m tests.trace._going_on ADDRESS EFFECTS QUESTIONS LEASE_S [CALL]

The caller types "Question 1.", "Question 2." and so on. For each, the model runs a tool that adds a line to the file
EFFECTS, and then answers. The process prints the name of its call, and each question that was answered, and ends after
so many QUESTIONS, or goes on until it is killed if that is 0. With CALL it takes that call up, and goes on after the
last question.
"""

from __future__ import annotations

import os
import re
import sys
from functools import partial

import anyio

from duologue.agents.tool import Tool
from duologue.processors.tools import Tools
from duologue.services.llm import Request, ToolRequest
from duologue.testing.mocks import MockLLM, MockTTS
from duologue.trace import Resume, Trace
from duologue.transports.memory import MemoryTransport
from tests.services.story import Story, story


def number_in(text: str) -> int:
    return int(re.findall(r"\d+", text)[-1])


def answer(request: Request) -> str | ToolRequest:
    """Ask for the tool, and with its result answer the last question."""
    last = max(n for n, message in enumerate(request.messages) if message.role == "user")
    number = number_in(request.messages[last].text)
    results = [message.text for message in request.messages[last:] if message.role == "tool"]
    if not results:
        return ToolRequest(call_id=f"call-{number}", name="stamp", arguments={"number": number})
    return f"Answer {number}: {'done' if 'stamped' in results[-1] else 'not known'}."


def is_answered(call: Story, number: int) -> bool:
    return any(line.startswith(f"Answer {number}:") for line in call.said_by_agent)


async def main(address: str, effects: str, questions: int, lease_s: float, name: str) -> None:
    async def stamp(number: int) -> str:
        """Stamp a number."""
        await anyio.sleep(0.01)
        file = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{number}\n".encode())
        os.close(file)
        await anyio.sleep(0.01)
        return "stamped"

    trace = Trace(address, lease_s=lease_s)
    resume = Resume(name) if name else None
    rest = (MemoryTransport().output(), Tools([Tool(stamp)]))
    llm, tts = MockLLM(answer, first_token_s=0.005), MockTTS(seconds_per_sentence=0.03)
    async with story(*rest, llm=llm, tts=tts, trace=trace, resume=resume) as call:
        print(trace.call, flush=True)
        log = call.session.conversation
        asked = [number_in(item.text) for item in log if item.role == "caller" and item.text]
        number, last = max(asked, default=0), max(asked, default=0) + questions
        while True:
            if number:
                await call.until(partial(is_answered, call, number), f"an answer to question {number}")
                print(number, flush=True)
            if questions and number >= last:
                return
            number += 1
            await call.types(f"Question {number}.")


if __name__ == "__main__":
    address, effects, questions, lease_s, *call = sys.argv[1:]
    anyio.run(main, address, effects, int(questions), float(lease_s), call[0] if call else "")
