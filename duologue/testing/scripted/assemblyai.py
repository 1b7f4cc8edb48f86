"""`ScriptedAssemblyAI`: AssemblyAI's streaming speech-to-text on loopback, with faults and a record."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import anyio
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from ...services.assemblyai.wire import RATE
from .hearing import HearingBehaviour, HearingConnection, Utterance, timed
from .vendor import VendorGot, VendorServer, asked, latest, refusal

LEAST_S, MOST_S = 0.05, 1.0
"""The shortest and the longest audio of a message, in seconds."""


@dataclass(kw_only=True)
class AssemblyAIBehaviour(HearingBehaviour):
    """The behaviour of the server. May be changed at any time, with effect from then on."""

    session_limit_s: float = 10_800.0
    """Seconds after which a session is ended."""


@dataclass(slots=True)
class AssemblyAIGot(VendorGot):
    """The record of one connection. Kept after its end. An utterance is the audio up to a `ForceEndpoint`."""

    query: dict[str, str]
    key: str = ""
    kinds: list[str] = field(default_factory=list)
    """The types of the messages other than audio."""
    refused: int = 0
    """Messages that AssemblyAI does not take."""


class AssemblyAIConnection(HearingConnection[AssemblyAIBehaviour, AssemblyAIGot]):
    """An open connection."""

    rate = RATE
    splits = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._turn = 0

    async def refuse(self, code: int, text: str) -> None:
        """Tell the client of an error, and close the connection."""
        await self.deliver({"type": "Error", "error_code": code, "error": text}, "an error")
        await self.close(code, "See Error message for details")

    async def begin(self) -> None:
        """Begin the session, or refuse the key."""
        if self.got.key != self.behaviour.key:
            await self.refuse(1008, "Unauthorized Connection: Invalid API key")
            return
        limit_s = self.behaviour.session_limit_s
        self.start(self._limit(limit_s))
        begin = {"type": "Begin", "id": "session", "expires_at": int(time.time() + limit_s)}
        await self.deliver(begin, "a beginning", ("configuration",))

    async def _limit(self, limit_s: float) -> None:
        await anyio.sleep(limit_s)
        await self.refuse(3008, "Session Expired: Maximum session duration exceeded")

    async def receive(self, message: str | bytes) -> None:
        """Take audio, or a message."""
        got = self.got
        if isinstance(message, bytes):
            if LEAST_S <= len(message) / (2 * RATE) <= MOST_S:
                self.hear(message)
            else:
                got.refused += 1
                await self.refuse(3007, "Input Duration Error")
            return
        kind = json.loads(message).get("type", "")
        got.kinds.append(kind)
        if kind == "ForceEndpoint":
            self.start(self.answer(self.ended()._replace(number=self._turn)))
            self._turn += 1
        elif kind not in ("Terminate", "UpdateConfiguration", "KeepAlive"):
            got.refused += 1
            await self.refuse(3006, f"Invalid Message Type: {kind}")

    async def tell_interim(self, text: str) -> None:
        """Send the turn in progress."""
        await self.tell_turn(text, end=False)

    async def tell_final(self, said: Utterance, *, ends: bool, split: bool) -> None:
        """Send a turn that has ended, if it is `split` after its first words."""
        words = said.text.split()
        for count in range(1, len(words)) if split else ():
            await self._tell(said._replace(text=" ".join(words[:count])), end=False)
        await self._tell(said, end=ends)

    async def tell_late(self, said: Utterance) -> None:
        """Send the turn once more, without its end."""
        await self._tell(said, end=False)

    async def tell_turn(self, text: str, *, end: bool, began_s: float = 0.0) -> None:
        """Send the turn in progress; its end comes unformatted, and then formatted."""
        await self._tell(Utterance(text, began_s, began_s, self._turn), end=end)

    async def _tell(self, said: Utterance, *, end: bool) -> None:
        words = [
            {
                "text": word,
                "start": round(start_s * 1000),
                "end": round(end_s * 1000),
                "confidence": 0.9,
                "word_is_final": end,
            }
            for word, start_s, end_s in timed(said.text, said.start_s)
        ]
        for formatted in (False, True) if end else (False,):
            turn = {
                "type": "Turn",
                "turn_order": said.number,
                "turn_is_formatted": formatted,
                "end_of_turn": end,
                "transcript": said.text,
                "end_of_turn_confidence": 1.0 if end else 0.1,
                "words": words,
            }
            await self.deliver(turn, "a turn", ("end_of_turn_confidence", "language_code", "utterance"))

    def next_turn(self) -> None:
        """Begin another turn, as the vendor does after one that it has ended by itself."""
        self._turn += 1


class ScriptedAssemblyAI(VendorServer[AssemblyAIBehaviour, AssemblyAIGot, AssemblyAIConnection]):
    """AssemblyAI's server. An async context manager: while it is open, `url` is the `base_url` of the service.

    The keyword arguments are fields of `AssemblyAIBehaviour`. `got` has the record of each connection, `connections`
    those that are open. `manners` are the faults that the vendor shows.
    """

    kind = AssemblyAIBehaviour

    def rejection(self, status: int) -> Response:
        """Return the response to a connection that the behaviour refuses."""
        return refusal(status, {"error": "Refused by the script."})

    def check(self, request: Request) -> Response | None:
        """Return None: a wrong key is refused after the connection was accepted."""
        return None if asked(request)[0] == "/v3/ws" else self.rejection(404)

    def record(self, request: Request) -> AssemblyAIGot:
        """Return the record of a new connection."""
        return AssemblyAIGot(latest(asked(request)[1]), request.headers.get("Authorization", ""))

    def connect(self, socket: ServerConnection, got: AssemblyAIGot) -> AssemblyAIConnection:
        """Return the connection over an accepted socket."""
        return AssemblyAIConnection(self, socket, got)
