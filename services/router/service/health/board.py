"""The deployments of one tenant: what is known of each, and who watches."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from libs.identity import Caller
from services.router.model import Deployment
from services.router.model.health import DeploymentHealth, Seen, Window, assess, group_health, since
from services.router.service.health.watch import Change, Heartbeat, Snapshot, Watch

_FORGOTTEN: Final = 30.0
"""Seconds after which what another replica said no longer counts."""


class Record:
    """What is known of one deployment; times are seconds of the epoch."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.window = Window()
        self.in_flight, self.cooldown_until, self.half_open = 0, 0.0, False
        self.others: dict[str, tuple[float, Seen]] = {}
        """When and what other replicas said."""
        self.own = self.sent = Seen()
        self.last = DeploymentHealth(deployment.deployment_id, deployment.model_group, since=time.time())
        self.probed, self.next_probe = 0.0, math.inf

    def assess(self, now: float) -> DeploymentHealth:
        cooling = self.cooldown_until if self.cooldown_until > now else 0.0
        self.own = replace(
            self.window.seen(now), in_flight=self.in_flight, cooldown_until=cooling, half_open=self.half_open
        )
        self.others = {name: said for name, said in self.others.items() if now - said[0] < _FORGOTTEN}
        seen = [self.own, *(said for _, said in self.others.values())]
        return since(assess(self.deployment.deployment_id, self.deployment.model_group, seen, now), self.last, now)

    def plan_probe(self, interval: float | None, now: float, *, again: bool = False) -> None:
        """At a time of its own, so that replicas and deployments do not probe in step."""
        if interval is None:
            self.next_probe = math.inf
        elif again or self.next_probe == math.inf:
            self.next_probe = now + interval * random.uniform(0.5, 1.5)  # noqa: S311


class Board:
    """One tenant's deployments and those who watch them."""

    def __init__(self, deployments: Collection[Deployment]) -> None:
        self.records = {d.deployment_id: Record(d) for d in deployments}
        self.watches: set[Watch] = set()
        self.snapshots: dict[tuple[frozenset[str], frozenset[str]], Snapshot] = {}
        self.caller: Caller | None = None
        self.share_state = True
        self.probe_interval: float | None = None
        self.configured = False

    def snapshot(self, groups: frozenset[str], ids: frozenset[str], flags: Heartbeat) -> Snapshot:
        everything = not groups and not ids
        health = [self.records[name].last for name in sorted(self.records)]
        members: dict[str, list[DeploymentHealth]] = {}
        for one in health:
            if everything or one.model_group in groups:
                members.setdefault(one.model_group, []).append(one)
        return Snapshot(
            [h for h in health if everything or h.model_group in groups or h.deployment_id in ids],
            [group_health(name, members[name]) for name in sorted(members)],
            flags.shared,
            flags.config_fresh,
        )

    def publish(self, health: DeploymentHealth) -> None:
        self.snapshots.clear()
        change = Change(health)
        for watch in self.watches:
            if watch.wants(health):
                watch.changed(change)
