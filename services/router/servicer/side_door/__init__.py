"""An HTTP door to the Router in the shape of OpenAI's API: same callers, same groups, same budgets."""

from services.router.servicer.side_door.server import side_door

__all__ = ["side_door"]
