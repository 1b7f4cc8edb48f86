"""`Words`: the messages of one protocol that a transport sends by itself."""

from __future__ import annotations

from typing import Any

Message = dict[str, Any]
"""A JSON object, to or from a client."""


class Words:
    """The messages that a transport sends by itself, in one protocol. No method does any I/O.

    The base has no words: None is not sent.
    """

    def error(self, text: str) -> Message | None:
        """The client did something wrong, or something failed."""
        return None

    def end(self, reason: str) -> Message | None:
        """The call is over."""
        return None

    def owns(self, message: Message) -> bool:
        """Returns True for a message of this protocol, on a channel that also carries others."""
        return False


def byte_size(data: str | bytes) -> int:
    """The size of a message in bytes; text counts as UTF-8."""
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode(errors="surrogatepass"))
