from __future__ import annotations

import anyio

from duologue.frames import UserText
from duologue.processors import Processor
from duologue.processors.kernel.lane import DrainableLane
from tests.session.calls import in_background, running


async def test_a_drain_waits_for_what_is_queued_now() -> None:
    async with running(owner := Processor()) as call:
        queue, done = DrainableLane(owner), list[str]()

        async def work(frame: UserText) -> None:
            await anyio.sleep(1)
            done.append(frame.text)

        for text in "ab":
            await queue.put(work, UserText(text=text))
        draining = await in_background(queue.drain)
        await queue.put(work, UserText(text="c"))
        await draining
        assert done == ["a", "b"]
        assert call.session.now() == 2.0


async def test_the_worker_does_not_wait_for_itself() -> None:
    async with running(owner := Processor()):
        queue, done = DrainableLane(owner), list[str]()

        async def work(frame: UserText) -> None:
            await queue.drain()
            done.append(frame.text)

        await queue.put(work, UserText(text="a"))
        await queue.drain()
        assert done == ["a"]


async def test_a_queue_that_is_closed_keeps_nobody_waiting() -> None:
    async with running(owner := Processor()) as call:
        queue = DrainableLane(owner)

        async def work(frame: UserText) -> None:
            await anyio.sleep_forever()

        await queue.put(work, UserText(text="a"))
        draining = await in_background(queue.drain)
        queue.close()
        await draining
        await queue.drain()
        assert call.session.now() < 0.001
