"""Virtual time and a seeded scheduler for asyncio and anyio programs.

    clock.run(main)                  # ten minutes of sleeping in milliseconds, the same result each time
    clock.run(main, seed=7)          # the same, in another order of tasks that may occur in production
    clock.sweep(main, range(1000))   # many orders; a failure names its seed and the command that replays it

The promises of the loop:

* `loop.time()`, hence `anyio.current_time()`, moves only when nothing is ready, and then straight to the next timer.
* The clock stands still while a thread works. Results of `loop.run_in_executor` are delivered in the order of
  submission, each when the loop is otherwise idle: a run does not depend on the speed of a thread. Callbacks that
  threads post (`call_soon_threadsafe`, `anyio.to_thread`) also wait for an idle loop, one at a time, in the order of
  their arrival: with a single thread at work that is deterministic as well.
* Sockets are real. Both ends belong inside the program: time does not wait for a peer in another process.
* A program in which nothing can happen any more raises `Deadlock`, with the tasks and the lines where they wait.

`duologue.testing.schedule` describes the orders of tasks that a seed can produce.

The loop overrides private methods of asyncio (`_run_once`, the self-pipe), which are the same from Python 3.4 to 3.13.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import os
import selectors
import shlex
import socket
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import Context
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

import anyio

from ..errors import BadInput, DeadlineExceeded, DuologueError
from .schedule import Schedule, describe_all

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DEFAULT_LIMIT_S = 7200.0
"""Virtual seconds after which a run counts as endless: longer than the session limit of any provider."""

_WALL = datetime(2026, 1, 1, tzinfo=UTC)
_TURNS_LIMIT = 1_000_000  # turns of the loop at one instant: seconds of real time, far beyond any settling
_TURNS_PER_RESULT = 1_000  # a loop that is never idle still gets results of threads, each time at the same turn
_REAL_LIMIT_S = 60.0  # real seconds to wait for a thread or a socket
_STRANGER_S = 0.5  # real seconds to wait for a thread that the loop does not know


class Deadlock(DuologueError, RuntimeError):
    """Nothing can wake the program any more. The message names each waiting task and the line where it waits."""


class SeedFailed(DuologueError, AssertionError):
    """A property failed under one order of tasks. The message has the seed and the command that replays it.

    `seed` is the failing seed, `__cause__` the failure itself.
    """

    def __init__(self, message: str, seed: int) -> None:
        super().__init__(message)
        self.seed = seed


def run(
    async_fn: Callable[[Unpack[Ts]], Awaitable[T]],
    *args: *Ts,
    seed: int | None = None,
    start_s: float = 0.0,
    limit_s: float = DEFAULT_LIMIT_S,
    began_wall: datetime | None = None,
) -> T:
    """Run `async_fn(*args)` under virtual time. Returns its result; see `VirtualClockLoop` for the options."""
    factory = partial(VirtualClockLoop, seed=seed, start_s=start_s, limit_s=limit_s, began_wall=began_wall)
    return anyio.run(async_fn, *args, backend="asyncio", backend_options={"loop_factory": factory})


def sweep(async_fn: Callable[[], Awaitable[object]], seeds: Iterable[int], *, limit_s: float = DEFAULT_LIMIT_S) -> None:
    """Run `async_fn` once for each seed, and stop at the first failure, which becomes a `SeedFailed`.

    With DUOLOGUE_SEED in the environment only that seed runs.
    """
    __tracebackhide__ = True
    chosen = os.environ.get("DUOLOGUE_SEED")
    if chosen is not None and not chosen.isdecimal():
        raise BadInput(f"DUOLOGUE_SEED is {chosen!r}, which is not a seed")
    for seed in seeds if chosen is None else (int(chosen),):
        try:
            run(async_fn, seed=seed, limit_s=limit_s)
        except Exception as error:
            first: BaseException = error
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            message = f"seed {seed}; replay: {_replay_command(seed)}\n{type(first).__name__}: {first}"
            raise SeedFailed(message, seed) from error
        except BaseException as error:  # pytest's outcomes, an interrupt: these must keep their type
            error.add_note(f"seed {seed}; replay: {_replay_command(seed)}")
            raise


def _replay_command(seed: int) -> str:
    test_id = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    return f"DUOLOGUE_SEED={seed} " + shlex.join(["pytest", test_id] if test_id else sys.orig_argv)


if TYPE_CHECKING:

    class _SelectorLoop(asyncio.SelectorEventLoop):
        """asyncio's loop with the private members that its type stubs leave out."""

        _ready: deque[asyncio.Handle]
        _selector: selectors.BaseSelector
        _internal_fds: int
        _stopping: bool
        _thread_id: int | None
        _timer_cancelled_count: int
        _default_executor: Executor | None
        _executor_shutdown_called: bool

        def _check_closed(self) -> None: ...
        def _check_default_executor(self) -> None: ...
        def _process_events(self, events: list[tuple[selectors.SelectorKey, int]]) -> None: ...
        def _make_self_pipe(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        def _read_from_self(self) -> None: ...
        def _write_to_self(self) -> None: ...

else:
    _SelectorLoop = asyncio.SelectorEventLoop


class WatchedLoop(_SelectorLoop):
    """An event loop that recordings and replays of calls watch step by step."""

    _timers: list[tuple[int, float, int, asyncio.TimerHandle]]
    _count_step: Callable[[Context], None] | None = None
    _fired: Callable[[Sequence[tuple[float, Context]]], None] | None = None
    _stepped: Callable[[], object] | None = None
    _about_to_move: Callable[[], bool] | None = None

    def count_steps(
        self, count: Callable[[Context], None], fired: Callable[[Sequence[tuple[float, Context]]], None]
    ) -> None:
        """Call `count(context)` before each callback or step of a task, with the context in which it runs.

        `fired(timers)` is called with the times and the contexts of timers that are due together.
        """
        self._count_step, self._fired = count, fired

    def serve_between_steps(self, stepped: Callable[[], object], about_to_move: Callable[[], bool]) -> None:
        """Call `stepped()` after each callback or step of a task.

        `about_to_move()` is called when only time can bring something; it returns True if it has begun something.
        """
        self._stepped, self._about_to_move = stepped, about_to_move

    def call_first_at(self, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Call `callback` at a time, before all other timers of this time."""
        timer = asyncio.TimerHandle(when, callback, (), self, Context())
        heapq.heappush(self._timers, (round(when * 1e9), -1.0, 0, timer))
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def run_first(self, function: Callable[[], object]) -> None:
        """Call a function, and let what it makes ready run before everything that is ready now."""
        before = len(self._ready)
        function()
        self._ready.rotate(len(self._ready) - before)

    def _step(self, handle: asyncio.Handle, count: Callable[[Context], None]) -> None:
        count(handle._context)  # type: ignore[attr-defined]
        handle._run()
        if self._stepped is not None:
            self._stepped()


class VirtualClockLoop(WatchedLoop):
    """An event loop with virtual time; the module's docstring has its promises.

    `seed` shuffles the order of tasks (None: first in, first out). `start_s` is the first reading of the clock, and
    `began_wall` the time of day then. Raises
    `DeadlineExceeded` when the next timer lies more than `limit_s` seconds after the start.
    """

    _ssock: socket.socket | None = None  # both ends of the self-pipe, made when first needed
    _csock: socket.socket | None = None

    def __init__(
        self,
        *,
        seed: int | None = None,
        start_s: float = 0.0,
        limit_s: float = DEFAULT_LIMIT_S,
        began_wall: datetime | None = None,
    ) -> None:
        super().__init__()
        self._schedule = Schedule(seed)
        self._now_s = start_s
        self._limit_s = limit_s
        self._end_s = start_s + limit_s
        self._turns = 0
        self._timer_count = 0
        self._timers: list[tuple[int, float, int, asyncio.TimerHandle]] = []
        self._jobs: deque[tuple[Future[Any], asyncio.Future[Any], object]] = deque()
        self._posted: deque[asyncio.Handle] = deque()
        self._began_wall = began_wall - timedelta(seconds=start_s) if began_wall else _WALL

    def time(self) -> float:
        return self._now_s

    def wall_time(self) -> datetime:
        """Return the virtual time of day: the clock begins on 2026-01-01, or at `began_wall`."""
        return self._began_wall + timedelta(seconds=self._now_s)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        self._schedule.enrol(task)
        return task

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._check_closed()
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if when != math.inf:  # a timer at infinity never fires, and the loop does not wait for it
            self._timer_count += 1
            # in nanoseconds, so that 50 sleeps of 0.02 s end together with one of 1 s in spite of rounding
            due = (round(when * 1e9), self._schedule.tie(), self._timer_count, timer)
            heapq.heappush(self._timers, due)
            timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if self._thread_id in (None, threading.get_ident()):
            return super().call_soon_threadsafe(callback, *args, context=context)
        self._check_closed()
        handle = asyncio.Handle(callback, args, self, context)
        self._posted.append(handle)
        self._write_to_self()
        return handle

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        self._check_closed()
        if executor is None:
            self._check_default_executor()
            if self._default_executor is None:
                self._default_executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
            executor = self._default_executor
        job = executor.submit(func, *args)
        future: asyncio.Future[T] = self.create_future()
        # A cancelled job that runs already stops the clock until it ends, so that its effects have a definite time.
        future.add_done_callback(lambda done: done.cancelled() and job.cancel())
        self._jobs.append((job, future, func))
        job.add_done_callback(lambda _: self._write_to_self())
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        self._executor_shutdown_called = True
        if self._default_executor is not None:
            with ThreadPoolExecutor(1) as closer:
                await self.run_in_executor(closer, self._default_executor.shutdown)

    def close(self) -> None:
        super().close()
        self._timers.clear()
        self._jobs.clear()
        self._posted.clear()

    # The self-pipe serves only to wake the selector from a thread or a signal: most runs never need it.

    def _make_self_pipe(self) -> None:
        pass

    def _need_self_pipe(self) -> None:
        if self._ssock is None:
            super()._make_self_pipe()

    def _close_self_pipe(self) -> None:
        if self._ssock is not None:
            super()._close_self_pipe()

    def add_signal_handler(self, sig: int, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        self._need_self_pipe()
        super().add_signal_handler(sig, callback, *args)

    def _run_once(self) -> None:
        """Run one turn: find work, put it in order, do it. `run_forever` calls this until the loop is stopped."""
        if not self._ready and not self._stopping:
            self._turns = 0
            self._wait()
        else:
            self._turns += 1
            if self._has_files():
                self._poll(0)
            if self._jobs and self._turns % _TURNS_PER_RESULT == 0:
                self._take_from_threads()
            if self._turns == _TURNS_LIMIT:
                self._turns = 0
                raise DeadlineExceeded(
                    f"{_TURNS_LIMIT} turns of the loop at {self._now_s} s: something never lets time pass. "
                    f"{describe_all(self)}"
                )
        self._fire_timers()
        for _ in range(self._schedule.arrange(self._ready) if len(self._ready) > 1 else len(self._ready)):
            handle = self._ready.popleft()
            if not handle._cancelled:
                if self._count_step is None:
                    handle._run()
                else:
                    self._step(handle, self._count_step)

    def _wait(self) -> None:
        """Nothing is ready: serve files, else threads, else let time pass, else raise `Deadlock`."""
        if self._has_files() and self._poll(0):
            return
        self._drop_cancelled_timers()
        if self._jobs or self._posted or self._anyio_works():
            self._take_from_threads()
        elif self._about_to_move is not None and self._about_to_move():
            return
        elif self._timers:
            when_s = self._timers[0][3].when()
            if when_s > self._end_s:
                self._end_s = when_s + self._limit_s  # the tasks, cancelled now, may take their time to clean up
                raise DeadlineExceeded(
                    f"the program still runs after {self._limit_s} s of virtual time (limit_s). {describe_all(self)}"
                )
            self._now_s = max(self._now_s, when_s)
        else:
            self._need_self_pipe()
            if self._has_files() or getattr(self, "_signal_handlers", None):
                patience_s = _REAL_LIMIT_S
            else:
                patience_s = _STRANGER_S if threading.active_count() > 1 else 0.0
            if not self._posted and not self._poll(patience_s) and not self._posted:
                raise Deadlock(f"nothing can happen any more at {self._now_s} s. {describe_all(self)}")

    def _has_files(self) -> bool:
        return len(self._selector.get_map()) > self._internal_fds

    def _poll(self, patience_s: float) -> bool:
        """Queue the callbacks of ready files. Returns True if there were any, or if a thread or a signal woke us."""
        events = self._selector.select(patience_s)
        own = self._ssock.fileno() if self._ssock is not None else None
        others = [event for event in events if event[0].fd != own]
        if len(others) < len(events):
            self._read_from_self()  # at once: a wake-up comes at a random time and must not count as a turn
        self._process_events(others)
        return bool(events)

    def _take_from_threads(self) -> None:
        """Wait for a thread, and take one posted callback or the result of the oldest job."""
        self._need_self_pipe()  # before the look, so that later posts wake the selector
        ready = len(self._ready)
        while len(self._ready) == ready:
            done = bool(self._jobs) and self._jobs[0][0].done()  # before the posts: a job's own posts precede its end
            if self._posted:
                self._ready.append(self._posted.popleft())
            elif done:
                job, future, _ = self._jobs.popleft()
                _settle(future, job)
                return
            elif not self._poll(_REAL_LIMIT_S):
                raise Deadlock(
                    f"a thread has not finished within {_REAL_LIMIT_S} s of real time: "
                    f"{self._jobs[0][2] if self._jobs else 'of anyio.to_thread'!r}. {describe_all(self)}"
                )

    def _anyio_works(self) -> bool:
        """Return True if a thread of `anyio.to_thread` is at work. Idle threads are in anyio's list."""
        return threading.active_count() > 1 and any(
            getattr(thread, "loop", None) is self
            and not getattr(thread, "stopping", True)
            and thread not in getattr(thread, "idle_workers", ())
            for thread in threading.enumerate()
        )

    def _drop_cancelled_timers(self) -> None:
        if self._timer_cancelled_count > 100 and self._timer_cancelled_count * 2 > len(self._timers):
            for entry in self._timers:
                entry[3]._scheduled = not entry[3].cancelled()  # type: ignore[attr-defined]
            self._timers = [entry for entry in self._timers if not entry[3].cancelled()]
            heapq.heapify(self._timers)
            self._timer_cancelled_count = 0
        while self._timers and self._timers[0][3].cancelled():
            self._pop_timer()

    def _pop_timer(self) -> asyncio.TimerHandle:
        timer = heapq.heappop(self._timers)[3]
        timer._scheduled = False  # type: ignore[attr-defined]
        self._timer_cancelled_count -= timer.cancelled()
        return timer

    def _fire_timers(self) -> None:
        before = len(self._ready)
        while self._timers and self._timers[0][0] <= round(self._now_s * 1e9):
            timer = self._pop_timer()
            if not timer.cancelled():
                self._now_s = max(self._now_s, timer.when())  # under a nanosecond; a deadline must see its own time
                self._ready.append(timer)
        if self._fired is not None and len(self._ready) > before:
            timers = list(self._ready)[before:]
            self._fired([(timer.when(), timer._context) for timer in timers])  # type: ignore[attr-defined]


def _settle(future: asyncio.Future[Any], job: Future[Any]) -> None:
    if future.cancelled():
        return
    if job.cancelled():
        future.cancel()
    elif (error := job.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(job.result())
