from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from libs import deadline, errors, identity, server
from libs.identity import Caller
from services.execution.model.targets import Agent
from services.execution.model.tools import ASK_USER, DEFAULT_TOOL_TIMEOUT, BoundTool, SourceStatus, Tool
from services.execution.service.builtin import Builtin
from services.execution.service.builtin.calculator import calculate
from services.execution.service.builtin.clock import current_time
from services.execution.service.catalogue import Catalogue, Query
from services.execution.service.names import fitted
from services.execution.service.schemas import validator
from services.execution.service.sources import Changes
from services.execution.service.tools import ToolError, Tools, clipped, violations

CALCULATOR = "builtin/calculator"
ROOT = Path(__file__).parents[2]
ANN = Caller("default", "ann", frozenset())


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1", "1"),
        ("17 * 23", "391"),
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("2 ** 3 ** 2", "512"),
        ("-2 ** 2", "-4"),
        ("(-2) ** 2", "4"),
        ("+5 - -5", "10"),
        ("7 / 2", "3.5"),
        ("6 / 2", "3"),
        ("7 // 2", "3"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("2 ** -1", "0.5"),
        ("2 ** 0.5", "1.4142135623730951"),
        ("1e3", "1000"),
        ("1_000 + 0x10", "1016"),
        ("0.1 + 0.2", "0.30000000000000004"),
        (" 1 +\t1 ", "2"),
        ("sqrt(16) + abs(-3)", "7"),
        ("round(2.675, 2)", "2.67"),
        ("round(1234, -2)", "1200"),
        ("max(1, 5, 3) - min(4, 2)", "3"),
        ("log10(1000)", "3"),
        ("floor(2.7) + ceil(2.1)", "5"),
        ("cos(pi)", "-1"),
        ("log(e)", "1"),
        ("2 ** 100", str(2**100)),
        ("10 ** 999", str(10**999)),
        ("0 * 10 ** 500", "0"),
    ],
)
def test_calculation(expression: str, result: str) -> None:
    assert calculate(expression) == result


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "1 +",
        "1; 2",
        "1\n2",
        "x = 1",
        "unknown",
        "1 / 0",
        "1 % 0",
        "0 ** -1",
        "True",
        "True + 1",
        "None",
        "1 < 2",
        "not 1",
        "1 if 1 else 2",
        "1 and 2",
        "'a'",
        "'a' * 10**9",
        "'a' + 'b'",
        "'%1000000000d' % 1",
        "f'{1:1000000000}'",
        "b'a'",
        "2j",
        "(-8) ** 0.5",
        "...",
        "[1, 2]",
        "(1, 2)",
        "{1: 2}",
        "[1][0]",
        "[x for x in (1, 2)]",
        "lambda: 1",
        "(lambda: 1)()",
        "__import__('os')",
        "open('/etc/passwd')",
        "eval('1')",
        "exec('1')",
        "(1).real",
        "().__class__.__bases__[0].__subclasses__()",
        "abs.__self__",
        "abs",
        "sqrt(-1)",
        "sqrt()",
        "sqrt(1, 2)",
        "log(0)",
        "exp(1000)",
        "1e999",
        "1e308 * 10",
        "1e999 - 1e999",
        "factorial(100000)",
        "1 << 100000",
        "~1",
        "1 @ 2",
        "max(*[1, 2])",
        "round(**{})",
        "1 \0",
        "９" * 2000,
    ],
)
def test_what_is_no_calculation(expression: str) -> None:
    with pytest.raises(ToolError):
        calculate(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "9**9**9**9",
        "10**100000",
        "10**-100000",
        "2**1e308",
        "(10**999)**999",
        "*".join(["(10**999)"] * 90),
        "round(5, -1000000000)",
        "round(5, -10**18)",
        "9" * 5000,
        "(" * 5000 + "1" + ")" * 5000,
        "-" * 5000 + "1",
        "+".join("1" * 5000) + "+x",
        "abs(" * 90 + "1" + ")" * 90 + "** x",
        "1" + "**9" * 300,
    ],
)
def test_bombs_are_refused_quickly(expression: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ToolError):
        calculate(expression)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "Asia/Kathmandu"])
def test_current_time(zone: str) -> None:
    told = datetime.fromisoformat(current_time(zone))
    assert told.tzinfo is not None
    assert abs(told - datetime.now(UTC)) < timedelta(seconds=5)


def test_current_time_is_utc_by_default() -> None:
    assert current_time().endswith("+00:00")


@pytest.mark.parametrize(
    "zone", ["", "Mars/Base", "America", "../etc/passwd", "/etc/passwd", "a\0b", "x" * 5000, "\ud800"]
)
def test_what_is_no_time_zone(zone: str) -> None:
    with pytest.raises(ToolError):
        current_time(zone)


class Many:
    """A source of many tools that do as told."""

    def __init__(self, count: int = 3, does: Any = None) -> None:
        self._count, self._does = count, does

    def tools(self) -> Sequence[Tool]:
        return [Tool(f"many/t{n:03}", f"t{n:03}", "", "", {"type": "object"}, "1") for n in range(self._count)]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        return str(await self._does())


async def listing(tools: Tools, page_size: int = 0, token: str = "", **query: Any) -> tuple[list[str], str]:
    catalogue = Catalogue(tools, Nobody(), server.Drain(), heartbeat=1)
    page = await catalogue.list(ANN, Query(**query), page_size, token)
    return [tool.tool_id for tool in page.tools], page.next_token


class Nobody:
    async def get(self, agent_id: str, revision: int) -> Agent:
        raise errors.NotFound("agent", agent_id)


async def test_pages_of_tools() -> None:
    tools = Tools([Many(5), Builtin()])
    seen: list[str] = []
    token = ""
    while True:
        page, token = await listing(tools, 2, token)
        seen += page
        if not token:
            break
    assert seen == sorted([*(f"many/t00{n}" for n in range(5)), *(tool.tool_id for tool in Builtin().tools())])
    assert len((await listing(Tools([Many(60)])))[0]) == 50
    assert await listing(Tools([])) == ([], "")


@pytest.mark.parametrize("token", ["x", "!!", "bm90IGpzb24=", "ü"])
async def test_bad_page_token(token: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await listing(Tools([Builtin()]), token=token)
    assert caught.value.violations[0].field == "page_token"


def test_binding() -> None:
    tools = Tools([Builtin()])
    bound = tools.bind({"tools": [{"tool_id": CALCULATOR}, {"tool_id": "builtin/current_time", "timeout": "1.5s"}]})
    assert [(b.tool.tool_id, b.timeout) for b in bound] == [(CALCULATOR, 30.0), ("builtin/current_time", 1.5)]
    assert tools.bind({}) == ()


def test_binding_an_unknown_tool() -> None:
    with pytest.raises(errors.FailedPrecondition) as caught:
        Tools([Builtin()]).bind({"tools": [{"tool_id": "builtin/gone"}]})
    assert caught.value.reason_code == "TOOL_UNKNOWN"
    assert caught.value.metadata == {"tool_id": "builtin/gone"}


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ({"expression": "1"}, []),
        ({}, ["arguments"]),
        ({"expression": 1}, ["arguments.expression"]),
        ({"expression": ""}, ["arguments.expression"]),
        ({"expression": "1" * 1001}, ["arguments.expression"]),
        ({"expression": "1", "more": 1}, ["arguments"]),
    ],
)
async def test_violations_name_fields(arguments: dict[str, Any], fields: list[str]) -> None:
    tools = Tools([Builtin()])
    assert [v.field for v in violations(tools.get(CALCULATOR), arguments)] == fields
    if fields:
        with pytest.raises(errors.InvalidArgument) as caught:
            await tools.call_directly(CALCULATOR, arguments)
        assert [v.field for v in caught.value.violations] == fields


def test_violations_fetch_nothing() -> None:
    tool = Tool("x/y", "y", "", "", {"$ref": "http://127.0.0.1:9/schema"}, "1")
    assert [v.description for v in violations(tool, {})] == [
        "the schema refers to what it does not have, or to itself without end"
    ]


async def test_calling_directly() -> None:
    tools = Tools([Builtin()])
    good = await tools.call_directly(CALCULATOR, {"expression": "6 * 7"})
    assert (good.output, good.is_error) == ("42", False)
    bad = await tools.call_directly(CALCULATOR, {"expression": "1 / 0"})
    assert bad.is_error
    with pytest.raises(errors.NotFound) as caught:
        await tools.call_directly("builtin/gone", {})
    assert (caught.value.kind, caught.value.name) == ("tool", "builtin/gone")


async def test_tool_that_fails_unexpectedly_tells_nothing() -> None:
    async def fails() -> str:
        raise RuntimeError("secret")

    tools = Tools([Many(1, fails)])
    result = await tools.call(BoundTool(tools.get("many/t000"), 1), {})
    assert result.is_error
    assert "secret" not in result.output


async def test_deadline_bounds_a_call() -> None:
    async def sleeps() -> str:
        await asyncio.sleep(30)
        return ""

    tools = Tools([Many(1, sleeps)])
    deadline.enter(0.05)
    result = await tools.call(BoundTool(tools.get("many/t000"), 20), {})
    assert result.is_error
    assert result.duration < 1


async def test_cancelling_a_call_is_no_error_of_the_tool() -> None:
    async def sleeps() -> str:
        await asyncio.sleep(30)
        return ""

    tools = Tools([Many(1, sleeps)])
    task = asyncio.create_task(tools.call(BoundTool(tools.get("many/t000"), 20), {}))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_version_follows_the_contract() -> None:
    one, other = Builtin().tools(), Builtin().tools()
    assert [tool.version for tool in one] == [tool.version for tool in other]
    assert len({tool.version for tool in one}) == len(one)


def test_a_pattern_binds_what_begins_with_it() -> None:
    tools = Tools([Builtin()])
    bound = tools.bind({"tools": [{"tool_id": "builtin/calculator", "timeout": "3s"}, {"tool_id": "builtin/*"}]})
    assert [(one.tool.tool_id, one.timeout) for one in bound][:2] == [
        ("builtin/calculator", 3.0),
        ("builtin/current_time", DEFAULT_TOOL_TIMEOUT),
    ]
    assert {one.tool.tool_id for one in bound} == {tool.tool_id for tool in Builtin().tools()} - {ASK_USER}
    with pytest.raises(errors.FailedPrecondition):
        tools.bind({"tools": [{"tool_id": "mcp/crm/*"}]})


def test_a_schemas_pattern_takes_linear_time() -> None:
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "pattern": "(a+)+$"}},
        "patternProperties": {"^(x+)+$": {"type": "integer"}},
        "additionalProperties": False,
    }
    started = time.monotonic()
    found = [error.message for error in validator(schema).iter_errors({"text": "a" * 40 + "!", "x" * 40 + "!": 1})]
    assert time.monotonic() - started < 5
    assert len(found) == 2
    assert not list(validator(schema).iter_errors({"text": "aaa", "xx": 1}))
    assert [error.message for error in validator(schema).iter_errors({"xx": "no"})] == ["'no' is not of type 'integer'"]


class Live:
    """A source whose tools come and go."""

    name = "mcp"

    def __init__(self, *tools: Tool, says: str = "") -> None:
        self.now, self.says, self.changes = list(tools), says, Changes()

    async def find(self, caller: Caller, pattern: str) -> Sequence[Tool]:
        return [tool for tool in self.now if tool.tool_id.startswith(pattern.removesuffix("*"))]

    async def known(self, caller: Caller) -> tuple[Sequence[Tool], Sequence[SourceStatus]]:
        return self.now, []

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        return self.says


def live(tool_id: str, **fields: Any) -> Tool:
    return Tool(tool_id, tool_id.rpartition("/")[2], "", "", {"type": "object"}, "1", **fields)


async def test_tools_that_come_and_go_are_pinned() -> None:
    source = Live(live("mcp/crm/find", timeout=2.0), live("mcp/crm/odd", unusable=True), live("mcp/web/find"))
    tools = Tools([Builtin()], [source])
    spec = {
        "tools": [{"tool_id": "mcp/crm/*", "timeout": "9s"}, {"tool_id": CALCULATOR}],
        "mcp_server_ids": ["web"],
    }
    agent = await tools.with_live(ANN, Agent("a", 1, "", spec))
    bound = tools.bind(spec, agent.functions)
    assert [(one.tool.tool_id, one.tool.function_name, one.timeout) for one in bound] == [
        ("mcp/crm/find", "find", 2.0),
        (CALCULATOR, "calculator", DEFAULT_TOOL_TIMEOUT),
        ("mcp/web/find", "mcp_web_find", DEFAULT_TOOL_TIMEOUT),
    ]
    source.now = []
    assert tools.bind(spec, agent.functions) == bound
    with pytest.raises(errors.FailedPrecondition) as caught:
        tools.bind(spec, (await tools.with_live(ANN, Agent("a", 1, "", spec))).functions)
    assert caught.value.reason_code == "TOOL_UNKNOWN"


def test_names_that_every_provider_takes() -> None:
    assert fitted("a.b/c d-é_1") == "a_b_c_d-__1"
    long = fitted("x" * 100)
    assert len(long) == 64
    assert long != fitted("x" * 101)
    same = [live(f"mcp/{'s' * n}/{'t' * 70}") for n in range(1, 30)]
    bound = Tools([], [Live(*same)]).bind(
        {"tools": [{"tool_id": "mcp/*"}]},
        [dataclasses.asdict(tool) for tool in [*same, live("mcp/x/update_session_state")]],
    )
    names = [one.tool.function_name for one in bound]
    assert len(set(names)) == 30
    assert all(len(name) <= 64 for name in names)
    assert "update_session_state" not in names


@pytest.mark.parametrize(
    ("says", "is_error", "output"),
    [
        ('{"n": 1}', False, '{"n": 1}'),
        ('{"n": "x"}', True, "the tool's result breaks its output schema: result.n: 'x' is not of type 'integer'"),
        ("no JSON", True, "the tool's result is not JSON, which its output schema asks for"),
    ],
)
async def test_results_are_checked(says: str, is_error: bool, output: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    tool = live("mcp/crm/n", output_schema=schema)
    identity.enter(ANN)
    result = await Tools([], [Live(tool, says=says)]).call_directly("mcp/crm/n", {})
    assert (result.is_error, result.output) == (is_error, output)


def test_what_speaks_mcp_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, services.execution.app; print([name for name in ('mcp', 'mcp_types') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_clipping_leaves_characters_whole() -> None:
    assert clipped("é" * 10, 20) == "é" * 10
    assert clipped("é" * 11, 21) == "é" * 10 + "\n[cut off: the result has 22 bytes, the limit is 21]"
