"""`WebRTCHost`: reads requests, takes WebRTC calls, and finds them again, for both kinds of signalling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from starlette.requests import ClientDisconnect, Request

from ..errors import BadInput, IllegalState, MissingExtra
from ..frames.text import from_json, well_formed_data
from .calls import Calls
from .refusals import ClientRefused

if TYPE_CHECKING:
    from ..transports.webrtc.transport import WebRTCTransport

Json = dict[str, Any]


class WebRTCHost:
    """Takes WebRTC calls for both kinds of signalling."""

    def __init__(self, calls: Calls, ice_servers: Sequence[str] = (), *, public_candidates_only: bool = False) -> None:
        self.calls = calls
        self._public_only = public_candidates_only
        self.ice_servers = list(ice_servers)
        self._missing: MissingExtra | None = None
        try:  # here, because the import is slow and would stop the calls of a running server
            from ..transports.webrtc import transport as webrtc  # noqa: F401
        except MissingExtra as error:
            self._missing = error

    def require_webrtc(self) -> None:
        """Raise ClientRefused (501) if the extra is not installed."""
        if self._missing is not None:
            raise ClientRefused(501, "not_available", str(self._missing))

    async def body(self, request: Request) -> Json:
        """Return the request's JSON object.

        Raises ClientRefused: 408 if it is not complete in time, 413 if it is too long, 400 if it is not an object.
        """
        limit_s = self.calls.limits.request_s
        try:
            with anyio.fail_after(limit_s):
                data = await self._read(request)
        except TimeoutError as error:
            raise ClientRefused(408, "too_slow", f"the request was not complete within {limit_s:g} s") from error
        except ClientDisconnect as error:
            raise ClientRefused(400, "malformed", "the request was broken off") from error
        try:
            value = well_formed_data(from_json(data))
        except msgspec.DecodeError as error:
            raise ClientRefused(400, "malformed", "the request is not JSON") from error
        if not isinstance(value, dict):
            raise ClientRefused(400, "malformed", "the request is not a JSON object")
        return value

    async def _read(self, request: Request) -> bytearray:
        limit, data = self.calls.limits.message_bytes, bytearray()
        async for piece in request.stream():
            data += piece
            if len(data) > limit:
                raise ClientRefused(413, "too_large", f"the request is longer than {limit} bytes")
        return data

    def options(self) -> Json:
        """Return the keyword arguments of transports."""
        limits = self.calls.limits
        return {
            "ice_servers": self.ice_servers,
            "public_candidates_only": self._public_only,
            "connect_s": limits.connect_s,
            "lost_s": limits.lost_s,
            "reconnect_s": limits.reconnect_s,
            "message_bytes": limits.message_bytes,
            "messages_per_s": limits.messages_per_s,
            "bytes_per_s": limits.bytes_per_s,
        }

    async def accept(self, transport: WebRTCTransport, sdp: str, type: str, address: str) -> str:
        """Take a call of a client at `address`. Returns the answer to its first offer. Raises ClientRefused."""
        await self.calls.openings.turn()
        call = self.calls.open(transport, address=address, connected=False)
        transport.on_connected = call.start
        transport.on_abandoned = call.give_up
        try:
            return await transport.accept(sdp, type)
        except (BadInput, IllegalState) as error:
            await call.end("the offer could not be answered")
            raise ClientRefused(400, "bad_offer", str(error)) from error
        except BaseException:
            call.give_up("the offer was withdrawn")
            raise

    def find(self, id: str, identity: Any) -> WebRTCTransport | None:
        """Return the transport of a call of this identity; None also for a call of another identity."""
        from ..transports.webrtc.transport import WebRTCTransport

        call = self.calls.get(id)
        transport = call.transport if call is not None else None
        if not isinstance(transport, WebRTCTransport) or transport.identity != identity or transport.hung_up:
            return None
        return transport


async def add_candidate(transport: WebRTCTransport, candidate: Any, mid_name: str, index_name: str) -> None:
    """Add a candidate as a client sends it. Raises ClientRefused (400) if it cannot be used."""
    if not isinstance(candidate, dict):
        raise ClientRefused(400, "malformed", "a candidate is not a JSON object")
    mid, index = candidate.get(mid_name), candidate.get(index_name)
    if not (mid is None or isinstance(mid, str)) or not (index is None or type(index) is int):
        raise ClientRefused(
            400, "malformed", f"a candidate's {mid_name} is not a text or its {index_name} not a number"
        )
    try:
        await transport.add_candidate(text(candidate, "candidate"), mid, index)
    except (BadInput, IllegalState) as error:
        raise ClientRefused(400, "bad_candidate", str(error)) from error


def text(body: Json, name: str, default: str | None = None) -> str:
    """Return a field that is a text. Raises ClientRefused (400) for another type, or if it is missing."""
    value = body.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise ClientRefused(400, "malformed", f"{name} is missing or not a text")
    return value
