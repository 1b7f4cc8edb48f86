"""`EventSplitter`: server-sent events, out of bytes that are cut anywhere."""

from __future__ import annotations

from ...errors import BadInput

MAX_EVENT_BYTES = 16 * 2**20
"""The largest event. Beyond it the stream has failed."""


class EventSplitter:
    """Takes the bytes of a stream, and gives the data of its events (the HTML standard, 9.2.6).

    The names of events are not read: the vendors repeat them in the data.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that are complete now. Raises BadInput for an event that is too large."""
        held = self._rest + data if self._rest else data
        last = held[-1:]
        if b"\r" in held:
            # A carriage return at the end may be the first half of a line's end.
            held = held[: len(held) - (last == b"\r")].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = held.split(b"\n")
        self._rest = rest + b"\r" if last == b"\r" else rest
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise BadInput(f"an event is larger than {MAX_EVENT_BYTES} bytes")
        events: list[bytes] = []
        for line in lines:
            if not line:
                events += self._end()
            elif line.startswith(b"data:"):
                self._add(line[6:] if line[5:6] == b" " else line[5:])
        return events

    def flush(self) -> list[bytes]:
        """End the stream. Returns an event that only lacked the empty line behind it."""
        if self._rest.startswith(b"data:"):
            self.feed(b"\n")
        return self._end()

    def _add(self, data: bytes) -> None:
        self._data.append(data)
        self._size += len(data)
        if self._size > MAX_EVENT_BYTES:
            raise BadInput(f"an event is larger than {MAX_EVENT_BYTES} bytes")

    def _end(self) -> list[bytes]:
        data, self._data, self._size = self._data, [], 0
        return [b"\n".join(data)] if data else []
