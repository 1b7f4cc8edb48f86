"""`Trace`: the flight recorder of one call."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from ..errors import ConfigurationError
from ..processors.kernel.threads import TRACES, PoolFull
from ..session.boundary import Boundary, as_code_of
from ..session.life import Outcome
from ..session.session import Session
from .audio import AudioNotes
from .chain import HashChain
from .following import Follower, begin_facts, end_facts
from .keys import Signer
from .opening import open_store
from .recording import Recording, recorded_facts
from .records import PRIVATE, encode_part, own_kind, safe_name
from .secrets import without_secrets
from .store import Store, name_of_call
from .writer import Waiting, Writer

log = logging.getLogger("duologue")

CHECK_RECORDS = 1_000
CHECK_BYTES = 4 * 1024 * 1024
"""Records, and their bytes, after which a virtual clock waits for the thread that writes."""
FLUSH_S = 10.0
"""The longest wait of `Trace.flush`, in seconds."""
CLOSE_S = 60.0
"""The longest wait for a store at the end, in seconds: `Deadlines.farewell_s` ends it earlier."""
LEASE_S = 10.0
"""Seconds for which a trace is held in its store: a call whose process was killed can be taken up after them."""
MAX_LEASE_S = 86_400.0
Audio = Literal["none", "caller", "both"]


class Trace:
    """Writes what happens in one call to a store, while it happens: `Session(pipeline, trace=Trace("calls"))`.

    `store` is a `Store`, a folder or an address: see `open_store`. `audio` says whose audio is in it: "none", "caller",
    or "both", which adds the agent's as it was heard; True means "both". With `replay`, all that enters the call is in
    it, the caller's audio included: `duologue replay` runs the call again. A text is the function that makes the
    session, as module:function. Without `words`, everything private is left out: what was said, tools' arguments and
    results, the providers' messages, audio. Without `handles`, the providers' handles for resuming are left out. `sign`
    is the file of a private key: the trace is sealed with it every 10 s of the call, and at its end.

    While the call goes on, the trace is held in the store, each time for `lease_s` seconds: nobody takes a call up that
    another process still has.

    A record is written at most 0.1 s after it was made. If the store fails, the call goes on, one error is reported,
    and the store is tried again every second.

    Raises ConfigurationError for options that contradict each other, and BadKey for a key that cannot be used.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        *,
        audio: bool | Audio = False,
        words: bool = True,
        handles: bool = True,
        replay: bool | str = False,
        sign: str | os.PathLike[str] | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        if not (isinstance(lease_s, int | float) and 0 < lease_s <= MAX_LEASE_S):
            raise ConfigurationError(f"lease_s is {lease_s!r}: it lies between 0 and {MAX_LEASE_S:g}")
        for name, option in (("words", words), ("handles", handles)):
            if not isinstance(option, bool):
                raise ConfigurationError(f"{name} is {option!r}, not True or False")
        if not isinstance(store, Store | str | os.PathLike):
            raise ConfigurationError(f"the store of a trace is a folder, an address or a Store, not {store!r}")
        self.store: Store = store if isinstance(store, Store) else open_store(store)
        self.call = ""
        """The name of the call in the store; "" before it begins."""
        self._whose: Audio = ("both" if audio else "none") if isinstance(audio, bool) else audio
        if self._whose not in ("none", "caller", "both"):
            raise ConfigurationError(f"audio is none, caller or both, not {audio!r}")
        self.audio = self._whose != "none"
        """True if the caller's audio is in it."""
        if self.audio and not words:
            raise ConfigurationError("a trace without words has no audio: audio has the words")
        if not isinstance(replay, bool) and not (isinstance(replay, str) and ":" in replay):
            raise ConfigurationError(f"replay is {replay!r}: it is True, False or module:function")
        if replay and not words:
            raise ConfigurationError("a trace without words cannot be replayed: all that enters a call is private")
        self.replay = replay
        self.boundary: Boundary | None = None
        """Notes all that enters the call, if it can be replayed."""
        self._recording: Recording | None = None
        self.words = words
        self.handles = handles
        self._signer = Signer(sign) if sign is not None else None
        self.lease_s = lease_s
        """Seconds for which the trace is held each time."""
        self._now: Callable[[], float] = lambda: 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: Writer | None = None
        self._session: Session[Any] | None = None
        self._follower: Follower | None = None
        self._mark = ""
        self._sides: list[AudioNotes] = []
        self._unchecked = self._unchecked_bytes = 0

    def __repr__(self) -> str:
        return f"Trace({self.store!r})"

    def begin(self, session: Session[Any]) -> None:
        """Begin with a session that starts to run. Raises ConfigurationError if this trace has had a call."""
        self.name(session)
        self._loop, self._now = asyncio.get_running_loop(), session.now
        signed = self._signer is not None
        options: dict[str, Any] = {"words": self.words, "audio": self._whose, "handles": self.handles, "signed": signed}
        if self.replay:
            options["replay"] = True
            self.boundary = self._recording = Recording(self, session)
        consent = session.audio.consent
        if consent.needed != "nothing":
            options["consent"] = {"to": consent.needed, "given": consent.given}
        began, resumed = begin_facts(session, options), session.resumed
        if self._recording is not None:
            began |= recorded_facts(session)
            if isinstance(self.replay, str):
                began["made_by"] = self.replay
        if resumed is not None and resumed.call:
            carried = {"usage": tuple(session.usage), "usd": session.cost.usd}
            began["resumes"] = {"call": resumed.call, "session_id": resumed.session_id, **carried}
        goes_on, chain = resumed.call if resumed is not None else "", HashChain(self._mark)
        self._writer = Writer(self.store, self.call, chain, self._failed, self._signer, self.lease_s, goes_on)
        self._writer.put(Waiting(self._now(), "begin", "", encode_part(began), b""))
        self._follower = Follower(self, session, handles=self.handles)
        if self._recording is not None:
            self._recording.begin()
        if self.audio:
            self._sides.append(caller := AudioNotes(self, "caller", session.audio.consent))
            session.audio.said.add(caller.hear)
        if self._whose == "both":
            self._sides.append(agent := AudioNotes(self, "agent", session.audio.consent))
            session.audio.played.add(agent.hear)

    def name(self, session: Session[Any]) -> str:
        """Give the call its name in the store, and return it.

        Raises ConfigurationError if this trace has had a call.
        """
        if self._session is not session:
            if self._session is not None:
                raise ConfigurationError("a trace is of one call: give each session a `Trace` of its own")
            self._session, self._mark = session, secrets.token_hex(8)
            began = session.started_at.isoformat() if session.started_at is not None else ""
            self.call = name_of_call(session.id, began, self._mark)
        return self.call

    def _failed(self, error: Exception) -> None:
        """Report that the store has failed. Called in the thread that writes."""
        loop, session = self._loop, self._session
        assert loop is not None
        assert session is not None
        log.error("session %s: %s", session.id, error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(session.report, error, "Trace")

    def note(self, kind: str, data: Any = None, *, source: str = "", words: Any = None) -> None:
        """Keep a record of now: at once, in the order of the calls, and from any thread. Never raises.

        `data` are the facts, `words` is private. For the kinds in `PRIVATE`, all data are private.
        """
        writer = self._writer
        if writer is None:
            return
        kind, source = own_kind(kind), safe_name(source)
        kept = self.handles if kind == "handle" else self.words
        if kind in PRIVATE:
            if not kept:
                return
            data, words = None, data
        private = encode_part(words) if kept else b""
        if kind == "wire":
            private = without_secrets(private, handles=self.handles)
        record = Waiting(self._now(), kind, source, encode_part(data), private)
        writer.put(record)
        self._unchecked += 1
        self._unchecked_bytes += len(record.data) + len(record.words)
        if self._unchecked >= CHECK_RECORDS or self._unchecked_bytes >= CHECK_BYTES:
            self._let_write(writer)

    def _let_write(self, writer: Writer) -> None:
        """Make a virtual clock stand still until the records are written. It could outrun the thread otherwise."""
        self._unchecked = self._unchecked_bytes = 0
        with suppress(Exception), as_code_of(None):  # in another thread, or at the end of the loop
            asyncio.get_running_loop().run_in_executor(TRACES, writer.flush().wait, FLUSH_S)

    async def flush(self, within_s: float = FLUSH_S) -> None:
        """Wait until the present records are with the store, at most `within_s` seconds, by default 10.

        Does nothing while the store fails.
        """
        if self._writer is not None:
            with suppress(PoolFull):
                await TRACES.run(self._writer.flush().wait, within_s, label="flush")

    async def close(self, outcome: Outcome) -> None:
        """End with the outcome of the call, and wait until all is written. Does not raise."""
        writer, session = self._writer, self._session
        if writer is None or session is None or session.trace is not self:
            return
        for side in self._sides:
            side.flush()
        if self._follower is not None:
            self._follower.keep_data()
        if self._recording is not None:
            self._recording.flush()
        facts, words = end_facts(session, outcome)
        private = encode_part(words) if words and self.words else b""
        writer.end(Waiting(self._now(), "end", "", encode_part(facts), private))
        await TRACES.run(writer.done.wait, CLOSE_S, label="close")
        if writer.lost:
            log.error("session %s: %d records of the trace were not written", session.id, writer.lost)
