"""`dynamic-agents apply`, `export` and `schema`, as a user types them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dynamicagents.registry.v1 import snapshot_pb2

from cli import bundles, schemas
from tests.suite_process import Suite

EXAMPLES = Path(__file__).parents[2] / "examples" / "bundle"
KINDS = sorted(schemas.KINDS)
AGENT = "kind: Agent\nagent_id: one\nspec: {model: {model: offline}}\n"


def texts() -> dict[str, str]:
    return {file.name: file.read_text() for file in EXAMPLES.glob("*.yaml")}


def documents(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def example(kind: str) -> dict[str, Any]:
    return next(d for text in texts().values() for d in documents(text) if d["kind"] == kind)


def refused(schema: dict[str, Any], document: Any) -> bool:
    return not jsonschema.Draft202012Validator(schema).is_valid(document)


@pytest.fixture(scope="module")
def applied(suite: Suite) -> Suite:
    done = suite.run("apply", "-f", str(EXAMPLES), "--json")
    assert done.returncode == 0, done.stderr
    actions = [json.loads(line)["action"] for line in done.stdout.splitlines()]
    assert actions == ["BUNDLE_ACTION_CREATED"] * 7
    return suite


def test_the_second_time_nothing_changes(applied: Suite) -> None:
    done = applied.run("apply", "-f", str(EXAMPLES))
    assert done.stdout.splitlines()[-1] == "7 unchanged"


def test_an_export_applies_to_itself(applied: Suite, tmp_path: Path) -> None:
    exported = applied.run("export")
    assert exported.returncode == 0, exported.stderr
    (tmp_path / "all.yaml").write_text(exported.stdout)
    again = applied.run("apply", "-f", str(tmp_path / "all.yaml"))
    assert again.stdout.splitlines()[-1].endswith("unchanged"), again.stdout
    assert "updated" not in again.stdout
    for document in documents(exported.stdout):
        jsonschema.validate(document, schemas.document_schema(document["kind"]))
        assert not schemas.SET_BY_SERVER & document.keys()


def test_an_export_into_a_folder(applied: Suite, tmp_path: Path) -> None:
    assert applied.run("export", "-o", str(tmp_path), "--kind", "mcp_server", "--kind", "Team").returncode == 0
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.yaml")} == {
        "mcp_server/crm.yaml",
        "team/crm-sales.yaml",
    }
    again = applied.run("apply", "-f", str(tmp_path), "--json")
    assert {json.loads(line)["action"] for line in again.stdout.splitlines()} == {"BUNDLE_ACTION_UNCHANGED"}
    one = applied.run("export", "--label", "bundle=none", "--json")
    assert (one.returncode, one.stdout) == (0, "")


def test_a_dry_run_shows_both_values(applied: Suite, tmp_path: Path) -> None:
    changed = (EXAMPLES / "events.yaml").read_text().replace("priority: 10", "priority: 20")
    (tmp_path / "events.yaml").write_text(changed)
    for _ in range(2):
        done = applied.run("apply", "-f", str(tmp_path), "--dry-run")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            "updated   event rule crm-new-lead, revision 2",
            "  - spec.priority: 10",
            "  + spec.priority: 20",
            "1 updated (dry run: nothing was stored)",
        ]


def test_prune_deletes_what_is_left_out(applied: Suite, tmp_path: Path) -> None:
    for name in ("kept", "left"):
        (tmp_path / f"{name}.yml").write_text(AGENT.replace("one", name) + "labels: {wave: one}\n")
    assert applied.run("apply", "-f", str(tmp_path)).returncode == 0
    (tmp_path / "left.yml").unlink()
    done = applied.run("apply", "-f", str(tmp_path), "--prune", "wave=one")
    assert "deleted   agent left, revision 2" in done.stdout
    assert "1 unchanged, 1 deleted" in done.stdout


def test_what_is_referred_to_is_not_pruned(applied: Suite, tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text((EXAMPLES / "agents.yaml").read_text())
    (tmp_path / "tools.yaml").write_text(AGENT + "labels: {bundle: crm}\n")
    for other in ("teams", "workflows", "events", "prompts"):
        (tmp_path / f"{other}.yaml").write_text((EXAMPLES / f"{other}.yaml").read_text())
    done = applied.run("apply", "-f", str(tmp_path), "--prune", "bundle=crm", "--dry-run")
    assert done.returncode == 1
    assert "RESOURCE_REFERENCED" in done.stderr


def test_router_configuration_is_a_document_too(applied: Suite, tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    file.write_text("kind: RouterConfig\nspec: {num_retries: 3, deployments: []}\n")
    assert applied.run("apply", "-f", str(file)).returncode == 0
    exported = applied.run("export", "--kind", "RouterConfig")
    assert documents(exported.stdout) == [{"kind": "RouterConfig", "spec": {"num_retries": 3}}]
    file.write_text("kind: RouterConfig\nspec: {num_retries: 3, deployments: [{deployment_id: d, model_group: g}]}\n")
    bad = applied.run("apply", "-f", str(file))
    assert f"{file}, document 1: spec.deployments[0].model" in bad.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("kind: Agnt\n", "document 1: kind: 'Agnt' is not one of"),
        ("agent_id: one\n", "document 1: kind: is required"),
        ("- a\n", "document 1: is not a mapping"),
        ("kind: Agent\nspec: {}\n", "document 1: agent_id: is required"),
        (AGENT + "spce: 1\n", "document 1: spce: is not a field"),
        ("kind: Agent\nagent_id: a\nspec: {model: {temprature: 1}}\n", "document 1: spec.model.temprature: is not a"),
        ("kind: Agent\nagent_id: a\nspec: {model: {temperature: hot}}\n", "document 1: spec.model.temperature: "),
        ("kind: Agent\nagent_id: a\nspec: {tools: [{}, {timeout: 5}]}\n", "document 1: spec.tools[1].timeout: "),
        ("kind: Agent\nagent_id: a\nlabels: {a: yes}\n", "document 1: labels: "),
        ("kind: Agent\nagent_id: 5\n", "document 1: agent_id: "),
        (f"{AGENT}---\n{AGENT}", "document 2: agent one is in "),
        (f"{AGENT}---\na: [\n", "document 2: not YAML: line "),
        ("kind: Agent\nkind: Team\n", "document 1: not YAML: line 2: the key 'kind' comes twice"),
        ("kind: Agent\nagent_id: a\nlabels: {on: x}\n", "the key True is not text: quote it"),
        ("kind: RouterConfig\nlabels: {}\n", "document 1: labels: is not a field"),
        ("kind: RouterConfig\nspec: {deployments: [{weight: x}]}\n", "document 1: spec.deployments[0].weight: "),
        ("# nothing\n", "has no documents"),
    ],
)
def test_a_bad_file_names_document_and_field(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "bundle.yaml"
    file.write_text(content)
    with pytest.raises(bundles.Fault) as caught:
        bundles.read(tmp_path if content == "# nothing\n" else file)
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_is_one_line_and_exit_code_1(applied: Suite, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(AGENT)
    (tmp_path / "b.yaml").write_text("kind: Team\nteam_id: t\nspec: {membres: []}\n")
    done = applied.run("apply", "-f", str(tmp_path))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert f"{tmp_path}/b.yaml, document 1: spec.membres: is not a field" in done.stderr


def test_faults_that_the_server_finds_name_the_document(applied: Suite, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(AGENT)
    (tmp_path / "b.yaml").write_text(f"{AGENT.replace('one', 'two')}---\nkind: Agent\nagent_id: three\nspec: {{}}\n")
    rule = applied.run("apply", "-f", str(tmp_path))
    assert (rule.returncode, len(rule.stderr.splitlines())) == (1, 1)
    assert f"{tmp_path}/b.yaml, document 2: spec.model.model: is required" in rule.stderr
    (tmp_path / "b.yaml").write_text("kind: EventRule\nevent_rule_id: r\nspec: {agent_id: nobody}\n")
    reference = applied.run("apply", "-f", str(tmp_path), "--json")
    fault = json.loads(reference.stderr)["error"]
    assert [(f["file"], f["field"]) for f in fault["fields"]] == [(f"{tmp_path}/b.yaml, document 1", "spec.agent_id")]
    assert applied.run("agent", "get", "one").returncode == 1


def test_bad_options(applied: Suite, tmp_path: Path) -> None:
    assert "--prune: not KEY=VALUE" in applied.run("apply", "-f", str(EXAMPLES), "--prune", "bundle").stderr
    assert "nothing.yaml" in applied.run("apply", "-f", str(tmp_path / "nothing.yaml")).stderr
    assert "Agnt: is not a kind" in applied.run("export", "--kind", "Agnt").stderr


@pytest.mark.parametrize("file", sorted(texts()))
def test_examples_fit_the_schema(file: str) -> None:
    whole = schemas.document_schema(*schemas.KINDS)
    for document in documents(texts()[file]):
        jsonschema.validate(document, whole)
        jsonschema.validate(document, schemas.document_schema(document["kind"]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one_and_refuses_a_typo(kind: str) -> None:
    schema = schemas.document_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    message = schemas.KINDS[kind].message_type
    ids = {} if kind == schemas.ROUTER_CONFIG else {message.fields[0].name: "a"}
    jsonschema.validate({"kind": kind, **ids}, schema)
    assert refused(schema, {"kind": kind, **ids, "spce": {}})
    assert refused(schema, {"kind": kind, **ids, "spec": {"spce": 1}})
    assert refused(schema, {"kind": "Other", **ids})
    assert refused(schemas.document_schema(*schemas.KINDS), {"kind": kind, **ids, "spec": {"spce": 1}})


def changed(kind: str, *path: str | int, to: Any) -> Iterator[Any]:
    document = copy.deepcopy(example(kind))
    inner: Any = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    yield document


@pytest.mark.parametrize(
    "document",
    [
        *changed("Agent", "agent_id", to="Not An Id"),
        *changed("Agent", "spec", "model", "temperature", to=3),
        *changed("Agent", "spec", "tools", 0, "timeout", to="5 minutes"),
        *changed("Agent", "spec", "tools", 0, "tool_id", to="calculator"),
        *changed("Agent", "spec", "instructions", to=["x"] * 101),
        *changed("Agent", "labels", "l" * 64, to="x"),
        *changed("Team", "spec", "mode", to="COORDINATE"),
        *changed("Team", "spec", "members", 0, "team_id", to="both"),
        *changed("Team", "spec", "members", 0, to={"role": "nobody"}),
        *changed("Workflow", "spec", "steps", 1, "condition", "then", "steps", 0, "stepid", to="x"),
        *changed("Workflow", "spec", "steps", 0, "retry", "max_attempts", to=0),
        *changed("EventRule", "spec", "agent_id", to="a"),
        *changed("McpServer", "spec", "stdio", to={"command": "x"}),
    ],
)
def test_what_breaks_a_rule_does_not_fit(document: dict[str, Any]) -> None:
    assert refused(schemas.document_schema(document["kind"]), document)


def test_64_bit_numbers_and_free_json_fit() -> None:
    schema = schemas.document_schema("Agent")
    for seed in (7, "7"):
        spec = {"model": {"model": "m", "seed": seed}, "output_schema": {"type": "object", "x": [1, None]}}
        jsonschema.validate({"kind": "Agent", "agent_id": "a", "spec": spec}, schema)


def test_schemas_for_editors(applied: Suite, tmp_path: Path) -> None:
    assert json.loads(applied.run("schema", "event_rule").stdout)["title"] == "EventRule"
    assert json.loads(applied.run("schema").stdout)["properties"]["kind"]["enum"]
    assert applied.run("schema", "-o", str(tmp_path / "made")).returncode == 0
    assert len(list((tmp_path / "made").glob("*.json"))) == len(KINDS) + 1
    assert applied.run("schema", "nonsense").returncode == 1


def test_texts_survive_yaml() -> None:
    snapshot = snapshot_pb2.ResourceSnapshot(kind=snapshot_pb2.RESOURCE_KIND_AGENT, resource_id="a")
    agent = snapshot.agent
    agent.agent_id, agent.display_name, agent.description = "a", "yes", "2026-01-01"
    agent.spec.instructions[:] = ["two\nlines\n", " \ttabs\n\n", "\u2028\x07\x85", "ção 🙂", "12:30", ""]
    agent.labels.update({"on": "null", "1": "0x10"})
    agent.spec.output_schema.update({"minimum": 0, "maximum": 1e300, "enum": [1.5, None, True, "~"]})
    (made,) = bundles._documents("x", bundles.to_yaml(snapshot))
    assert made.snapshot == snapshot
