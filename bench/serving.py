"""A bare server of one service that also says that it is healthy, to stand where a real one would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


async def serve(add: Callable[[Any, grpc.aio.Server], None], servicer: Any, port: int) -> None:
    """Serves until it is stopped; `add` is the generated `add_..._to_server`."""
    server = grpc.aio.server()
    add(servicer, server)
    health = health_pb2_grpc.HealthServicer()
    health.Check = lambda *_: health_pb2.HealthCheckResponse(status=1)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()
