from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from services.execution.service.workflows.lobby import Lobby


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def lobby() -> Lobby:
    return Lobby(lambda: datetime.now(UTC))


async def test_who_is_alone_does_not_wait_in_the_process() -> None:
    assert await lobby().wait(soon(3600)) is False
    assert await lobby().wait(None) is False
    assert await lobby().wait(soon(-1)) is True


async def test_time_comes_while_another_one_works() -> None:
    at = lobby()
    fork = at.fork(2)
    done = asyncio.Event()

    async def works() -> None:
        with fork.branch():
            await done.wait()

    async def waits() -> bool:
        with fork.branch():
            return await at.wait(soon(0.01))

    with fork.joined():
        working = asyncio.create_task(works())
        assert await waits() is True
        done.set()
        await working
    assert at.at_work == 1


async def test_all_leave_when_the_last_one_has_done_its_work() -> None:
    at = lobby()
    outer, done = at.fork(3), asyncio.Event()

    async def works() -> None:
        with outer.branch():
            inner = at.fork(2)

            async def branch() -> None:
                with inner.branch():
                    await done.wait()

            with inner.joined():
                await asyncio.gather(branch(), branch())

    async def waits() -> bool:
        with outer.branch():
            return await at.wait(soon(3600))

    with outer.joined():
        tasks = [asyncio.create_task(waits()), asyncio.create_task(works()), asyncio.create_task(waits())]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        done.set()
        assert await asyncio.gather(*tasks) == [False, None, False]
    assert at.at_work == 1


async def test_branches_that_are_cancelled_leave_too() -> None:
    at = lobby()
    fork = at.fork(3)

    async def waits() -> bool:
        with fork.branch():
            return await at.wait(soon(3600))

    with fork.joined():
        tasks = [asyncio.create_task(waits()) for _ in range(2)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        never = asyncio.create_task(waits())
        never.cancel()
        await asyncio.gather(tasks[0], never, return_exceptions=True)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert at.at_work == 1


async def test_something_comes() -> None:
    at = lobby()
    fork = at.fork(2)
    done = asyncio.Event()

    async def works() -> None:
        with fork.branch():
            await done.wait()

    async def came() -> bool:
        return True

    with fork.joined():
        working = asyncio.create_task(works())
        with fork.branch():
            assert await at.wait(None, came) is True
        done.set()
        await working
