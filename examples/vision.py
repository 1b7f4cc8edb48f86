"""Eyes: the caller shows a picture, then their camera, and asks about both.

    python -m examples.vision --scripted           # no key, no network: the "model" tells the colour that it sees
    python -m examples.vision photo.jpg            # with OPENAI_API_KEY: a real model, your picture

Needs the extra `vision`.
"""

from __future__ import annotations

import io
import sys

import anyio
from PIL import Image

from duologue import LLM, Cascade, Endpointing, Interruption, Vad, images
from duologue.frames import UserImage
from duologue.services.llm import Request
from duologue.services.local import EspeakTTS, SphinxSTT
from duologue.services.openai import OpenAILLM
from duologue.testing import Call
from duologue.testing.mocks import MockLLM

QUESTION = "what is this"


def painted(colour: str) -> bytes:
    """Return a picture of one colour, as a PNG."""
    out = io.BytesIO()
    Image.new("RGB", (640, 480), colour).save(out, "PNG")
    return out.getvalue()


def colour_seen(request: Request) -> str:
    """Answer like a model that sees the newest picture of a request."""
    shown = [message.image for message in request.messages if message.image][-1]
    red, green, _ = Image.open(io.BytesIO(shown)).convert("RGB").resize((1, 1)).tobytes()
    return "That is red." if red > green else "Now it is green."


async def main(path: str = "", *, scripted: bool = False) -> Call:
    """Hold the call. The picture is the file at `path`, or a red one; the camera sees a green wall."""
    llm: LLM = MockLLM(colour_seen) if scripted else OpenAILLM()
    engine = Cascade(SphinxSTT(phrases=[QUESTION]), llm, EspeakTTS())
    async with Call.through(Vad(), Endpointing(), Interruption(), engine) as call:
        picture = await images.from_file(path) if path else await images.from_bytes(painted("red"), name="red.png")
        await call.session.send(picture)
        await call.asks(QUESTION)
        await call.session.send(UserImage(image=painted("green"), source="camera"))  # a camera sends one a second
        await call.asks(QUESTION)
    call.print()
    return call


if __name__ == "__main__":
    arguments = [each for each in sys.argv[1:] if each != "--scripted"]
    anyio.run(lambda: main(*arguments[:1], scripted="--scripted" in sys.argv))
