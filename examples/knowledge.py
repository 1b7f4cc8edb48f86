"""Knowledge: passages from a SQLite full-text index for the caller's questions, looked up while they speak.

python -m examples.knowledge
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

import anyio

from duologue import Cascade, Endpointing, Interruption, MemoryTransport, Passage, Pipeline, Retrieval, Session, Vad
from duologue.services.llm import Request
from duologue.services.local import EspeakTTS, SphinxSTT
from duologue.testing import Call
from duologue.testing.mocks import MockLLM

PAGES = {
    "hours": "We are open from ten to six. On Sunday we are closed.",
    "parking": "There is a free parking place behind the house.",
    "returns": "You can return a bike within thirty days.",
}
QUESTIONS = ["where can I park [my car]", "are you open on sunday", "what is your name"]
INDEX = sqlite3.connect(":memory:", check_same_thread=False)
INDEX.execute("CREATE VIRTUAL TABLE pages USING fts5(name, text, tokenize='porter')")
INDEX.executemany("INSERT INTO pages VALUES (?, ?)", PAGES.items())


async def search(words: str) -> Sequence[Passage]:
    """The pages with any of the words, the best first. Each word is quoted: no word is an operator of the query."""
    query = " OR ".join(f'"{word}"' for word in re.findall(r"\w{4,}", words))
    rows = INDEX.execute("SELECT name, text FROM pages WHERE pages MATCH ? ORDER BY rank LIMIT 3", (query or '""',))
    return [Passage(text, source=name) for name, text in rows]


def answer(request: Request) -> str:
    """A model that reads out the first passage it is given."""
    last = request.messages[-1]
    return last.text.splitlines()[3] if last.role == "system" else "I do not know."


async def main() -> Session:
    """Ask about something that is in the pages, and about something that is not."""
    transport = MemoryTransport()
    engine = Cascade(SphinxSTT(phrases=QUESTIONS), MockLLM(answer), EspeakTTS(), heard=[Retrieval(search)])
    turns = Vad(), Endpointing(), Interruption()
    session = Session(Pipeline([transport.input(), *turns, engine, transport.output()]))
    async with Call(session, transport) as call:
        await call.asks("where can I park my car")
        await call.asks("what is your name")
    call.print()
    return session


if __name__ == "__main__":
    anyio.run(main)
