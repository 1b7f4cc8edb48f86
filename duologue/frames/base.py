"""The four families of frames. A family says how a frame travels and what an interruption does to it."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Frame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag=True, omit_defaults=True):
    """What travels through a pipeline. Immutable; make a changed copy with `msgspec.structs.replace`.

    Subclass one of the four families, not this class, and give the subclass `frozen=True, kw_only=True, tag="…"`.
    The tag names the frame on the wire and in traces, so it must be unique and must not change with the class's name.
    Without one the class's name is the tag.
    """

    types_made: ClassVar[int] = 0
    """How many types of frames there have been: whoever keeps a list of them knows by it that there is a new one."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Frame.types_made += 1


class Signal(Frame, frozen=True, kw_only=True):
    """Out of band: reaches every interested processor before the push returns. Never queued, never dropped."""


class Input(Frame, frozen=True, kw_only=True):
    """From the caller. In order with other `Input`; an interruption leaves it alone."""


class Output(Frame, frozen=True, kw_only=True):
    """Of the agent. In order with other `Output`; dropped wherever it is once its `turn` is fenced.

    `turn` numbers the exchange that it belongs to (see `Floor`); `response_id` the response within it.
    """

    survives_fence: ClassVar[bool] = False

    turn: int = 0
    response_id: str = ""


class Control(Frame, frozen=True, kw_only=True):
    """Configures or ends. In order with everything; handlers see it but cannot hold it back."""


class Word(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A word and when it is spoken, in seconds from the start of what it is part of.

    `text` is verbatim, with the punctuation and the space that follow it, so that words join to their sentence.
    """

    text: str
    start_s: float
    end_s: float
