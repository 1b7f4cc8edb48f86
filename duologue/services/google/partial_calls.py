"""`PartialCalls`: puts tool calls together whose arguments come in pieces."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..native.dialect import Event, Unknown
from .wire_in import FunctionCall, PartialArg

MAX_PARTIAL = 16
"""The most calls that wait for their end; the oldest are dropped."""
MAX_INDEX = 1_000
"""The highest index in a path that is obeyed."""

_STEP = re.compile(r"\.?([A-Za-z_][\w-]*)|\[(\d{1,4})\]|\[['\"]([^'\"]*)['\"]\]")


class PartialCalls:
    """The calls whose arguments have not come whole. A call without an id is given one."""

    def __init__(self) -> None:
        self._waiting: dict[str, FunctionCall] = {}
        self._numbers = 0
        self.unnamed: set[str] = set()
        """The ids that were given here: the provider does not know them."""

    def take(self, piece: FunctionCall, events: list[Event]) -> FunctionCall | None:
        """Return the whole call once its last piece is there, else None. A call without a name becomes `Unknown`."""
        call_id = piece.id or self._id_of(piece)
        call = self._waiting.pop(call_id, None)
        name = piece.name or (call.name if call is not None else "")
        if not name:
            events.append(Unknown(kind="a function call without a name"))
            return None
        args = {**(call.args if call is not None else {}), **piece.args}
        for part in piece.partial_args:
            _put(args, part)
        whole = msgspec.structs.replace(piece, id=call_id, name=name, args=args)
        if not piece.will_continue:
            return whole
        if len(self._waiting) >= MAX_PARTIAL:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[call_id] = whole
        return None

    def _id_of(self, piece: FunctionCall) -> str:
        """Return the id of the call that goes on, if it is one of these, else a new one."""
        for call_id, call in reversed(self._waiting.items()):
            if call_id in self.unnamed and piece.name in ("", call.name):
                return call_id
        if not piece.name and self._waiting:
            return next(reversed(self._waiting))
        self._numbers += 1
        call_id = f"unnamed_{self._numbers}"
        self.unnamed.add(call_id)
        return call_id


def _put(args: dict[str, Any], part: PartialArg) -> None:
    """Put a piece of an argument where its path says. A text is appended to the text that is there."""
    steps = [name or quoted or int(index) for name, index, quoted in _STEP.findall(part.json_path.removeprefix("$"))]
    place: Any = args
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int) != isinstance(place, list) or (isinstance(step, int) and step > MAX_INDEX):
            return  # a path through a value of another kind
        if isinstance(place, list):
            place.extend([None] * (step + 1 - len(place)))
        if following is None:
            before = place[step] if isinstance(place, list) or step in place else None
            joins = isinstance(before, str) and isinstance(part.value, str)
            place[step] = f"{before}{part.value}" if joins else part.value
            return
        if (isinstance(place, dict) and step not in place) or place[step] is None:
            place[step] = [] if isinstance(following, int) else {}
        place = place[step]
