from __future__ import annotations

from typing import Any

import pytest

from services.registry.model.steps import DEEPEST
from services.registry.model.workflows import MOST_STEPS, check_workflow

AT = "workflow.spec.steps"


def run(step_id: str, **fields: Any) -> dict[str, Any]:
    return {"step_id": step_id, "agent": {"agent_id": "somebody"}, **fields}


def call(step_id: str, **arguments: str) -> dict[str, Any]:
    return {"step_id": step_id, "function": {"tool_id": "function/f", "arguments": arguments}}


def body(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"steps": list(steps)}


def loop(step_id: str, *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"step_id": step_id, "loop": {"body": body(*steps), "max_iterations": 3, **fields}}


def either(step_id: str, condition: str, then: dict[str, Any], otherwise: dict[str, Any]) -> dict[str, Any]:
    return {
        "step_id": step_id,
        "condition": {"condition": condition, "then": body(then), "otherwise": body(otherwise)},
    }


def parallel(step_id: str, *branches: dict[str, Any]) -> dict[str, Any]:
    return {"step_id": step_id, "parallel": {"branches": [body(branch) for branch in branches]}}


def router(step_id: str, selector: str, **choices: dict[str, Any]) -> dict[str, Any]:
    return {
        "step_id": step_id,
        "router": {"selector": selector, "choices": {name: body(step) for name, step in choices.items()}},
    }


def nested(depth: int) -> dict[str, Any]:
    step = run(f"s{depth}")
    for at in range(depth - 1, 0, -1):
        step = loop(f"s{at}", step)
    return step


def fields(*steps: dict[str, Any], **spec: Any) -> list[str]:
    return [violation.field for violation in check_workflow({"steps": list(steps), **spec})]


EVERYTHING = [
    run("ask", input="'Who is ' + string(input)"),
    parallel("both", run("left", input="steps.ask"), run("right", input="steps['ask']")),
    either("check", "steps.left == steps.right", run("same"), call("score", left="steps.left", n="1 + 2")),
    loop(
        "improve",
        run("draft", input="iteration > 1 ? steps.review : steps.score"),
        either("again", "iteration > 1 && last != ''", run("longer"), run("shorter", input="steps.longer")),
        run("review", input="last"),
        until="bool(steps.review.good) || iteration == 3",
    ),
    {**router("route", "string(steps.review.label)", a=run("path_a"), b=run("path_b")), "timeout": "30s"},
    {"step_id": "sub", "workflow": {"workflow_id": "other"}},
    {"step_id": "approve", "approval": {"question": "'Send to ' + string(steps.path_a) + '?'"}},
    {"step_id": "pause", "wait": {"time": "timestamp(string(state.at))"}},
    {"step_id": "signal", "wait": {"signal": "go"}},
    run(
        "send",
        on_error="ON_ERROR_FALLBACK",
        fallback=run("post", input="steps.approve"),
        compensation=run("recall", input="{'sent': steps.send, 'after': steps.end}"),
    ),
    run("end", input="[steps.send, steps.post]"),
]


def test_a_workflow_of_everything() -> None:
    schema = {"type": "object", "properties": {"who": {"type": "string"}}}
    assert check_workflow({"steps": EVERYTHING, "output": "steps.end", "input_schema": schema}) == []


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], [AT]),
        ([run("a"), run("a")], [f"{AT}[1].step_id"]),
        ([run("a"), loop("l", run("b"), run("a"))], [f"{AT}[1].loop.body.steps[1].step_id"]),
        (
            [run("a", on_error="ON_ERROR_FALLBACK", fallback=run("a"), compensation=run("a"))],
            [f"{AT}[0].fallback.step_id", f"{AT}[0].compensation.step_id"],
        ),
        ([run("a", on_error="ON_ERROR_FALLBACK")], [f"{AT}[0].fallback"]),
        ([run("a", fallback=run("b"))], [f"{AT}[0].fallback"]),
        ([run("a", on_error="ON_ERROR_SKIP", fallback=run("b"))], [f"{AT}[0].fallback"]),
        ([{"step_id": "a", "function": {"tool_id": "mcp/crm"}}], [f"{AT}[0].function.tool_id"]),
    ],
)
def test_bad_shapes(steps: list[dict[str, Any]], expected: list[str]) -> None:
    assert fields(*steps) == expected


def test_default_choice() -> None:
    step = router("r", "'a'", a=run("b"))
    step["router"]["default_choice"] = "a"
    assert fields(step) == []
    step["router"]["default_choice"] = "c"
    assert fields(step) == [f"{AT}[0].router.default_choice"]


@pytest.mark.parametrize(
    ("step", "field"),
    [
        (run("b", input="nope"), "input"),
        (run("b", input="iteration"), "input"),
        (either("b", "input", run("c"), run("d")), "condition.condition"),
        (either("b", "1", run("c"), run("d")), "condition.condition"),
        (loop("b", run("c"), until="last"), "loop.until"),
        (loop("b", either("c", "last", run("d"), run("e"))), "loop.body.steps[0].condition.condition"),
        (router("b", "steps.a", x=run("c")), "router.selector"),
        (router("b", "true", x=run("c")), "router.selector"),
        (router("b", "'x'", x=run("c", input="nope")), 'router.choices["x"].steps[0].input'),
        ({"step_id": "b", "approval": {"question": "steps.a"}}, "approval.question"),
        ({"step_id": "b", "wait": {"time": "'2020-01-01T00:00:00Z'"}}, "wait.time"),
        (call("b", x="1", y="1 +"), 'function.arguments["y"]'),
        (call("b", x=""), 'function.arguments["x"]'),
        (parallel("b", run("c"), run("d", input="nope")), "parallel.branches[1].steps[0].input"),
    ],
)
def test_bad_expressions(step: dict[str, Any], field: str) -> None:
    assert fields(run("a"), run("z"), step) == [f"{AT}[2].{field}"]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([run("a", input="steps.nobody")], f"{AT}[0].input"),
        ([{**run("a"), "output_schema": {"type": "nothing"}}], f"{AT}[0].output_schema"),
        ([{**run("a"), "output_schema": {"$ref": "https://example.com"}}], f"{AT}[0].output_schema"),
        ([run("a", input="steps.b"), run("b")], f"{AT}[0].input"),
        ([run("a", input="steps.a")], f"{AT}[0].input"),
        ([parallel("p", run("a"), run("b", input="steps.a"))], f"{AT}[0].parallel.branches[1].steps[0].input"),
        ([either("c", "true", run("a"), run("b", input="steps.a"))], f"{AT}[0].condition.otherwise.steps[0].input"),
        ([router("r", "'x'", x=run("a"), y=run("b", input="steps.a"))], f'{AT}[0].router.choices["y"].steps[0].input'),
        ([either("c", "has(steps.a)", run("a"), run("b"))], f"{AT}[0].condition.condition"),
        ([loop("l", run("a", input="steps.l"))], f"{AT}[0].loop.body.steps[0].input"),
        ([loop("l", run("a", input="steps.b")), run("b")], f"{AT}[0].loop.body.steps[0].input"),
        (
            [run("a", on_error="ON_ERROR_FALLBACK", fallback=run("b", input="steps.a"))],
            f"{AT}[0].fallback.input",
        ),
        ([run("a", compensation=run("b")), run("c", input="steps.b")], f"{AT}[1].input"),
        ([run("a", compensation=run("b", input="steps.nobody"))], f"{AT}[0].compensation.input"),
    ],
)
def test_steps_that_have_not_run(steps: list[dict[str, Any]], expected: str) -> None:
    assert fields(*steps) == [expected]


@pytest.mark.parametrize(
    "steps",
    [
        [parallel("p", run("a"), run("b")), run("c", input="[steps.a, steps.b, steps.p]")],
        [loop("l", run("a", input="iteration > 1 ? steps.b : input"), run("b")), run("c", input="steps.b")],
        [loop("l", loop("m", run("a", input="has(steps.b) ? steps.b : last")), run("b"))],
        [run("a", on_error="ON_ERROR_FALLBACK", fallback=run("b")), run("c", input="steps.b")],
        [{**parallel("p", run("a")), "on_error": "ON_ERROR_FALLBACK", "fallback": run("b", input="steps.a")}],
    ],
)
def test_steps_that_may_have_run(steps: list[dict[str, Any]]) -> None:
    assert fields(*steps) == []


def test_output() -> None:
    assert fields(run("a"), output="steps.a") == []
    assert fields(run("a"), output="steps.b") == ["workflow.spec.output"]
    assert fields(run("a"), output="last") == ["workflow.spec.output"]
    assert fields(run("a", compensation=run("b")), output="steps.b") == ["workflow.spec.output"]


def test_input_schema() -> None:
    assert fields(run("a"), input_schema={"type": "nonsense"}) == ["workflow.spec.input_schema"]
    assert fields(run("a"), input_schema={"type": "array"}) == []


def test_depth() -> None:
    assert fields(nested(DEEPEST)) == []
    assert fields(nested(DEEPEST + 1)) == [f"{AT}[0]" + ".loop.body.steps[0]" * DEEPEST]
    spares = run("s0")
    for at in range(1, DEEPEST + 1):
        spares = run(f"s{at}", compensation=spares)
    assert fields(spares) == [f"{AT}[0]" + ".compensation" * DEEPEST]


def test_size_counts_nested_steps() -> None:
    steps = [run(f"s{n}", input=f"steps.s{n - 1}" if n else "input") for n in range(MOST_STEPS - 2)]
    assert fields(*steps, loop("l", run("a"))) == []
    assert fields(*steps, loop("l", run("a"), run("b"))) == [AT]
