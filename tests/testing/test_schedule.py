"""A seed changes the order of tasks and nothing else, and a failing seed is printed."""

from __future__ import annotations

import asyncio

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from duologue.errors import BadInput
from duologue.testing.clock import SeedFailed, run, sweep

SEEDS = range(500)


def trace(seed: int | None) -> list[str]:
    """The steps of eight tasks that share streams, locks and deadlines, in their order."""
    log: list[str] = []
    lock = anyio.Lock()

    async def worker(name: str) -> None:
        try:
            with anyio.move_on_after(3.0):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(child, name)
                    for i in range(3):
                        async with lock:
                            log.append(f"{name}{i}")
                        await anyio.sleep(1)
                    await anyio.sleep_forever()
        finally:
            log.append(f"{name} ends")

    async def child(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append(f"{name}'s child ends")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for name in "abcdefgh":
                tasks.start_soon(worker, name)
            await anyio.sleep(2.5)
            tasks.cancel_scope.cancel()

    run(main, seed=seed)
    return log


class TestSeeds:
    @pytest.mark.parametrize("seed", [None, 0, 1234])
    def test_the_same_seed_gives_the_same_trace_wherever_objects_lie_in_memory(self, seed: int | None) -> None:
        first = trace(seed)
        ballast: list[object] = []
        for i in range(20):
            ballast += [bytearray(64 + 8 * j) for j in range(i * 7)]
            del ballast[::3]
            assert trace(seed) == first

    def test_without_a_seed_tasks_run_first_in_first_out(self) -> None:
        log = trace(None)
        assert [entry for entry in log if entry[1:].isdecimal()] == [
            f"{name}{i}" for i in range(3) for name in "abcdefgh"
        ]

    def test_other_seeds_give_other_traces(self) -> None:
        assert len({tuple(trace(seed)) for seed in range(50)}) == 50

    def test_steps_move_and_callbacks_do_not(self) -> None:
        orders: set[tuple[str, ...]] = set()

        async def main() -> None:
            log: list[str] = []
            loop = asyncio.get_running_loop()

            async def step(name: str) -> None:
                log.append(name)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(step, "A")
                loop.call_soon(log.append, "1")
                tasks.start_soon(step, "B")
                loop.call_soon(log.append, "2")
                tasks.start_soon(step, "C")
            assert log.index("1") < log.index("2") < log.index("C")
            assert log.index("1") < log.index("B")
            orders.add(tuple(log))

        sweep(main, SEEDS)
        # every order of five in which 1 precedes B and 2, and 2 precedes C
        assert len(orders) == 15

    def test_callbacks_of_one_future_run_in_order_and_before_the_task_that_came_later(self) -> None:
        async def main() -> None:
            log: list[str] = []
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda _: log.append("1"))
            future.add_done_callback(lambda _: log.append("2"))
            asyncio.get_running_loop().call_later(1, future.set_result, None)
            await future
            assert log == ["1", "2"]

        sweep(main, SEEDS)

    def test_timers_due_together_fire_in_any_order(self) -> None:
        orders: set[tuple[str, ...]] = set()

        async def main() -> None:
            log: list[str] = []
            for name in "abc":
                asyncio.get_running_loop().call_later(1, log.append, name)
            await anyio.sleep(2)
            orders.add(tuple(log))

        sweep(main, range(100))
        assert len(orders) == 6

    def test_a_short_way_can_lose_to_a_long_one(self) -> None:
        async def main() -> None:
            log: list[str] = []

            async def walk(name: str, steps: int) -> None:
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                log.append(name)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(walk, "short", 1)
                tasks.start_soon(walk, "long", 5)
            assert log == ["short", "long"]

        with pytest.raises(SeedFailed):
            sweep(main, range(100))

    def test_a_planted_race_is_found_and_replays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            fenced = False
            left: list[str] = []

            async def interrupt() -> None:
                nonlocal fenced
                await anyio.sleep(1)
                fenced = True
                left.append("fence")

            async def speak() -> None:
                await anyio.sleep(1)
                stale = fenced
                await anyio.lowlevel.checkpoint()
                if not stale:
                    left.append("audio")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(interrupt)
                tasks.start_soon(speak)
            assert left[-1] == "fence"

        run(main)
        with pytest.raises(SeedFailed) as caught:
            sweep(main, range(200))
        seed = caught.value.seed
        assert seed > 0
        assert isinstance(caught.value.__cause__, AssertionError)
        assert f"DUOLOGUE_SEED={seed} pytest " in str(caught.value)
        assert "test_a_planted_race_is_found_and_replays" in str(caught.value)

        monkeypatch.setenv("DUOLOGUE_SEED", str(seed))
        with pytest.raises(SeedFailed, match=f"^seed {seed}; .*\nAssertionError"):
            sweep(main, range(1))
        monkeypatch.setenv("DUOLOGUE_SEED", "0")
        sweep(main, range(200))

    def test_a_seed_that_is_no_number_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            pass

        monkeypatch.setenv("DUOLOGUE_SEED", "abc")
        with pytest.raises(BadInput, match="DUOLOGUE_SEED is 'abc'"):
            sweep(main, range(1))

    def test_the_failure_inside_a_group_is_what_the_message_tells(self) -> None:
        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fail)

        async def fail() -> None:
            raise ValueError("sample rate is 0")

        with pytest.raises(SeedFailed, match=r"seed 3; .*\nValueError: sample rate is 0"):
            sweep(main, [3])

    def test_an_outcome_of_pytest_keeps_its_type_and_names_the_seed(self) -> None:
        async def main() -> None:
            pytest.fail("not like this")

        with pytest.raises(pytest.fail.Exception) as caught:
            sweep(main, [3])
        assert "DUOLOGUE_SEED=3" in caught.value.__notes__[0]


class TestAnyioHoldsUnderShuffling:
    def test_streams_keep_order_and_lose_nothing(self) -> None:
        async def main() -> None:
            first, second_in = anyio.create_memory_object_stream[int](2)
            second, last_in = anyio.create_memory_object_stream[int](2)
            arrived: list[int] = []

            async def relay() -> None:
                async with second_in, second:
                    async for item in second_in:
                        await second.send(item)

            async def collect() -> None:
                async with last_in:
                    async for item in last_in:
                        arrived.append(item)
                        await anyio.sleep(0.001 * (item % 3))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(relay)
                tasks.start_soon(collect)
                async with first:
                    for item in range(12):
                        await first.send(item)
            assert arrived == list(range(12))

        sweep(main, SEEDS)

    def test_scopes_and_groups_cancel_exactly_what_is_theirs(self) -> None:
        async def main() -> None:
            ended: list[str] = []

            async def sleeper(name: str, seconds: float) -> None:
                try:
                    await anyio.sleep(seconds)
                    ended.append(f"{name} slept")
                except anyio.get_cancelled_exc_class():
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(0.5)
                    ended.append(f"{name} cancelled")
                    raise

            with anyio.move_on_after(2) as outer:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(sleeper, "quick", 1.0)
                    tasks.start_soon(sleeper, "slow", 9.0)
                    with anyio.move_on_after(1.5) as inner:
                        await sleeper("inner", 9.0)
                    assert inner.cancelled_caught
            assert outer.cancelled_caught
            assert anyio.current_time() == 2.5
            assert set(ended) == {"quick slept", "inner cancelled", "slow cancelled"}

        sweep(main, SEEDS)

    def test_one_error_ends_its_group(self) -> None:
        async def main() -> None:
            async def fail(after_s: float) -> None:
                await anyio.sleep(after_s)
                raise ValueError(after_s)

            async def group() -> None:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(fail, 1.0)
                    tasks.start_soon(fail, 2.0)
                    await anyio.sleep_forever()

            with pytest.raises(ExceptionGroup) as caught:
                await group()
            assert [error.args for error in caught.value.exceptions] == [(1.0,)]
            assert anyio.current_time() == 1.0

        sweep(main, SEEDS)

    def test_starting_and_waiting(self) -> None:
        async def main() -> None:
            async def server(task_status: anyio.abc.TaskStatus[int]) -> None:
                await anyio.sleep(1)
                task_status.started(8080)
                await stopped.wait()

            stopped = anyio.Event()
            async with anyio.create_task_group() as tasks:
                assert await tasks.start(server) == 8080
                assert anyio.current_time() == 1.0
                stopped.set()

        sweep(main, SEEDS)

    def test_locks_and_conditions(self) -> None:
        async def main() -> None:
            inside = 0
            done = 0
            lock, limiter, condition = anyio.Lock(), anyio.CapacityLimiter(2), anyio.Condition()

            async def work() -> None:
                nonlocal inside, done
                async with limiter, lock:
                    inside += 1
                    assert inside == 1
                    await anyio.sleep(0.01)
                    inside -= 1
                async with condition:
                    done += 1
                    condition.notify_all()

            async with anyio.create_task_group() as tasks:
                for _ in range(6):
                    tasks.start_soon(work)
                async with condition:
                    while done < 6:
                        await condition.wait()

        sweep(main, SEEDS)

    def test_asyncio_itself(self) -> None:
        async def main() -> None:
            queue: asyncio.Queue[int] = asyncio.Queue(1)

            async def produce() -> None:
                for i in range(5):
                    await queue.put(i)

            async def consume() -> list[int]:
                return [await asyncio.wait_for(queue.get(), 1) for _ in range(5)]

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(produce())
                consumer = tasks.create_task(consume())
            assert consumer.result() == [0, 1, 2, 3, 4]
            assert await asyncio.gather(*(asyncio.sleep(i % 3, i) for i in range(6))) == [0, 1, 2, 3, 4, 5]

        sweep(main, SEEDS)

    def test_a_tcp_stream_keeps_its_order(self) -> None:
        async def main() -> None:
            received = bytearray()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                received.extend(await reader.read(-1))
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for i in range(20):
                writer.write(bytes([i]) * 100)
                await anyio.sleep(0.02)
            writer.close()
            await writer.wait_closed()
            await anyio.sleep(1)
            server.close()
            await server.wait_closed()
            assert bytes(received) == b"".join(bytes([i]) * 100 for i in range(20))

        sweep(main, range(20))
