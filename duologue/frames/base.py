"""The four families of frames. The family decides how a frame travels and how an interruption affects it."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Frame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag=True, omit_defaults=True):
    """A message that travels through a pipeline. Immutable; make a changed copy with `msgspec.structs.replace`.

    Subclass one of the four families, not this class, and give the subclass `frozen=True, kw_only=True, tag="…"`.
    The tag names the frame on the wire and in traces. It must be unique, and must stay when the class is renamed.
    Without one the class's name is the tag.
    """

    types_made: ClassVar[int] = 0
    """The number of defined frame types. A cached list of the types is stale once it has changed."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Frame.types_made += 1


class Signal(Frame, frozen=True, kw_only=True):
    """Out of band: reaches every interested processor before the push returns. Never queued, never dropped."""


class Input(Frame, frozen=True, kw_only=True):
    """From the caller's side. Keeps its order among `Input`; an interruption does not affect it."""


class Output(Frame, frozen=True, kw_only=True):
    """From the agent's side. Keeps its order among `Output`; dropped wherever it is once the fence reaches its `turn`.

    `turn` is the number of the exchange (see `Floor`), `response_id` the response within it.
    """

    survives_fence: ClassVar[bool] = False

    turn: int = 0
    response_id: str = ""


class Control(Frame, frozen=True, kw_only=True):
    """Configures an engine or ends the call. Keeps its order among all frames; handlers see it but cannot stop it."""


class Word(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A word and its times, in seconds from the start of the audio that it is part of.

    `text` is verbatim, with the punctuation and the space that follow it: the words, joined, are their sentence.
    """

    text: str
    start_s: float
    end_s: float
