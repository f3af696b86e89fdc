"""How much fits into one answer: clients take messages of a bounded size, and a process has a bounded memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final

from libs import errors
from services.registry.model import Resource

STEP: Final = 100
"""Resources that are read at once; each has up to 1 MiB."""


class Room:
    def __init__(self, limit: int, weigh: Callable[[Resource], int]) -> None:
        self._limit, self._weigh, self._used = limit, weigh, 0

    def fits(self, resource: Resource) -> bool:
        self._used += self._weigh(resource)
        return self._used <= self._limit

    def first(self, resources: Iterable[Resource]) -> Iterator[Resource]:
        """Those that fit, and the first in any case."""
        for resource in resources:
            is_first = not self._used
            if not self.fits(resource) and not is_first:
                return
            yield resource

    def require(self, resource: Resource) -> None:
        if not self.fits(resource):
            raise too_large(self._limit)


def too_large(limit: int) -> errors.ResourceExhausted:
    return errors.ResourceExhausted(
        f"the answer is larger than {limit} bytes: ask for less at once",
        reason="MESSAGE_TOO_LARGE",
        metadata={"limit_bytes": str(limit)},
    )


async def page(
    read: Callable[[str, int], Awaitable[Sequence[Resource]]],
    after: str,
    size: int,
    room: Room,
    mark: Callable[[Resource], str],
) -> tuple[list[Resource], bool]:
    """Up to `size` of what `read` gives, fewer where no more fit, and whether there are more; never none of some."""
    found: list[Resource] = []
    while True:
        asked = min(STEP, size + 1 - len(found))
        batch = await read(after, asked)
        fitting = list(room.first(batch[: size - len(found)]))
        found += fitting
        if len(fitting) < len(batch):
            return found, True
        if len(batch) < asked:
            return found, False
        after = mark(batch[-1])
