"""Virtual time; files and threads under it; its errors."""

from __future__ import annotations

import asyncio
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest

from duologue.errors import DeadlineExceeded
from duologue.testing.clock import Deadlock, VirtualClockLoop, run


class TestTime:
    def test_a_week_of_sleeping_takes_no_time(self) -> None:
        async def main() -> float:
            for _ in range(600):
                await anyio.sleep(1000)
            return anyio.current_time()

        began_s = time.monotonic()
        assert run(main, limit_s=1e6) == 600_000.0
        assert time.monotonic() - began_s < 60  # a busy machine may take its time over the work, and no more

    def test_the_clock_starts_where_it_is_told(self) -> None:
        async def main(sleep_s: float) -> float:
            await anyio.sleep(sleep_s)
            return anyio.current_time()

        assert run(main, 2.5) == 2.5
        assert run(main, 2.5, start_s=1e6) == 1e6 + 2.5

    def test_timers_fire_in_the_order_of_their_times_then_of_their_creation(self) -> None:
        async def main() -> list[str]:
            order: list[str] = []
            loop = asyncio.get_running_loop()
            loop.call_later(2, order.append, "late")
            loop.call_at(1, order.append, "first of two")
            loop.call_later(1, order.append, "second of two")
            loop.call_later(1.5, order.append, "cancelled").cancel()
            loop.call_soon(order.append, "soon")
            await anyio.sleep(3)
            return order

        assert run(main) == ["soon", "first of two", "second of two", "late"]

    def test_rounding_does_not_part_what_is_due_together(self) -> None:
        async def main() -> set[str]:
            due: set[str] = set()
            turn: set[str] = set()
            loop = asyncio.get_running_loop()

            async def steps() -> None:
                for _ in range(50):
                    await anyio.sleep(0.02)
                loop.call_soon(due.update, turn)
                turn.add("fifty small sleeps")

            async def stride() -> None:
                await anyio.sleep(1)
                turn.add("a long one")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(steps)
                tasks.start_soon(stride)
            return due

        assert run(main) == {"fifty small sleeps", "a long one"}

    def test_deadlines_are_kept_to_the_instant(self) -> None:
        async def main() -> None:
            with anyio.move_on_after(5) as scope:
                await anyio.sleep_forever()
            assert scope.cancelled_caught
            assert anyio.current_time() == 5.0
            with pytest.raises(TimeoutError), anyio.fail_after(0.25):
                await anyio.sleep(0.3)
            assert anyio.current_time() == 5.25
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await anyio.sleep(2)
            assert anyio.current_time() == 6.25
            with anyio.fail_after(3):
                await anyio.sleep(2.9)

        run(main)

    def test_thousands_of_cancelled_deadlines_leave_nothing_behind(self) -> None:
        async def main() -> int:
            for _ in range(5000):
                with anyio.fail_after(60):
                    await anyio.sleep(0.001)
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualClockLoop)
            return len(loop._timers)

        assert run(main) < 300

    def test_the_result_and_the_error_of_the_function_come_out(self) -> None:
        async def fails() -> None:
            raise KeyError("gone")

        with pytest.raises(KeyError, match="gone"):
            run(fails)

    def test_an_empty_run_is_cheap(self) -> None:
        # In a process of its own: other tests leave modules and objects behind that are counted, too.
        script = """
            from duologue.testing.clock import run
            from tests.patience import steps

            async def main():
                pass

            run(main, seed=0)  # what is imported and cached at first is not counted
            print(steps(lambda: run(main, seed=1)))
        """
        done = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, check=True)
        assert int(done.stdout) < 8_000


class TestNothingLeftToDo:
    def test_a_deadlock_names_every_task_and_where_it_waits(self) -> None:
        async def starving(event: anyio.Event) -> None:
            await event.wait()

        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(starving, anyio.Event(), name="starving task")
                await anyio.sleep(3)
                await anyio.sleep(math.inf)

        with pytest.raises(Deadlock, match=r"at 3\.0 s.*test_clock\.py:\d+ in main; 'starving task' at .* in starving"):
            run(main)

    def test_tasks_may_take_virtual_time_to_clean_up_after_an_error_of_the_loop(self) -> None:
        cleaned_at_s = []

        async def main() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(2)
                    cleaned_at_s.append(anyio.current_time())

        with pytest.raises(Deadlock):
            run(main)
        assert cleaned_at_s == [2.0]

    def test_a_program_that_never_ends_meets_the_limit(self) -> None:
        async def main() -> None:
            for _ in range(1000):
                await anyio.sleep(0.5)

        with pytest.raises(DeadlineExceeded, match=r"after 60 s of virtual time.*in main"):
            run(main, limit_s=60)

    def test_a_program_that_never_lets_time_pass_is_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("duologue.testing.clock._TURNS_LIMIT", 2000)

        async def main() -> None:
            while anyio.current_time() < 1:
                await anyio.lowlevel.checkpoint()

        with pytest.raises(DeadlineExceeded, match=r"2000 turns of the loop at 0\.0 s.*in main"):
            run(main)


class TestFiles:
    def test_sockets_are_served_while_time_flies(self) -> None:
        async def main() -> tuple[int, float]:
            received = 0
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)

            async def echo(stream: anyio.abc.SocketStream) -> None:
                async with stream:
                    async for data in stream:
                        await anyio.sleep(0.01)
                        await stream.send(data)

            async with listener, anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, echo)
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    for _ in range(100):
                        with anyio.fail_after(1):
                            await stream.send(bytes(640))
                            received += len(await stream.receive())
                        await anyio.sleep(5)
                tasks.cancel_scope.cancel()
            return received, anyio.current_time()

        received, now_s = run(main)
        assert received == 64000
        assert now_s == pytest.approx(501)

    def test_with_nothing_but_a_file_to_wait_for_the_loop_waits_in_real_time(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        waiting = threading.Event()

        def answer() -> None:
            waiting.wait()
            theirs.sendall(b"hello")

        async def main() -> bytes:
            loop = asyncio.get_running_loop()
            loop.call_soon(waiting.set)
            return await loop.sock_recv(ours, 10)

        with ours, theirs:
            peer = threading.Thread(target=answer)
            peer.start()
            assert run(main) == b"hello"
            peer.join()


def in_thread(function: Callable[[], object], pool: ThreadPoolExecutor | None = None) -> Awaitable[object]:
    return asyncio.get_running_loop().run_in_executor(pool, function)


class TestThreads:
    def test_time_stands_still_while_a_thread_works(self) -> None:
        async def main() -> list[tuple[str, float]]:
            log: list[tuple[str, float]] = []
            ticked = threading.Event()

            async def ticker() -> None:
                for _ in range(3):
                    await anyio.sleep(1)
                    log.append(("tick", anyio.current_time()))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ticker)
                await anyio.sleep(1.5)
                asyncio.get_running_loop().call_soon(ticked.set)
                await in_thread(ticked.wait)
                log.append(("thread", anyio.current_time()))
            return log

        assert run(main) == [("tick", 1.0), ("thread", 1.5), ("tick", 2.0), ("tick", 3.0)]

    @pytest.mark.parametrize("first_to_finish", [0, 1, 2])
    def test_results_come_in_the_order_of_submission_whichever_thread_is_first(self, first_to_finish: int) -> None:
        others_may_finish = threading.Event()

        def job(number: int) -> int:
            if number == first_to_finish:
                others_may_finish.set()
            else:
                others_may_finish.wait()
            return number

        async def main() -> list[object]:
            results: list[object] = []

            async def call(number: int) -> None:
                results.append(await in_thread(lambda: job(number), pool))

            async with anyio.create_task_group() as tasks:
                for number in range(3):
                    tasks.start_soon(call, number)
            return results

        with ThreadPoolExecutor(3) as pool:
            assert run(main) == [0, 1, 2]

    def test_what_a_job_posts_arrives_in_order_and_before_its_result(self) -> None:
        async def main() -> list[str]:
            log: list[str] = []
            started: list[asyncio.Task[None]] = []
            loop = asyncio.get_running_loop()

            def job() -> None:
                for _ in range(3):
                    loop.call_soon_threadsafe(lambda: started.append(loop.create_task(consume())))

            async def consume() -> None:
                log.append("got")
                await anyio.lowlevel.checkpoint()
                log.append("done")

            await in_thread(job)
            log.append("result")
            assert all(task.done() for task in started)
            return log

        assert run(main) == ["got", "done"] * 3 + ["result"]

    def test_the_error_of_a_job_reaches_its_caller(self) -> None:
        def job() -> None:
            raise LookupError("no such voice")

        async def main() -> None:
            with pytest.raises(LookupError, match="no such voice"):
                await in_thread(job)

        run(main)

    def test_a_caller_can_be_cancelled_while_its_job_runs(self) -> None:
        async def main() -> tuple[float, float]:
            running, release = threading.Event(), threading.Event()

            def job() -> None:
                running.set()
                release.wait()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(in_thread_task, job)
                await anyio.lowlevel.checkpoint()
                running.wait()
                tasks.cancel_scope.cancel()
            cancelled_at_s = anyio.current_time()
            release.set()
            await anyio.sleep(1)
            return cancelled_at_s, anyio.current_time()

        async def in_thread_task(job: Callable[[], None]) -> None:
            await in_thread(job, pool)

        with ThreadPoolExecutor(1) as pool:
            assert run(main) == (0.0, 1.0)

    def test_a_job_that_is_cancelled_before_it_runs_never_runs(self) -> None:
        async def main() -> list[str]:
            ran: list[str] = []
            release = threading.Event()
            first = asyncio.ensure_future(in_thread(release.wait, pool))
            second = asyncio.ensure_future(in_thread(lambda: ran.append("second"), pool))
            second.cancel()
            await asyncio.wait([second])
            release.set()
            await first
            await in_thread(lambda: ran.append("third"), pool)
            return ran

        with ThreadPoolExecutor(1) as pool:
            assert run(main) == ["third"]

    def test_a_loop_that_is_never_idle_still_gets_results(self) -> None:
        async def main() -> int:
            job = asyncio.ensure_future(in_thread(lambda: None))
            turns = 0
            while not job.done():
                await anyio.lowlevel.checkpoint()
                turns += 1
            return turns

        assert run(main) == run(main) > 100

    def test_anyio_threads_hold_the_clock_too(self) -> None:
        async def main() -> tuple[bool, float]:
            ready = threading.Event()
            asyncio.get_running_loop().call_soon(ready.set)
            with anyio.fail_after(1):
                done = await anyio.to_thread.run_sync(ready.wait)
                await anyio.to_thread.run_sync(ready.wait)  # by the worker that has become idle
            assert anyio.current_time() == 0
            await anyio.sleep(20)
            return done, anyio.current_time()

        assert run(main) == (True, 20.0)

    def test_a_thread_may_call_into_the_loop(self) -> None:
        async def main() -> object:
            loop = asyncio.get_running_loop()

            async def question() -> str:
                await asyncio.sleep(0)
                return "answer"

            return await in_thread(lambda: asyncio.run_coroutine_threadsafe(question(), loop).result())

        assert run(main) == "answer"

    def test_a_thread_that_the_loop_does_not_know_can_wake_it(self) -> None:
        async def main() -> str:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[str] = loop.create_future()
            thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(future.set_result, "woken"))
            thread.start()
            try:
                return await future
            finally:
                thread.join()

        assert run(main) == "woken"
