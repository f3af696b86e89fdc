"""Channels to servers of strangers: nothing of the caller's own credentials goes over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc

from services.execution.gateways.providers.targets import Bounds, Target

MakeChannel = Callable[[Target], grpc.aio.Channel]
_RECONNECT: Final = 1.0
READY: Final = grpc.ChannelConnectivity.READY


def maker(bounds: Bounds, interceptors: Sequence[Any]) -> MakeChannel:
    roots = bounds.ca_file.read_bytes() if bounds.ca_file else None

    def make(target: Target) -> grpc.aio.Channel:
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", bounds.max_message_bytes),
            ("grpc.max_send_message_length", bounds.max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", int(_RECONNECT * 1000)),
            # Servers end connections that ask for signs of life more often than every five minutes.
            ("grpc.keepalive_time_ms", 310_000),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.service_config_disable_resolution", 1),
        ]
        address = f"dns:///{target.address}"
        if not target.tls:
            return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
        credentials = grpc.ssl_channel_credentials(root_certificates=roots)
        return grpc.aio.secure_channel(address, credentials, options=options, interceptors=interceptors)

    return make


async def connected(channel: grpc.aio.Channel, patience: float) -> bool:
    """Whether there is a connection: waits for one that is being made, and not for long for one that failed before."""
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    state = channel.get_state(try_to_connect=True)
    while state is not READY:
        if state is grpc.ChannelConnectivity.SHUTDOWN:
            return False
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            until = min(until, loop.time() + _RECONNECT)
        if not await changed(channel, state, until - loop.time()):
            return False
        state = channel.get_state(try_to_connect=True)
    return True


async def changed(channel: grpc.aio.Channel, state: grpc.ChannelConnectivity, within: float) -> bool:
    try:
        async with asyncio.timeout(max(within, 0.0)):
            await channel.wait_for_state_change(state)
    except TimeoutError:
        return False
    return True
