"""`Trace`: the flight recorder of one call."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import ConfigurationError
from ..session.life import Outcome
from ..session.session import Session
from .chain import HashChain
from .following import begin_facts, end_facts, follow_call
from .records import PRIVATE, encode_part
from .store import FolderStore, Store, name_of_call
from .writer import Waiting, Writer


class Trace:
    """Writes what happens in one call to a store, while it happens: `Session(pipeline, trace=Trace("calls"))`.

    `store` is a folder or a `Store`. With `audio`, the caller's audio is in it. Without `words`, everything private is
    left out: what was said, tools' arguments and results, the providers' messages. Without `handles`, the providers'
    handles for resuming are left out.

    A record is written at most 0.1 s after it was made. If the store fails, the call goes on, and one error is
    reported.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        *,
        audio: bool = False,
        words: bool = True,
        handles: bool = True,
    ) -> None:
        self.store: Store = store if isinstance(store, Store) else FolderStore(store)
        self.call = ""
        """The name of the call in the store; "" before it begins."""
        self.audio = audio
        self.words = words
        self.handles = handles
        self._now: Callable[[], float] = lambda: 0.0
        self._writer: Writer | None = None
        self._session: Session[Any] | None = None

    def __repr__(self) -> str:
        return f"Trace({self.store!r})"

    def begin(self, session: Session[Any]) -> None:
        """Begin with a session that starts to run. Raises ConfigurationError if this trace has had a call."""
        if self._writer is not None:
            raise ConfigurationError("a trace is of one call: give each session a `Trace` of its own")
        loop, mark = asyncio.get_running_loop(), secrets.token_hex(4)
        self._session, self._now = session, session.now
        began = begin_facts(session, {"words": self.words, "audio": self.audio, "handles": self.handles})
        self.call = name_of_call(session.id, began["started_at"], mark)

        def failed(error: Exception) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(session.report, error, "Trace")

        self._writer = Writer(self.store, self.call, HashChain(mark), failed)
        self.note("begin", began)
        follow_call(self, session, handles=self.handles)

    def note(self, kind: str, data: Any = None, *, source: str = "", words: Any = None) -> None:
        """Keep a record of now: at once, in the order of the calls, and from any thread. Never raises.

        `data` are the facts, `words` is private. For the kinds in `PRIVATE`, all data are private.
        """
        writer = self._writer
        if writer is None:
            return
        if kind in PRIVATE:
            data, words = None, data
        if not self.words:
            words = None
        writer.put(Waiting(round(self._now(), 6), kind, source, encode_part(data), encode_part(words)))

    async def flush(self) -> None:
        """Wait until all records that were made are with the store, or cannot be."""

    async def close(self, outcome: Outcome) -> None:
        """End with the outcome of the call, and wait until all is written. Does not raise."""
        writer, session = self._writer, self._session
        if writer is None or session is None:
            return
        self.note("end", end_facts(session, outcome))
        writer.end()
        await asyncio.get_running_loop().run_in_executor(None, writer.done.wait)
