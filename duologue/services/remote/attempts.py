"""`Attempts`: tries to connect to a vendor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic

import anyio

from ...errors import ConfigurationError, DeadlineExceeded
from .connection import Config, Connection, ConnectionSettings, D, KeptService
from .errors import ConnectionLost, as_lost

LONGEST_BACKOFF_S = 8.0
"""The longest pause between two attempts, in seconds."""


class Attempts(Generic[Config, D]):
    """Tries to connect until an attempt succeeds, the vendor refuses for good, or time is up."""

    def __init__(
        self, service: KeptService[Config, D], settings: ConnectionSettings, failed: Callable[[Exception, int], None]
    ) -> None:
        self.made = 0
        """The number of connections that were set up."""
        self.made_with = service.config
        """The configuration of the latest attempt."""
        self.closed = False
        """True once no further connection is wanted."""
        self._service = service
        self._settings = settings
        self._failed = failed  # receives the error and the number of the next attempt

    async def connect(
        self, for_s: float, config: Config | None = None, *, first: bool = False
    ) -> tuple[Connection[D], bool]:
        """Try for `for_s` seconds to make a connection with `config`, by default the service's current one.

        Returns the connection, and True if it resumes a session. If the service's configuration changes meanwhile, the
        connection is made again, unless it is the `first` or `config` was given.
        """
        service, now = self._service, asyncio.get_running_loop().time
        until, pause_s, attempt = now() + for_s, self._settings.backoff_s, 1
        last: Exception | None = None
        refused = False
        while True:
            left_s = min(self._settings.connect_timeout_s, until - now())
            if left_s <= 0:
                raise last or DeadlineExceeded(f"{service.name}: no connection within {for_s:g} s")
            if attempt > 1 and last is not None:
                self._failed(last, attempt)
            handle = "" if refused else service.usable_handle()
            self.made_with = wanted = service.config if config is None else config
            try:
                with anyio.fail_after(left_s):
                    made = await service.connect(wanted, handle)
                self.made += 1
                if self.closed:
                    await made.close()
                    raise ConnectionLost("the engine has been closed", fatal=True)
                if config is not None or first or service.config == wanted:
                    return made, bool(handle)
                await made.close()  # the configuration was changed meanwhile
                continue
            except TimeoutError:
                last = DeadlineExceeded(f"{service.name}: the session was not set up in {left_s:g} s")
            except (ConfigurationError, ImportError):
                raise
            except Exception as error:
                last = as_lost(error)
                if last.fatal:
                    raise last from error
            if handle:  # a refused handle is not offered again
                refused = True
                continue
            wanted_s = (last.retry_after_s if isinstance(last, ConnectionLost) else None) or 0.0
            await anyio.sleep(min(max(pause_s, wanted_s), max(0.0, until - now())))
            pause_s = min(2 * pause_s, LONGEST_BACKOFF_S)
            attempt += 1
