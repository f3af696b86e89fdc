"""What processes tell each other: that an execution waits to be taken up, that one has got on, and that a host has come
or gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from libs import errors
from libs.database import Database, aware
from services.execution.service.news import News

_CHANNEL: Final = "execution_wanted"
NEWS: Final = "execution_news"
_HOSTS: Final = "execution_hosts"
WATCHED: Final = timedelta(seconds=15)
"""After the last touch; the clocks of two machines differ."""
_PAUSE: Final = 0.5
log = structlog.get_logger()


async def call_out(database: Database, connection: AsyncConnection) -> None:
    """Reaches the others when the transaction is committed; with SQLite they look for themselves."""
    if not database.is_sqlite:
        await connection.execute(sa.select(sa.func.pg_notify(_CHANNEL, "")))


def is_watched(row: Any) -> bool:
    """Whether somebody watches the execution from another process."""
    return row.watch_time is not None and aware(row.watch_time) > datetime.now(UTC) - WATCHED


async def tell(connection: AsyncConnection, execution_ids: Sequence[str]) -> None:
    """On PostgreSQL: has those who watch them look when the transaction is committed."""
    each = sa.func.unnest(sa.cast(list(execution_ids), postgresql.ARRAY(sa.Text)))
    await connection.execute(sa.select(sa.func.pg_notify(NEWS, each)))


async def tell_of_hosts(database: Database, connection: AsyncConnection) -> None:
    """Has the others look at the hosts when the transaction is committed; with SQLite they do from time to time."""
    if not database.is_sqlite:
        await connection.execute(sa.select(sa.func.pg_notify(_HOSTS, "")))


class SqlCalls:
    def __init__(self, database: Database, news: News, hosts_changed: Callable[[], None] = lambda: None) -> None:
        self._db, self._news, self._hosts_changed = database, news, hosts_changed

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
            await driver.add_listener(NEWS, lambda *told: self._news.tell(told[-1]))
            await driver.add_listener(_HOSTS, lambda *_: self._hosts_changed())
            wanted()
            self._hosts_changed()
            with self._news.coming():
                if not driver.is_closed():
                    await lost.wait()
