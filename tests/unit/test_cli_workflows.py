"""Trees and charts at the terminal."""

from __future__ import annotations

import io

from dynamicagents.execution.v1 import event_pb2
from dynamicagents.registry.v1 import workflow_pb2
from google.protobuf.json_format import ParseDict
from rich.console import Console

from cli.graph import mermaid
from cli.tree import LiveTree, Tree


def event(scope: str, *path: str, **what: object) -> event_pb2.ExecuteEvent:
    return event_pb2.ExecuteEvent(
        source=event_pb2.Source(path=path, depth=len(path) - 1, scope=scope),
        **what,  # type: ignore[arg-type]
    )


def started(kind: str, iteration: int = 0, attempt: int = 1) -> event_pb2.StepStarted:
    return event_pb2.StepStarted(step_kind=kind, iteration=iteration, attempt=attempt)


SIGNAL = {"step_id": "d", "wait": {"signal": "s"}}
EVENTS = [
    event("", "flow", execution_started=event_pb2.ExecutionStarted(workflow_id="flow")),
    event("l", "flow", "l", step_started=started("loop")),
    event("l/a[1]", "flow", "l", "a", step_started=started("agent", 1)),
    event("l/a[1]/member", "flow", "l", "a", "helper", member_started=event_pb2.MemberStarted(agent_id="helper")),
    event("l/a[1]/member", "flow", "l", "a", "helper", content_delta=event_pb2.ContentDelta(text="[red] word")),
    event("l/a[2]~2", "flow", "l", "a", step_started=started("agent", 2, 2)),
    event("l/a[2]~2", "flow", "l", "a", step_completed=event_pb2.StepCompleted(outcome=event_pb2.STEP_OUTCOME_SKIPPED)),
    event("w", "flow", "w", wait_started=event_pb2.WaitStarted(signal="go")),
]


def test_tree_from_sources_alone() -> None:
    tree = Tree()
    for one in EVENTS:
        tree.follow(one)
    drawn = Console(file=io.StringIO(), width=100)
    drawn.print(tree.drawn())
    lines = drawn.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.strip() for line in lines] == [
        "… flow",
        "├── … l loop",
        "│   └── ⤼ a agent, round 2, try 2",
        "│       └── … helper [red] word",
        "└── ⏸ w for the signal go",
    ]


def test_where_nobody_looks_it_is_drawn_once() -> None:
    console = Console(file=io.StringIO(), width=100)
    live = LiveTree(console)
    for one in EVENTS:
        live.show(one)
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    live.stop()
    live.stop()
    assert console.file.getvalue().count("flow") == 1  # type: ignore[attr-defined]


def test_chart() -> None:
    steps = [
        {"step_id": "a", "agent": {"agent_id": "helper"}, "compensation": {"step_id": "u", "team": {"team_id": "t"}}},
        {
            "step_id": "c",
            "condition": {
                "condition": 'steps.a == "x"',
                "then": {"steps": [{"step_id": "b", "wait": {"delay": "60s"}}]},
            },
        },
        {
            "step_id": "r",
            "router": {
                "selector": "input",
                "choices": {"one|two": {"steps": [{"step_id": "d", "wait": {"signal": "s"}}]}},
            },
        },
        {
            "step_id": "l",
            "loop": {"max_iterations": 3, "body": {"steps": [{"step_id": "e", "function": {"tool_id": "t/t"}}]}},
            "on_error": "ON_ERROR_FALLBACK",
            "fallback": {"step_id": "f", "workflow": {"workflow_id": "w"}},
        },
    ]
    lines = list(mermaid(ParseDict({"spec": {"steps": steps}}, workflow_pb2.Workflow())))
    assert lines[0] == "flowchart TD"
    for line in (
        "  begin --> s_a",
        '  s_a -.->|"undone by"| s_u',
        '  s_c{"c: steps.a == #quot;x#quot;"}',
        '  s_c -->|"yes"| s_b',
        "  s_c --> s_r",
        '  s_r -->|"one#124;two"| s_d',
        '  s_l -->|"each round"| s_e',
        '  s_e -->|"again"| s_l',
        '  s_l -->|"on failure"| s_f',
        '  s_f[["f: workflow w"]]',
        "  s_f --> done",
    ):
        assert line in lines, (line, lines)
    assert len(lines) == len(set(lines))
