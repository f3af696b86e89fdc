from services.router.service.health.health import Health
from services.router.service.health.ports import Exchange
from services.router.service.health.watch import Change, Heartbeat, Item, Snapshot, Watch

__all__ = ["Change", "Exchange", "Health", "Heartbeat", "Item", "Snapshot", "Watch"]
