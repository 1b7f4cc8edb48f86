"""`StreamedCalls`: puts the tool calls of a streamed answer together, from pieces as servers cut them."""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import ServiceError
from ...frames.text import from_json
from .chat_wire import CallDelta, FunctionDelta

MAX_ARGUMENTS = 2**20
"""The most characters of the arguments of one answer."""
MAX_STREAMED_CALLS = 128
"""The most calls of one answer."""


class StreamedCall:
    """One call, as far as it has come."""

    def __init__(self, index: int | None, id: str) -> None:
        self.index, self.id = index, id
        self.name = ""
        self.arguments = ""
        self.extra: dict[str, Any] = {}

    def parsed(self) -> dict[str, Any]:
        """Return the arguments. Raises ServiceError if they are not a JSON object."""
        if not self.arguments.strip():
            return {}
        try:
            found = from_json(self.arguments)
        except msgspec.DecodeError as error:
            raise ServiceError(f"the arguments for the tool {self.name!r} are not JSON: {error}") from error
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise ServiceError(f"the arguments for the tool {self.name!r} are {type(found).__name__}, not an object")
        return found


class StreamedCalls:
    """The calls of one answer.

    A piece belongs to the call of its index or id, else to the latest one. Servers that leave both out begin a call
    with its name; some repeat name and id in every piece, and some number all calls 0.
    """

    def __init__(self) -> None:
        self.calls: list[StreamedCall] = []
        self._size = 0

    def take(self, delta: CallDelta) -> None:
        """Take a piece. Raises ServiceError beyond a limit."""
        function = delta.function or FunctionDelta()
        call = self._of(delta, function)
        call.id = call.id or delta.id or ""
        if function.name and function.name != call.name:
            call.name += function.name
        if isinstance(function.arguments, str):
            call.arguments += function.arguments
            self._size += len(function.arguments)
        elif function.arguments is not None:
            call.arguments = msgspec.json.encode(function.arguments).decode()
        if delta.extra_content:
            call.extra = {**call.extra, "extra_content": delta.extra_content}
        if self._size > MAX_ARGUMENTS:
            raise ServiceError(f"the arguments of the model's tool calls are longer than {MAX_ARGUMENTS} characters")

    def _of(self, delta: CallDelta, function: FunctionDelta) -> StreamedCall:
        """Return the call to which a piece belongs, a new one if it begins one."""
        known = [call for call in self.calls if delta.index is None or call.index == delta.index]
        if delta.id:
            same = [call for call in known if call.id == delta.id]
            known = same or [call for call in known if not call.id]
        elif delta.index is None and function.name and known and _complete(known[-1]):
            known = []
        if known:
            return known[-1]
        if len(self.calls) >= MAX_STREAMED_CALLS:
            raise ServiceError(f"the model makes more than {MAX_STREAMED_CALLS} tool calls at once")
        call = StreamedCall(delta.index, delta.id or "")
        self.calls.append(call)
        return call


def _complete(call: StreamedCall) -> bool:
    """Return True if the arguments are whole."""
    try:
        from_json(call.arguments or "{}")
    except msgspec.DecodeError:
        return False
    return bool(call.name)
