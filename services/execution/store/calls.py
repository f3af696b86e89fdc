"""The word that an execution waits to be taken up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from libs import errors
from libs.database import Database

_CHANNEL: Final = "execution_wanted"
_PAUSE: Final = 0.5
log = structlog.get_logger()


async def call_out(database: Database, connection: AsyncConnection) -> None:
    """Reaches the others when the transaction is committed; with SQLite they look for themselves."""
    if not database.is_sqlite:
        await connection.execute(sa.select(sa.func.pg_notify(_CHANNEL, "")))


class SqlCalls:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def hear(self, wanted: Callable[[], None]) -> None:
        """On PostgreSQL, by LISTEN on a connection of its own; a lost one is opened again."""
        while not self._db.is_sqlite:
            try:
                await self._listen(wanted)
            except errors.Unavailable:  # it is logged where it was found
                pass
            except Exception:
                log.exception("listening goes on after an error")
            await asyncio.sleep(_PAUSE)

    async def _listen(self, wanted: Callable[[], None]) -> None:
        """Returns when the connection is lost."""
        async with self._db.read() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await connection.run_sync(lambda sync: sync.detach())  # the pool is for the calls
            lost = asyncio.Event()
            driver.add_termination_listener(lambda _: lost.set())
            await driver.add_listener(_CHANNEL, lambda *_: wanted())
            wanted()
            if not driver.is_closed():
                await lost.wait()
