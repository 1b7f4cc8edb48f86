"""`Recording`: the boundary of a call that is recorded for a replay. It notes all that enters, at its place in time.

A place is the loop's time and, on a loop that counts them (the virtual clock does), the number of steps that the
session has made at this time: a replay lets everything in between the same two steps.
"""

from __future__ import annotations

import asyncio
import inspect
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import asdict, is_dataclass
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar, cast

import msgspec

from ..errors import DuologueError, error_text
from ..frames import BotAudio, Frame
from ..processors.kernel.groups import leaves
from ..session.boundary import AnswerHead, as_code_of, entering_methods, inside
from ..session.call_trace import CallTrace
from ..session.session import Session
from .records import encode_part

T = TypeVar("T")

Message = str | bytes

PACKAGE = __name__.partition(".")[0] + "."
BLOCK_S = 0.5
"""Seconds of the caller's audio in a record, unless something else enters before."""
STATE = ("playout.", "tools of ")
"""Begins the names of what is looked at again and again."""
MAX_PIECES = 100
"""Pieces of the caller's audio in a record."""


class Steps:
    """Counts the steps that the session makes at one time of the loop, if the loop counts them.

    A step is a callback, or a task that goes on, in the session's context; and a return from outside: nobody counts the
    steps outside, which are others in a replay.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._now = loop.time
        self._at = -1.0
        self._count = 0
        count: Callable[..., None] | None = getattr(loop, "count_steps", None)
        self.counted = count is not None
        if count is not None:
            count(count_step, tell_instant)

    def step(self) -> None:
        """Count one step."""
        now = self._now()
        if now != self._at:
            self._at, self._count = now, 0
        self._count += 1

    @property
    def here(self) -> int:
        """The steps at the present time."""
        return self._count if self._now() == self._at else 0


def count_step(context: Context) -> None:
    """Count a step of the session in whose context a callback of the loop runs."""
    boundary = context.get(inside)
    if boundary is not None:
        boundary.steps.step()  # type: ignore[attr-defined]


def tell_instant(timers: Sequence[tuple[float, Context]]) -> None:
    """Tell the sessions with timers that are due together their latest time, which may be that of another timer."""
    latest: dict[Any, float] = {}
    for when, context in timers:
        if (boundary := context.get(inside)) is not None:
            latest[boundary] = max(when, latest.get(boundary, when))
    for boundary, when in latest.items():
        boundary.fire(when)


class Recording:
    """Notes what enters a session in its trace."""

    replays = False

    def __init__(self, trace: CallTrace, session: Session[Any]) -> None:
        self._trace = trace
        self._session = session
        self._loop = asyncio.get_running_loop()
        self.steps = Steps(self._loop)
        self._asked: Counter[str] = Counter()
        self._found: dict[str, Any] = {}
        self._audio = _Pieces()
        self._time = self._loop.time
        self._consent = session.audio.consent

    def begin(self) -> None:
        """Note the calls of the session's methods that come from outside."""
        control_entries(self, self._session)

    def note(self, kind: str, name: str, data: dict[str, Any]) -> None:
        """Note something that enters now."""
        self.flush()
        self._trace.note(kind, self._place() | data, source=name)

    def time(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def fire(self, when: float) -> None:
        """Note the time if it is not that of the session's latest timer: less than a nanosecond later."""
        if when != self._loop.time():
            self.note("input", "instant", {})

    def _place(self) -> dict[str, Any]:
        place: dict[str, Any] = {"t": self._time()}
        if self.steps.counted:
            place["n"] = self.steps.here
        return place

    def number(self, name: str) -> int:
        """Return the number of the next question with this name."""
        self._asked[name] += 1
        return self._asked[name]

    # -- the caller and the application ----------------------------------------------------------------------------

    def enter(self, name: str, values: tuple[Any, ...], run: Callable[[], T], **named: Any) -> T:
        """Let something in that comes from outside."""
        if name == "audio":
            self._hear(*values)
        else:
            data: dict[str, Any] = {"values": list(map(plain_value, values))}
            if named:
                data["named"] = {key: plain_value(value) for key, value in named.items()}
            self.note("input", name, data)
        before = inside.set(self)
        try:
            result = run()
        finally:
            inside.reset(before)
        if inspect.iscoroutine(result):
            return self._later(result)  # type: ignore[return-value]
        return result

    async def _later(self, work: Awaitable[T]) -> T:
        with as_code_of(self):
            return await work

    def _hear(self, pcm: bytes, sample_rate: int) -> None:
        now, kept, audio = self._time(), pcm, self._audio
        if not self._consent.given or self._consent.since:
            began_at = self._session.now() - len(pcm) / 2 / sample_rate
            kept, _ = self._consent.kept(pcm, sample_rate, began_at)
        if sample_rate != audio.rate or now - audio.began > BLOCK_S or len(audio.places) >= MAX_PIECES:
            self.flush()
            audio = self._audio
            audio.rate, audio.began = sample_rate, now
        audio.places.append((now, self.steps.here if self.steps.counted else None, len(pcm), len(kept)))
        audio.pcm.append(kept)

    def flush(self) -> None:
        """Note the caller's audio that was gathered."""
        audio = self._audio
        if audio.places:
            pcm = b64encode(b"".join(audio.pcm)).decode()
            data = {"t": audio.places[0][0], "rate": audio.rate, "pieces": audio.places, "pcm": pcm}
            self._audio = _Pieces()
            self._trace.note("input", data, source="audio")

    # -- answers ---------------------------------------------------------------------------------------------------

    def observed(self, name: str, look: Callable[[], T]) -> T:
        """Return what is found outside, and note it."""
        with as_code_of(None):
            found = look()
        if not (name.startswith(STATE) and self._found.get(name, self) == found):  # a state is noted when it changes
            self._found[name] = found
            self.note("input", name, {"found": found})
        return found

    async def answer(self, kind: str, name: str, ask: Callable[[], Awaitable[Any]], about: Any = None) -> Any:
        """Return an answer from outside, and note it, or the error."""
        number = self.number(name)
        self.note(kind, name, {"k": number, "asked": True, "about": mark_of(about)})
        try:
            with as_code_of(None):
                result = await ask()
        except asyncio.CancelledError:
            self.note(kind, name, {"k": number, "cancelled": True})
            raise
        except BaseException as error:
            self.note(kind, name, {"k": number, "error": plain_error(error)})
            raise
        else:
            self.note(kind, name, {"k": number, "answer": plain_value(result)})
            return result
        finally:
            self.steps.step()

    async def dial(self, name: str, dial: Callable[[], Awaitable[Any]]) -> Any:
        """Return a wire whose messages are noted."""
        number, wire = await self._reach(name, dial, lambda wire: {"open": True})
        recorded = RecordedPushingWire if hasattr(wire, "listen") else RecordedWire
        return recorded(wire, self, name, number)

    async def head(self, name: str, send: Callable[[], Awaitable[AnswerHead]]) -> AnswerHead:
        """Return an answer over HTTP whose pieces are noted."""

        def facts(head: AnswerHead) -> dict[str, Any]:
            return {"status": head.status, "headers": list(map(list, head.headers))}

        number, head = await self._reach(name, send, facts)
        return RecordedHead(head, self, name, number)

    async def _reach(
        self, name: str, reach: Callable[[], Awaitable[T]], facts: Callable[[T], dict[str, Any]]
    ) -> tuple[int, T]:
        """Reach a provider, and note the outcome: the `facts` of what it gives, or the error. Returns its number."""
        number = self.number(name)
        self.note("wire", name, {"k": number, "asked": True})
        try:
            with as_code_of(None):
                reached = await reach()
        except asyncio.CancelledError:
            self.note("wire", name, {"k": number, "cancelled": True})
            raise
        except BaseException as error:
            self.note("wire", name, {"k": number, "refused": plain_error(error)})
            raise
        else:
            self.note("wire", name, {"k": number, **facts(reached)})
            return number, reached
        finally:
            self.steps.step()


def control_entries(boundary: Any, session: Session[Any]) -> dict[str, Any]:
    """Let the boundary see the calls by which the application acts on a session. Returns what it calls, by names."""
    found: dict[str, Any] = {}
    for prefix, part in ("", session), ("conversation.", session.conversation):
        for name in entering_methods(type(part)):
            found[prefix + name] = getattr(part, name)
            setattr(part, name, EnteringMethod(boundary, prefix + name, found[prefix + name]))
    found |= {"playback": session.playback, "consent": session.audio.consent}
    for name in ("playback", "consent"):
        found |= {f"{name}.{each}": getattr(found[name], each) for each in entering_methods(type(found[name]))}
    session.playback = cast(Any, Controls(boundary, session.playback, "playback"))
    session.audio.consent = cast(Any, Controls(boundary, session.audio.consent, "consent"))
    return found


class EnteringMethod:
    """A method that the boundary sees when it is called from outside."""

    __slots__ = ("_boundary", "_method", "_name")

    def __init__(self, boundary: Any, name: str, method: Callable[..., Any]) -> None:
        self._boundary, self._name, self._method = boundary, name, method

    def __call__(self, *values: Any, **named: Any) -> Any:
        if inside.get() is self._boundary:
            return self._method(*values, **named)
        return self._boundary.enter(self._name, values, partial(self._method, *values, **named), **named)


class Controls:
    """An object with slots, whose methods and settings the boundary sees when they are used from outside."""

    def __init__(self, boundary: Any, controls: Any, name: str) -> None:
        entries = entering_methods(type(controls))
        made = {each: EnteringMethod(boundary, f"{name}.{each}", getattr(controls, each)) for each in entries}
        self.__dict__.update(made, _controls=controls, _boundary=boundary, _name=name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controls, name)

    def __setattr__(self, name: str, value: Any) -> None:
        change = partial(setattr, self._controls, name, value)
        if inside.get() is self._boundary:
            change()
        else:
            self._boundary.enter(f"{self._name}.{name}=", (value,), change)


def recorded_facts(session: Session[Any]) -> dict[str, Any]:
    """Return what a replay must know before it begins: the clock, and the way in which the far end plays."""
    facts: dict[str, Any] = {"clock": {"began": session.host.life.began}}
    for leaf in leaves(session.pipeline):
        settings = getattr(leaf, "settings", None)
        if BotAudio in leaf.follows and leaf.far_end and is_dataclass(settings) and not isinstance(settings, type):
            rate = getattr(leaf, "sample_rate", 0)
            facts["playout"] = {"sample_rate": rate, "settings": asdict(settings)}
    return facts


class _Pieces:
    """The caller's audio that is not noted yet."""

    __slots__ = ("began", "pcm", "places", "rate")

    def __init__(self) -> None:
        self.rate, self.began = 0, 0.0
        self.places: list[tuple[float, int | None, int, int]] = []
        self.pcm: list[bytes] = []


class RecordedWire:
    """Notes the messages of a wire, and its errors."""

    def __init__(self, wire: Any, recording: Recording, name: str, number: int) -> None:
        self._wire, self._recording, self._name, self._number = wire, recording, name, number
        self._messages = 0
        self._sent, self._sent_at = 0, 0.0  # messages other than audio, and the loop time of the latest
        self._untaken: Message | None = None
        self._pings = 0

    def _note(self, **data: Any) -> None:
        self._recording.note("wire", self._name, {"k": self._number, "sent": [self._sent, self._sent_at], **data})

    @property
    def ready(self) -> bool:
        """True while `send` takes a message at once."""
        ready: bool = self._wire.ready
        return ready

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message."""
        self._messages += 1
        if is_request(message):
            self._sent, self._sent_at = self._sent + 1, self._recording.time()
        try:
            with as_code_of(None):
                sent: Awaitable[None] = self._wire.send(message)
        except Exception as error:
            self._note(refused=self._messages, error=plain_error(error))
            raise
        if not inspect.iscoroutine(sent):
            return sent
        self._note(slow=self._messages)
        return self._send_on(sent)

    async def _send_on(self, sent: Awaitable[None]) -> None:
        number = self._messages
        try:
            with as_code_of(None):
                await sent
        except Exception as error:
            self._note(written=number, error=plain_error(error))
            raise
        else:
            self._note(written=number)
        finally:
            self._recording.steps.step()

    async def receive(self) -> Message:
        """Return the next message."""
        try:
            with as_code_of(None):
                message: Message = await self._wire.receive()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._note(lost=plain_error(error))
            raise
        else:
            untaken, self._untaken = self._untaken, None
            if untaken is None or message != untaken:
                self._note(**plain_message(message))
            return message
        finally:
            self._recording.steps.step()

    async def ping(self) -> None:
        """Return once the far end has answered a ping."""
        self._pings += 1
        number = self._pings
        self._note(ping=number)
        try:
            with as_code_of(None):
                await self._wire.ping()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._note(pong=number, error=plain_error(error))
            raise
        else:
            self._note(pong=number)
        finally:
            self._recording.steps.step()

    async def close(self) -> None:
        """End the connection."""
        try:
            with as_code_of(None):
                await self._wire.close()
        finally:
            self._note(closed=True)
            self._recording.steps.step()


class RecordedPushingWire(RecordedWire):
    """Notes the messages of a wire that gives messages away as they arrive."""

    def listen(self, take: Callable[[Message], bool]) -> None:
        """Offer messages to `take`."""

        def noted(message: Message) -> bool:
            self._note(**plain_message(message), pushed=True)
            with as_code_of(self._recording):
                taken = take(message)
            if not taken:
                self._untaken = message
            return taken

        self._wire.listen(noted)


class RecordedHead:
    """Notes the pieces of an answer over HTTP."""

    def __init__(self, head: AnswerHead, recording: Recording, name: str, number: int) -> None:
        self._head, self._recording, self._name, self._number = head, recording, name, number
        self.status, self.headers = head.status, head.headers

    def _note(self, **data: Any) -> None:
        self._recording.note("wire", self._name, {"k": self._number, **data})

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the body."""
        pieces = aiter(self._head.body())
        while True:
            try:
                with as_code_of(None):
                    piece = await anext(pieces, None)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self._note(lost=plain_error(error))
                raise
            else:
                self._note(**({"end": True} if piece is None else plain_message(piece)))
            finally:
                self._recording.steps.step()
            if piece is None:
                return
            yield piece

    async def close(self) -> None:
        """Read no more of it."""
        try:
            with as_code_of(None):
                await self._head.close()
        finally:
            self._recording.steps.step()


def is_request(message: Message) -> bool:
    """Return False for a message of audio, which comes at any rate and is never answered by itself."""
    if not isinstance(message, str):
        return False
    return '"audio' not in message[:200] and "realtime" not in message[:40]


def mark_of(about: Any) -> str:
    """Return a short mark of what is asked: the same question has the same."""
    if about is None:
        return ""
    return sha256(encode_part(plain_value(about))).hexdigest()[:16]


def plain_value(value: Any) -> Any:
    """Return a value as plain data from which a replay can make it again."""
    if isinstance(value, Frame):
        return {"$frame": msgspec.to_builtins(value)}
    if isinstance(value, bytes):
        return {"$bytes": b64encode(value).decode()}
    if isinstance(value, BaseException):
        return {"$error": plain_error(value)}
    if isinstance(value, msgspec.Struct) and type(value).__module__.startswith(PACKAGE):
        fields = {name: plain_value(getattr(value, name)) for name in value.__struct_fields__}
        return {"$struct": f"{type(value).__module__}:{type(value).__qualname__}", "fields": fields}
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    if isinstance(value, dict):
        return {name: plain_value(each) for name, each in value.items()}
    return value


def plain_message(message: Message) -> dict[str, Any]:
    """Return a message of a wire as plain data."""
    if isinstance(message, str):
        return {"text": message}
    try:
        return {"utf8": bytes(message).decode()}
    except UnicodeDecodeError:
        return {"bytes": b64encode(message).decode()}


def plain_error(error: BaseException) -> dict[str, Any]:
    """Return an error as plain data."""
    plain: dict[str, Any] = {"type": type(error).__name__, "message": error_text(error)}
    if isinstance(error, DuologueError):
        for name in ("code", "fatal", "retry_after_s"):
            if value := getattr(error, name, None):
                plain[name] = value
    return plain
