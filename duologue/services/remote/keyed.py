"""`Keyed`: what services over a plain WebSocket have in common: a key, an address, options."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar
from urllib.parse import urlencode

from ...errors import ConfigurationError, check_installed
from .connection import ConnectionSettings
from .dialect import Wire
from .service import RemoteService
from .websocket import open_websocket


class HasModel(Protocol):
    """Options that name a model."""

    @property
    def model(self) -> str: ...


O = TypeVar("O", bound=HasModel)  # noqa: E741


def checked_key(vendor: str, api_key: str) -> str:
    """Return the key, by default that of the environment, as in DEEPGRAM_API_KEY for "Deepgram".

    Raises ConfigurationError without one, or for a malformed one.
    """
    variable = f"{vendor.upper()}_API_KEY"
    key = api_key or os.environ.get(variable, "")
    if not key.strip():
        raise ConfigurationError(f"{vendor} needs an API key: set {variable} or give api_key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(f"{variable} has characters that keys do not have (a space, a line's end?)")
    return key


class Keyed(RemoteService[Any], Generic[O]):
    """The first base of a service without an SDK. A vendor gives its name, its address and the type of its options.

    Raises ConfigurationError without a key or for an option that the vendor would refuse, MissingExtra without the
    extra `remote`.
    """

    extra = "remote"
    vendor: ClassVar[str]
    address: ClassVar[str]
    """The address of the API, which `base_url` replaces."""
    options_type: type[O]
    sample_rate: int
    """The sample rate of the audio in Hz: that of the options, if they have one."""

    def __init__(
        self,
        *,
        api_key: str = "",
        base_url: str = "",
        options: O | None = None,
        connection: ConnectionSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        check_installed(self.extra, "websockets")
        super().__init__(connection=connection)
        self.key = checked_key(self.vendor, api_key)
        self.options = options or self.options_type()
        self.model = self.options.model
        self.sample_rate = getattr(self.options, "sample_rate", self.sample_rate)
        self._base_url, self._ssl_context = (base_url or self.address).rstrip("/"), ssl_context

    async def open_path(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Wire:
        """Open a connection to a path of the API. Raises ConnectionLost."""
        address = f"{self._base_url}{path}?{urlencode(query)}"
        return await open_websocket(address, headers=headers, ssl_context=self._ssl_context, extra=self.extra)
