"""Proto <-> model for RouterService."""

from __future__ import annotations

from collections.abc import Callable

from dynamicagents.registry.v1 import router_config_pb2
from dynamicagents.router.v1 import router_service_pb2_grpc

from services.router.model import RoutingTable
from services.router.service import Router
from services.router.service.health import Health
from services.router.servicer.chat import ChatMethods
from services.router.servicer.explain import ExplainMethods
from services.router.servicer.health import HealthMethods
from services.router.servicer.models import ModelMethods
from services.router.servicer.texts import TextMethods


class RouterServicer(
    ChatMethods, TextMethods, ModelMethods, ExplainMethods, HealthMethods, router_service_pb2_grpc.RouterServiceServicer
):
    """One module for each kind of method."""

    def __init__(
        self, router: Router, health: Health, table: Callable[[router_config_pb2.RouterConfig], RoutingTable]
    ) -> None:
        self._router, self._health, self._table = router, health, table
