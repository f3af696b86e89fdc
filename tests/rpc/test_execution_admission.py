"""Which runs wait, for how long, and what they may take."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import event_pb2, execution_pb2, execution_service_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from tests import harness
from tests.rpc.conftest import CANCELLED, COMPLETED, FAILED, RUNNING, execute, kinds, rest, sequences
from tests.rpc.test_execution import SECRET, bearer
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
QUEUED = execution_pb2.EXECUTION_STATUS_QUEUED
CONTINUE = execution_service_pb2.ON_DISCONNECT_CONTINUE
REJECT = execution_service_pb2.SESSION_POLICY_REJECT
INTERRUPT = execution_service_pb2.SESSION_POLICY_INTERRUPT
FOREVER = 30.0


async def queued(at: Any, **request: Any) -> tuple[Any, event_pb2.ExecuteEvent]:
    """An open ExecuteStream of a run that waits, and its first message."""
    stream = at.stream(**request)
    return stream, await stream.read()


async def test_run_over_the_bound_waits_and_says_its_place(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(max_executions=1, **database_settings)
    at.router.turns = [[FOREVER], text("done")]
    await at.create()
    first, first_id = await at.begin()
    second, beat = await queued(at)
    assert (beat.heartbeat.queue_position, beat.sequence) == (1, 0)
    found = await at.get(beat.execution_id)
    assert (found.status, found.queue_position, found.last_sequence, found.priority) == (QUEUED, 1, 0, 0)
    third, ahead = await queued(at, priority=7)
    assert ahead.heartbeat.queue_position == 1
    assert (await at.get(beat.execution_id)).queue_position == 2
    watched = at.watching(beat.execution_id)
    assert (await watched.read()).event.heartbeat.queue_position == 2
    await at.cancel(first_id)
    for stream in (second, third):
        events = await rest(stream)
        assert kinds(events) == ["execution_started", "content_delta", "usage_reported", "execution_completed"]
        assert sequences(events) == [1, 2, 3, 4]
    begun = [(await at.get(one.execution_id)).end_time.ToNanoseconds() for one in (ahead, beat)]
    assert begun == sorted(begun)
    assert kinds([answer.event for answer in await rest(watched)])[-1] == "execution_completed"
    assert (await at.get(beat.execution_id)).queue_position == 0
    await rest(first)


async def test_full_queue(bench: Bench) -> None:
    at = await bench(max_executions=1, max_queued=1)
    at.router.turns = [[FOREVER]]
    await at.create()
    await at.begin()
    await queued(at)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.execute()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert harness.reason_of(caught.value) == "QUEUE_FULL"
    wait = harness.detail(harness.status_of(caught.value), error_details_pb2.RetryInfo).retry_delay
    assert wait.ToTimedelta().total_seconds() > 0


async def test_tenant_has_its_own_bounds(bench: Bench) -> None:
    at = await bench(max_executions=9, max_executions_per_tenant=1, max_queued_per_tenant=1)
    at.router.turns = [[FOREVER]]
    await at.create()
    await at.begin()
    assert (await queued(at))[1].heartbeat.queue_position == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.execute()
    assert harness.reason_of(caught.value) == "QUEUE_FULL"


async def test_tenants_take_turns(bench: Bench) -> None:
    at = await bench(jwt_secret=SECRET, registry={"jwt_secret": SECRET}, max_executions=1)
    at.router.turns = [[FOREVER], text("done")]
    waiting = []
    for tenant in ("other", "acme"):
        at.metadata = bearer(tenant)
        await at.create()
    _, first_id = await at.begin()
    for tenant in ("acme", "acme", "acme", "other"):
        at.metadata = bearer(tenant)
        waiting.append((tenant, *await queued(at)))
    assert [beat.heartbeat.queue_position for _, _, beat in waiting] == [1, 2, 3, 1]
    at.metadata = bearer("acme")
    await at.cancel(first_id)
    begun = []
    for tenant, stream, _ in waiting:
        events = await rest(stream)
        assert events[-1].HasField("execution_completed")
        begun.append((events[0].time.ToNanoseconds(), tenant))
    assert [tenant for _, tenant in sorted(begun)].index("other") <= 1


async def test_queued_run_is_cancelled(bench: Bench) -> None:
    at = await bench(max_executions=1)
    at.router.turns = [[FOREVER]]
    await at.create()
    await at.begin()
    stream, beat = await queued(at)
    ended = await at.cancel(beat.execution_id, "changed my mind")
    assert (ended.status, ended.last_sequence) == (CANCELLED, 1)
    events = await rest(stream)
    assert [event.execution_cancelled.reason for event in events] == ["changed my mind"]
    assert len(at.router.requests) == 1


async def test_time_in_the_queue_is_time_of_the_run(bench: Bench) -> None:
    at = await bench(max_executions=1)
    at.router.turns = [[FOREVER]]
    await at.create()
    await at.begin()
    stream, _ = await queued(at, timeout=Duration(nanos=300_000_000))
    assert harness.detail_of_event((await rest(stream))[-1]).reason == "DEADLINE_EXCEEDED"


async def test_queued_run_whose_caller_vanishes(bench: Bench) -> None:
    at = await bench(max_executions=1)
    at.router.turns = [[FOREVER]]
    await at.create()
    await at.begin()
    stream, beat = await queued(at, on_disconnect=execution_service_pb2.ON_DISCONNECT_CANCEL)
    stream.cancel()
    async with asyncio.timeout(10):
        while (await at.get(beat.execution_id)).status != CANCELLED:
            await asyncio.sleep(0.02)


async def test_same_request_id_while_it_waits(bench: Bench) -> None:
    at = await bench(max_executions=1)
    at.router.turns = [[FOREVER], text("done")]
    await at.create()
    _, first_id = await at.begin()
    stream, beat = await queued(at, request_id="r")
    again, same = await queued(at, request_id="r")
    assert (same.execution_id, same.heartbeat.queue_position) == (beat.execution_id, 1)
    await at.cancel(first_id)
    assert sequences(await rest(stream)) == sequences(await rest(again)) == [1, 2, 3, 4]


async def test_queued_run_survives_its_process(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [[FOREVER], text("done")]
    await at.create()
    async with at.beside(max_executions=1) as other:
        _, first_id = await other.begin(on_disconnect=CONTINUE)
        _, beat = await queued(other, on_disconnect=CONTINUE)
        await at.cancel(first_id)  # its slot is free, but the run that waits is handed over before or after it begins
    events = await at.watch(beat.execution_id)
    assert kinds([event for event in events if not event.HasField("heartbeat")])[-1] == "execution_completed"
    assert sequences(events)[-1] == (await at.get(beat.execution_id)).last_sequence


async def test_runs_of_a_session_do_not_interleave(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [[0.05, *text("done")]]
    await at.create()
    async with at.beside() as other:
        runs = [side.execute(session_id="s") for side in (at, other) * 4]
        ended = await asyncio.gather(*runs)
    assert {run.status for run in ended} == {COMPLETED}
    spans = []
    for run in ended:
        events = await at.watch(run.execution_id)
        spans.append((events[0].time.ToNanoseconds(), events[-1].time.ToNanoseconds()))
    spans.sort()
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))


async def test_busy_session_refuses(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [[FOREVER], text("done")]
    await at.create()
    _, first_id = await at.begin(session_id="s")
    async with at.beside() as other:
        for side in (at, other):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await side.execute(session_id="s", session_policy=REJECT)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            info = harness.detail(harness.status_of(caught.value), error_details_pb2.ErrorInfo)
            assert (info.reason, info.metadata["execution_id"]) == ("SESSION_BUSY", first_id)
        await at.cancel(first_id)
        assert (await other.execute(session_id="s", session_policy=REJECT)).status == COMPLETED


async def test_newer_run_interrupts(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [[FOREVER], [FOREVER], text("done")]
    await at.create()
    first, _ = await at.begin(session_id="s")
    second, second_id = await at.begin(session_id="s", session_policy=INTERRUPT)
    assert (await rest(first))[-1].execution_cancelled.reason == f"interrupted by {second_id}"
    async with at.beside() as other:
        third = await other.execute(session_id="s", session_policy=INTERRUPT)
        assert third.status == COMPLETED
    assert (await rest(second))[-1].execution_cancelled.reason == f"interrupted by {third.execution_id}"


@pytest.mark.parametrize(
    ("budget", "name", "limit", "used", "model_calls"),
    [
        ({"max_model_calls": 2}, "max_model_calls", "2", "2", 2),
        ({"max_cost_usd": 0.5}, "max_cost_usd", "0.5", "0.5", 2),
        ({"max_total_tokens": 20}, "max_total_tokens", "20", "30", 2),
        ({"max_tool_calls": 1}, "max_tool_calls", "1", "1", 2),
    ],
)
async def test_budget_runs_out(
    bench: Bench, budget: dict[str, Any], name: str, limit: str, used: str, model_calls: int
) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}', f"call-{n}")) for n in range(9)]
    await at.create(tools=[{"tool_id": "builtin/calculator"}])
    events = await at.run(budget=budget)
    failed = harness.detail_of_event(events[-1])
    assert failed.reason == "BUDGET_EXCEEDED"
    assert dict(failed.metadata) == {"budget": name, "limit": limit, "used": used}
    assert events[-1].execution_failed.usage.model_calls == model_calls
    found = await at.get(events[0].execution_id)
    assert (found.status, found.budget) == (FAILED, execution_pb2.Budget(**budget))
    assert found.usage.total_tokens == 15 * model_calls


async def test_budget_that_is_enough_changes_nothing(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=[{"tool_id": "builtin/calculator"}])
    budget = {"max_model_calls": 2, "max_tool_calls": 1, "max_cost_usd": 0.3, "max_total_tokens": 16, "max_depth": 1}
    assert (await at.execute(budget=budget)).status == COMPLETED


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_cost_usd", -0.01),
        ("max_cost_usd", float("nan")),
        ("max_cost_usd", float("inf")),
        ("max_total_tokens", -1),
        ("max_model_calls", -1),
        ("max_tool_calls", -1),
        ("max_depth", -1),
    ],
)
async def test_bad_budgets(bench: Bench, field: str, value: float) -> None:
    at = await bench()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.execute(budget={field: value})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"budget.{field}" in harness.fields_of(caught.value)


async def test_call_whose_deadline_is_past_leaves_nothing(bench: Bench) -> None:
    at = await bench(max_executions=1)
    await at.create()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.executions.Execute(execute(), timeout=0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await at.execute()).status == COMPLETED


async def test_time_out_that_has_learnt(bench: Bench) -> None:
    at = await bench(model_patience=3.0, model_patience_floor=0.2)
    await at.create()
    for _ in range(20):
        assert (await at.execute()).status == COMPLETED
    at.router.turns = [[FOREVER]]
    failed = await at.execute()
    assert failed.status == FAILED
    assert "far longer than it usually takes" in failed.error.message
    assert failed.status != RUNNING
