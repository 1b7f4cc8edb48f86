"""`ServedEnd`: the base of far ends that have a scripted server."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

import msgspec

from ....processors.processor import Processor
from ....services.context import Message
from ....services.native.engine import SpeechToSpeech
from ...scripted.server import Behaviour, Got
from ..rig import FarEnd
from .values import plain

FAR_TOO_LARGE = 20 * 2**20
DEEP = 100_000
"""Levels of a message that is nested too deep."""
"""The size in bytes of a message that every client refuses."""


class Server(Protocol):
    """A scripted server."""

    behaviour: Behaviour
    got: list[Got]

    @property
    def connections(self) -> Any:
        """The open connections."""


class ServedEnd(FarEnd):
    """The record of a scripted server in the form that the suite asks for."""

    made: SpeechToSpeech
    result_key: str = ""
    """The key under which the wire wraps a tool's result, "" if it does not."""

    @property
    @abstractmethod
    def server(self) -> Server:
        """The scripted server."""

    @property
    def engine(self) -> Processor:
        return self.made

    @property
    def history(self) -> tuple[Message, ...]:
        read = self.language.read
        return tuple(
            msgspec.structs.replace(message, text=read(message.text)) for message in self.server.got[-1].history
        )

    @property
    def results(self) -> list[tuple[str, Any]]:
        return [(id, plain(text, self.result_key)) for got in self.server.got for id, text in got.results]

    @property
    def instructions(self) -> str:
        return self.server.got[-1].instructions

    @property
    def voice(self) -> str:
        return self.server.got[-1].voice

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(tool["name"] for tool in self.server.got[-1].tools)

    @property
    def audio(self) -> list[bytes]:
        return [bytes(got.audio) for got in self.server.got]

    @property
    def connections(self) -> int:
        return len(self.server.got)

    @property
    def open_connections(self) -> int:
        return len(self.server.connections)

    @property
    def handles(self) -> list[str]:
        return [got.handle for got in self.server.got]

    async def go_half_open(self) -> None:
        self.server.connections[-1].go_half_open()

    def refuse(self, connections: int) -> None:
        self.server.behaviour.refuse = connections
