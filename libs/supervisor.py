"""Child processes, kept running: one that dies is started again, later each time it dies young."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

STOP_TIMEOUT: Final = 15.0
_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 10.0
_YOUNG: Final = 30.0
PARENT: Final = "DYNAMIC_AGENTS_PARENT"
"""Names the supervisor's process to its children, who stop when it is gone, however it went."""
START_FAILED: Final = 2
"""Exit code of a process that refused to start: it would refuse again, so it is not restarted."""


@dataclass
class Child:
    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    output: Path | None = None
    process: asyncio.subprocess.Process | None = None


class Supervisor:
    """Runs children until `stop`; `report` gets a line about each that dies."""

    def __init__(
        self, children: Sequence[Child], report: Callable[[str], None], *, grace: float = STOP_TIMEOUT
    ) -> None:
        self.children = list(children)
        self._report, self._grace = report, grace
        self._stopping = False
        self._spawning = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        for child in self.children:
            await self._spawn(child)
            self._tasks.append(asyncio.create_task(self._keep(child)))

    async def _spawn(self, child: Child) -> None:
        async with self._spawning:
            if not self._stopping:
                await self._exec(child)

    async def _exec(self, child: Child) -> None:
        with contextlib.ExitStack() as stack:
            output: Any = None
            if child.output:
                output = stack.enter_context(child.output.open("ab"))
            child.process = await asyncio.create_subprocess_exec(
                *child.argv,
                env={**os.environ, **child.env, PARENT: str(os.getpid())},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches us alone, and we drain the children in order
            )

    async def _keep(self, child: Child) -> None:
        delay = _FIRST_DELAY
        while child.process is not None:
            started = time.monotonic()
            code = await child.process.wait()
            if self._stopping:
                return
            if code == START_FAILED:
                if not self.failed.done():
                    self.failed.set_result(child.name)
                return
            delay = _FIRST_DELAY if time.monotonic() - started > _YOUNG else delay
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            self._report(f"{child.name} died ({how}); starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)
            await self._spawn(child)

    async def stop(self, *, at_once: bool = False) -> None:
        """Ends the children, last started first: SIGTERM, then SIGKILL to one that outlasts the grace."""
        self._stopping = True
        async with self._spawning:  # one that is being started is ended too
            alive = [c.process for c in reversed(self.children) if c.process and c.process.returncode is None]
        if at_once:
            await asyncio.gather(*map(self._end, alive))
        else:
            for process in alive:
                await self._end(process)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._grace):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
