"""Hooks: an application's functions that may change or block a frame before anything follows from it."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from ..errors import CONTAINED, ConfigurationError, DeadlineExceeded, DuologueError, contained, error_text
from ..frames import BotText, Signal, ToolCall, ToolCalled, ToolResult, Transcribed, UserTranscript
from ..processors.kernel.tasks import Kept, stopped
from .boundary import call_outside, inside
from .conversation import Conversation
from .host import Report
from .tool_calls import call_refused

HOOK_TIMEOUT_S = 2.0
"""Seconds that one call of a hook may take. A hook that takes longer has failed."""


_INTERCEPTED = (UserTranscript, BotText, ToolCall)


@dataclass(frozen=True, slots=True, eq=False)
class _Hook:
    function: Callable[[Any], Any]
    timeout_s: float


class Hooks:
    """The hooks of a session, called one after the other. `Session.intercept` says what they may do.

    `start` runs a coroutine under a name, in a task of the session. A hook that is late is cancelled twice within
    `stop_s` seconds, then left behind.
    """

    def __init__(
        self,
        report: Report,
        broadcast: Callable[[Signal], None],
        conversation: Conversation,
        start: Callable[[str, Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        stop_s: float,
    ) -> None:
        self._start = start
        self._stop_s = stop_s
        self._report = report
        self._broadcast = broadcast
        self._conversation = conversation
        self._hooks: dict[type, list[_Hook]] = {}

    def add(self, frame_type: type, function: Callable[[Any], Any], timeout_s: float) -> Callable[[], None]:
        """Add a hook. Returns a function that removes it.

        Raises ConfigurationError for a frame type that cannot be intercepted, for a hook that cannot be called,
        and for an invalid limit.
        """
        if frame_type not in _INTERCEPTED:
            raise ConfigurationError(f"{frame_type!r} cannot be intercepted: UserTranscript, BotText and ToolCall can")
        if not callable(function):
            raise ConfigurationError(f"{function!r} cannot be a hook: it cannot be called")
        if timeout_s <= 0:
            raise ConfigurationError(f"a hook's timeout_s must be positive, not {timeout_s}")
        hooks, hook = self._hooks.setdefault(frame_type, []), _Hook(function, timeout_s)
        hooks.append(hook)

        def stop() -> None:
            if hook in hooks:
                hooks.remove(hook)

        return stop

    def has(self, frame_type: type) -> bool:
        """Return True if there is a hook for frames of this type."""
        return bool(self._hooks.get(frame_type))

    async def sentence(self, frame: BotText) -> BotText | None:
        """Return the sentence to speak, or None if it is blocked.

        The hooks get the sentence without the space around it, which is kept. If a hook fails, the sentence is not
        spoken, since it was not checked.
        """
        text = frame.text.strip()
        for hook in tuple(self._hooks.get(BotText, ())):
            try:
                answer = await self._ask(hook, msgspec.structs.replace(frame, text=text), BotText)
            except CONTAINED as error:
                self._report(contained(error), "hook", frame)
                return None
            if answer is None:
                return None
            text = answer.text
        return msgspec.structs.replace(frame, text=frame.text.replace(frame.text.strip(), text.strip(), 1))

    async def transcript(self, frame: UserTranscript) -> UserTranscript | None:
        """Return the transcript to use, or None if it is blocked, and broadcast it as `Transcribed`.

        If a hook fails, the transcript passes unchanged: the caller must not be left without an answer.
        """
        for hook in tuple(self._hooks.get(UserTranscript, ())):
            try:
                answer = await self._ask(hook, frame, UserTranscript)
            except CONTAINED as error:
                self._report(contained(error), "hook", frame)
                continue
            if answer is None:
                if frame.final:  # listeners withdraw the interim words that they have shown
                    self._broadcast(msgspec.structs.replace(_transcribed(frame), text=""))
                return None
            place = {name: getattr(frame, name) for name in ("final", "start_s", "end_s", "utterance")}
            frame = msgspec.structs.replace(answer, **place)
        self._broadcast(_transcribed(frame))
        return frame

    async def call(self, call: ToolCall) -> ToolCall | ToolResult:
        """Return the call to run, or the result that replaces it.

        If a hook fails, the call is refused, since it was not checked.
        """
        asked = call.arguments
        for hook in tuple(self._hooks.get(ToolCall, ())):
            try:
                # A copy: the log has these arguments, whatever a hook writes into its own.
                shown = msgspec.structs.replace(call, arguments=copy.deepcopy(call.arguments))
                answer = await self._ask(hook, shown, ToolCall, ToolResult)
                if isinstance(answer, ToolCall) and answer.name != call.name:
                    raise ConfigurationError(f"a hook made {answer.name!r} of a call of {call.name!r}")
                if isinstance(answer, ToolResult):
                    plain = msgspec.to_builtins(answer.result, str_keys=True)
                    replaced = {"call_id": call.call_id, "name": call.name, "turn": call.turn, "result": plain}
                    return msgspec.structs.replace(answer, **replaced)
                if answer is None:
                    return call_refused(call, "refused: this is not allowed")
                call = msgspec.structs.replace(call, arguments=answer.arguments)
            except CONTAINED as error:
                self._report(contained(error), "hook", call)
                return call_refused(call, f"refused: {error_text(error)}")
        if call.arguments != asked:
            self._log_changed(call)
        self._broadcast(ToolCalled(call_id=call.call_id, name=call.name, arguments=call.arguments, turn=call.turn))
        return call

    def _log_changed(self, call: ToolCall) -> None:
        logged = self._conversation.calls.get(call.call_id)
        if logged is not None and logged.item_id:
            self._conversation.update(logged.item_id, data=call.arguments)

    async def _ask(self, hook: _Hook, frame: UserTranscript | BotText | ToolCall, *expected: type) -> Any:
        kind = type(frame).__name__
        boundary = inside.get()
        if boundary is None:
            answer = hook.function(frame)
        else:
            ask = partial(call_outside, hook.function, frame)
            answer = boundary.answer("hook", f"hook on {kind}", ask, _question(frame))
        if inspect.isawaitable(answer):
            answer = await self._within(hook, answer, kind)
        if answer is not None and not isinstance(answer, expected):
            raise ConfigurationError(f"a hook on {kind} returned {type(answer).__name__}")
        return answer

    async def _within(self, hook: _Hook, answer: Awaitable[Any], kind: str) -> Any:
        """Return what a hook answers in time. Raises DeadlineExceeded otherwise."""
        task = self._start(f"hook on {kind}", Kept(_answered(answer)))
        try:
            await asyncio.wait({task}, timeout=hook.timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            if task.cancelled():
                raise DuologueError(f"a hook on {kind}: it awaited something that was cancelled")
            return task.result()
        self._start(f"hook on {kind}", self._stop(task, kind))
        raise DeadlineExceeded(f"a hook on {kind} took longer than {hook.timeout_s:g} s")

    async def _stop(self, task: asyncio.Task[Any], kind: str) -> None:
        if not await stopped(task, self._stop_s):
            error = DeadlineExceeded(f"a hook on {kind} ignored its cancellation for {self._stop_s:g} s: left behind")
            self._report(error, "hook")


async def _answered(answer: Awaitable[Any]) -> Any:
    return await answer


def _question(frame: UserTranscript | BotText | ToolCall) -> list[Any]:
    """Return what a hook is asked about, without times and ids."""
    if isinstance(frame, ToolCall):
        return [frame.name, frame.arguments]
    return [frame.text, isinstance(frame, UserTranscript) and frame.final]


def _transcribed(frame: UserTranscript) -> Transcribed:
    return Transcribed(
        text=frame.text,
        final=frame.final,
        start_s=frame.start_s,
        end_s=frame.end_s,
        utterance=frame.utterance,
        language=frame.language,
    )
