from services.router.service.ports import Configurations, Keys, Upstream
from services.router.service.router import Router

__all__ = ["Configurations", "Keys", "Router", "Upstream"]
