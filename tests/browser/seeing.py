"""A server whose model says what it sees: the number of images in its request, and the newest one."""

from __future__ import annotations

import io

from PIL import Image

from duologue import Cascade, Endpointing, Interruption, Pipeline, Session, Vad
from duologue.services.llm import Request
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports.client import ClientTransport

from .served import with_diary


def see(request: Request) -> str:
    """Return what the model says to a request."""
    shown = [message for message in request.messages if message.image]
    if not shown:
        return "I see nothing."
    with Image.open(io.BytesIO(shown[-1].image)) as image:
        colours = len(set(image.convert("RGB").resize((16, 16)).getdata()))
        return (
            f"I see {len(shown)}: {image.width} by {image.height}, {'many colours' if colours > 4 else 'one colour'}."
        )


def make_session(transport: ClientTransport) -> Session:
    """Return the session of a call."""
    ears = Vad(), Endpointing(), Interruption()
    engine = Cascade(MockSTT(["what is this"]), MockLLM(see), MockTTS(seconds_per_sentence=0.4))
    return with_diary(Session(Pipeline([transport.input(), *ears, engine, transport.output()])), transport)
