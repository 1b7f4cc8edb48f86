"""`CallerControls`: requests of a client beside the caller's input: the button to talk, and the agent's playback."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..errors import BadInput, DuologueError
from ..session.session import Session
from ..transports.client import Message
from ..transports.websocket.transport import WebSocketTransport


class TalkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The caller presses the button, or releases it: see `Session.talk`."""

    talking: bool


class PlaybackRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of the agent's playback: see `Session.playback`. `do` and `volume` can come together."""

    do: Literal["", "pause", "resume", "stop", "replay"] = ""
    volume: float | None = None


class CallerControls:
    """Carries out a client's requests. Each raises an error of Duologue for one that cannot be carried out."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def talk(self, asked: TalkRequest) -> dict[str, Any]:
        """Press or release. Returns True as `changed` unless nothing changes."""
        return {"changed": self._session.talk(asked.talking)}

    def playback(self, asked: PlaybackRequest) -> dict[str, Any]:
        """Change the volume, then pause, resume, stop or replay. Returns False as `changed` if nothing is done."""
        playback = self._session.playback
        self._session.host.require_running("change its playback")
        if asked.volume is not None:
            playback.volume = asked.volume
        done = getattr(playback, asked.do)() if asked.do else asked.volume is not None
        return {"changed": done}


def take_requests(transport: WebSocketTransport, session: Session) -> None:
    """Carry out the messages `talk` and `playback` of a WebSocket client that does not speak RTVI."""
    controls = CallerControls(session)

    def received(message: Message) -> None:
        kind, fields = message.get("type"), {name: value for name, value in message.items() if name != "type"}
        if kind not in ("talk", "playback") or "label" in message:
            return
        try:
            if kind == "talk":
                controls.talk(msgspec.convert(fields, TalkRequest))
            else:
                controls.playback(msgspec.convert(fields, PlaybackRequest))
        except msgspec.ValidationError as error:
            _refuse(transport, BadInput(f"{kind}: {error}"))
        except DuologueError as error:
            _refuse(transport, error)

    transport.on_message(received)


def _refuse(transport: WebSocketTransport, error: DuologueError) -> None:
    transport.send_event("error", code="refused", message=str(error))
