"""Where the services are, and a call to one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Final, TypeVar

import grpc
import typer
from pydantic import Field, SecretStr

from cli.output import rpc_failure
from libs.config import SERVICES, Settings

T = TypeVar("T")
PORT_BASE: Final = 50051
OFFSETS: Final = {"registry": 0, "router": 1, "secrets": 2, "execution": 3}
PortBase = Annotated[
    int,
    typer.Option(
        envvar="DYNAMIC_AGENTS_PORT_BASE",
        min=1,
        max=65535 - len(SERVICES),
        help="Port of Registry; Router, Secrets and Execution follow.",
    ),
]


class ClientSettings(Settings):
    """`DYNAMIC_AGENTS_REGISTRY_ADDRESS`, `..._EXECUTION_ADDRESS`, `..._TOKEN`: for commands that call services."""

    service: ClassVar[str] = "client"

    execution_address: str = "127.0.0.1:50054"
    token: SecretStr | None = Field(None, description="Bearer token of the caller, where services want one.")


def address_of(service: str, port_base: int) -> str:
    settings = ClientSettings.load()
    named = f"{service}_address"
    if named in settings.model_fields_set:
        return str(getattr(settings, named))
    return f"127.0.0.1:{port_base + OFFSETS[service]}"


@asynccontextmanager
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address) as opened:
        yield opened


def metadata() -> tuple[tuple[str, str], ...]:
    token = ClientSettings.load().token
    return (("authorization", f"Bearer {token.get_secret_value()}"),) if token else ()


async def pages(method: Callable[..., Awaitable[Any]], request: Any, field: str, options: dict[str, Any]) -> list[Any]:
    """What all pages of a List method have in `field`."""
    found: list[Any] = []
    while True:
        page = await method(request, **options)
        found.extend(getattr(page, field))
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def call(
    service: str,
    port_base: int,
    use: Callable[[grpc.aio.Channel, dict[str, Any]], Awaitable[T]],
    *,
    as_json: bool,
    timeout: float | None = 30.0,
) -> T:
    """Runs `use` with a channel to a service and the options of its calls; an error of the call ends the command."""
    address = address_of(service, port_base)

    async def go() -> T:
        async with channel(address) as opened:
            return await use(opened, {"metadata": metadata(), "timeout": timeout})

    try:
        return asyncio.run(go())
    except grpc.aio.AioRpcError as error:
        raise rpc_failure(error, address, as_json=as_json) from None
