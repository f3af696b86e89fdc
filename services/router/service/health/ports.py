"""What health needs of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from services.router.model import RoutingTable
from services.router.model.health import Seen
from services.router.service.ports import Configurations

T = TypeVar("T")


class Followed(Configurations, Protocol):
    def is_fresh(self, tenant: str) -> bool:
        """Whether changes of the tenant's configuration arrive."""

    def listen(self, listener: Callable[[str, RoutingTable | None], None]) -> None:
        """Tells of each new table; None when the tenant is no longer followed."""


class Exchange(Protocol):
    """The way to the other replicas."""

    @property
    def connected(self) -> bool: ...

    def listen(self, heard: Callable[[str, str, Mapping[str, Seen]], None], asked: Callable[[], None]) -> None:
        """`heard` is told tenant, replica and what it has seen; `asked` when another replica wants to know all."""

    def send(self, tenant: str, seen: Mapping[str, Seen]) -> None:
        """Without waiting; what cannot be sent is lost and said again later."""


class Drain(Protocol):
    def check(self) -> None: ...

    async def wait_for(self, awaitable: Awaitable[T], seconds: float) -> T | None: ...
