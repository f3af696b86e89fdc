"""Bad input over the wire: refused with the field, by whichever way it comes, and nothing of it is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests import harness
from tests.registry_client import FIVE, METHODS, OFFLINE, TEN, Registry, id_field, invalid, noun, resource

AGENT, WORKFLOW, TOOL = Kind.AGENT, Kind.WORKFLOW, Kind.TOOL_DEFINITION
STEP = {"step_id": "one", "agent": {"agent_id": "member"}}
MASKED = (*TEN, *FIVE, Kind.PROMPT, Kind.AGENT_TEMPLATE)


@pytest.fixture
async def registry(make_settings: Callable[..., Any], database_settings: dict[str, Any]) -> AsyncIterator[Registry]:
    async with harness.registry(make_settings(RegistrySettings, **database_settings)) as (_, channel):
        made = Registry(channel)
        await made.member()
        yield made


def when(condition: str) -> dict[str, Any]:
    choice = {"step_id": "if", "condition": {"condition": condition, "then": {"steps": [STEP]}}}
    return {"steps": [choice]}


def answering(**schema: Any) -> dict[str, Any]:
    return {"model": OFFLINE, "output_schema": {"type": "object", **schema}}


CONDITION = "steps[0].condition.condition"
BAD: list[tuple[Kind, dict[str, Any], str]] = [
    (WORKFLOW, when("1 +"), CONDITION),
    (WORKFLOW, when("'a text'"), CONDITION),
    (WORKFLOW, when("nobody == 1"), CONDITION),
    (WORKFLOW, when("steps.later.output == 'x'"), CONDITION),
    (AGENT, answering(properties=5), "output_schema"),
    (AGENT, answering(**{"$schema": "https://example.org/mine"}), "output_schema"),
    (AGENT, answering(**{"$ref": "https://example.org/other"}), "output_schema"),
    (TOOL, {"input_schema": {"type": "nonsense"}}, "input_schema"),
    (Kind.PROMPT, {"template": "{{ unclosed"}, "template"),
]


@pytest.mark.parametrize(("kind", "spec", "field"), BAD)
async def test_what_a_run_must_never_meet(registry: Registry, kind: Kind, spec: dict[str, Any], field: str) -> None:
    path = f"{kind}.spec.{field}"
    there = await registry.create(kind, "there")
    assert await invalid(registry.create(kind, "new", spec=spec)) == [path]
    assert await invalid(registry.create(kind, "new", spec=spec, validate_only=True)) == [path]
    assert await invalid(registry.update(kind, "there", spec=spec)) == [path]
    assert await invalid(registry.apply({kind.value: resource(kind, "new", spec=spec)})) == [f"resources[0].{path}"]
    if kind in TEN:
        merged = {kind.value: resource(kind, "there", spec=spec)}
        assert await invalid(registry.call(f"Merge{noun(kind)}", **merged, base_revision=1)) == [path]
    assert await registry.get(kind, "there") == there
    assert len(await registry.audit()) == 2


@pytest.mark.parametrize("kind", MASKED)
async def test_masks_of_every_kind(registry: Registry, kind: Kind) -> None:
    before = await registry.create(kind)
    for mask in ("nonsense", "spec.nonsense", "revision", "etag", "createTime", "spec.labels.x", ""):
        patch = {kind.value: resource(kind, "x", display_name="New")}
        assert await invalid(registry.call(f"Update{noun(kind)}", **patch, update_mask=mask)) == ["update_mask"]
    assert await registry.get(kind) == before


LISTS: dict[str, dict[str, Any]] = {
    **{f"List{noun(kind)}s": {} for kind in MASKED},
    **{f"List{noun(kind)}Revisions": {id_field(kind): "x"} for kind in (*TEN, Kind.PROMPT)},
    "ListRouterConfigRevisions": {},
    "ListAuditEntries": {},
}


async def test_tokens_of_every_list(registry: Registry) -> None:
    """One of another list, one that was changed, and one that was never given."""
    for number in range(3):
        await registry.call("UpdateRouterConfig", router_config={"num_retries": number}, update_mask="numRetries")
        for kind in MASKED:
            await registry.create(kind, f"y{number}")
            await registry.apply({kind.value: resource(kind, "x", display_name=str(number))})
    listing = {
        name
        for name in METHODS
        if name.startswith("List") and "page_token" in METHODS[name][2]().DESCRIPTOR.fields_by_name
    }
    assert listing == {*LISTS}
    tokens = {}
    for method, fields in LISTS.items():
        tokens[method] = (await registry.call(method, **fields, page_size=1)).next_page_token
        assert tokens[method], method
    for method, fields in LISTS.items():
        other = next(token for name, token in tokens.items() if name != method)
        mine = tokens[method]
        changed = mine[:8] + ("A" if mine[8] != "A" else "B") + mine[9:]
        for token in (other, changed, mine[:-2], mine + mine, "nonsense", "é", "=" * 20):
            assert await invalid(registry.call(method, **fields, page_token=token)) == ["page_token"], (method, token)
        await registry.call(method, **fields, page_size=1, page_token=mine)
