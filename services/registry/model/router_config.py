"""The rules of a router configuration."""

from __future__ import annotations

import re
from typing import Final

from libs.errors import Violation
from services.registry.model import Spec

OFFLINE_GROUP: Final = "offline"
MOST_DEPLOYMENTS: Final = 1000
_REFERENCE: Final = re.compile(
    r"os\.environ/[A-Za-z_][A-Za-z0-9_]*"
    r"|(secret|user):[a-z0-9][a-z0-9_-]{0,62}(/[A-Za-z0-9][A-Za-z0-9._ -]{0,199})?:[A-Za-z0-9_]{1,63}"
)


def check_router_config(spec: Spec) -> list[Violation]:
    found: list[Violation] = []
    seen: set[str] = set()
    if len(spec.get("deployments", ())) > MOST_DEPLOYMENTS:
        return [Violation("router_config.deployments", f"are more than {MOST_DEPLOYMENTS}")]
    for index, deployment in enumerate(spec.get("deployments", ())):
        field = f"router_config.deployments[{index}]"
        if deployment["deployment_id"] in seen:
            found.append(Violation(f"{field}.deployment_id", f"{deployment['deployment_id']} is used twice"))
        seen.add(deployment["deployment_id"])
        found += check_deployment(deployment, field)
    return found


def check_deployment(deployment: Spec, field: str) -> list[Violation]:
    found: list[Violation] = []
    if deployment.get("model_group") == OFFLINE_GROUP:
        found.append(Violation(f"{field}.model_group", "offline is the suite's own model"))
    reference = deployment.get("api_key_reference")
    if reference and not _REFERENCE.fullmatch(reference):
        # The value may be a key: it is not repeated.
        found.append(
            Violation(
                f"{field}.api_key_reference",
                "is neither os.environ/NAME nor secret:provider:field; a key itself is refused",
            )
        )
    if any(mark in deployment.get("api_base", "") for mark in "@?#"):
        found.append(Violation(f"{field}.api_base", "has credentials or a query; a key belongs in api_key_reference"))
    return found
