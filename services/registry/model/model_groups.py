"""The model groups that a resource thinks with, and those that a router configuration has."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Final

from services.registry.model import Kind, Spec
from services.registry.model.router_config import OFFLINE_GROUP

_WHERE: Final = {
    Kind.AGENT: ("model", "reasoning_model"),
    Kind.TEAM: ("model",),
    Kind.AGENT_TEMPLATE: ("agent.model", "agent.reasoning_model"),
}
_NAMED: Final = 5
DEFAULT_GROUP: Final = "default"
"""What the built-in templates name, whether or not a tenant has given it a meaning yet."""


def named_groups(kind: Kind, spec: Spec) -> dict[str, str]:
    """Each group that is named, by the path of its field."""
    return dict(_named_groups(kind, spec))


def _named_groups(kind: Kind, spec: Spec) -> Iterator[tuple[str, str]]:
    for path in _WHERE.get(kind, ()):
        found = spec
        for name in path.split("."):
            found = found.get(name, {})
        if found.get("model"):
            yield f"{kind}.spec.{path}.model", found["model"]


def known_groups(config: Spec) -> list[str]:
    """Empty where there is no deployment: nothing says then which groups there will be."""
    deployed = {deployment["model_group"] for deployment in config.get("deployments", ())}
    return sorted({*deployed, *config.get("model_group_aliases", {}), OFFLINE_GROUP, DEFAULT_GROUP}) if deployed else []


def near(group: str, known: Collection[str]) -> list[str]:
    """The names that may have been meant; the first ones where none is like it."""
    return get_close_matches(group, known, _NAMED) or sorted(known)[:_NAMED]
