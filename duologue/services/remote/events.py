"""The events that every connection to a vendor has, whatever the vendor calls them."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message of the vendor, as its dialect reads it. Ids are the vendor's own."""


class Opened(Event, frozen=True, kw_only=True):
    """The session is set up as asked. `left_s` is its longest duration in seconds, None if the vendor gives none."""

    session_id: str = ""
    left_s: float | None = None


class Refused(Event, frozen=True, kw_only=True):
    """The vendor refuses something. `about` is the id of the refused message, update or context, "" if unknown.

    After a `fatal` refusal the connection is useless, and another attempt would be refused as well.
    """

    code: str
    message: str
    about: str = ""
    fatal: bool = False


class GoingAway(Event, frozen=True, kw_only=True):
    """The vendor will close the connection in `left_s` seconds."""

    left_s: float
