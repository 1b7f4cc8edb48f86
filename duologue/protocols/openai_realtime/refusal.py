"""`Refusal`: a client's event cannot be carried out."""

from __future__ import annotations

from ...errors import BadInput


class Refusal(BadInput):
    """A client's event cannot be carried out. `code` and `param` are those of the `error` event."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
