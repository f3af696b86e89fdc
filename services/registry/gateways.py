"""The Router, asked whether a configuration would work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc
import structlog
from dynamicagents.registry.v1 import router_config_pb2
from dynamicagents.router.v1 import router_service_pb2
from google.protobuf.json_format import ParseDict

from libs import errors, status
from libs.errors import Violation
from services.registry.model import Spec

log = structlog.get_logger()

_PATIENCE: Final = 2.0


class RouterGateway:
    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def violations(self, spec: Spec) -> Sequence[Violation]:
        """What the Router finds wrong; nothing where it cannot be asked."""
        if not spec.get("deployments"):
            return ()
        config = ParseDict(dict(spec), router_config_pb2.RouterConfig(), ignore_unknown_fields=True)
        request = router_service_pb2.ExplainRouteRequest(model=config.deployments[0].model_group, config=config)
        try:
            await self._stub.ExplainRoute(request, timeout=_PATIENCE)
        except grpc.aio.AioRpcError as failure:
            error = status.from_rpc_error(failure, "router")
            if isinstance(error, errors.InvalidArgument):
                return [Violation(f"router_{v.field}", v.description) for v in error.violations]
            log.warning("router configuration not tried: the router does not say", reason=error.reason_code)
        return ()
