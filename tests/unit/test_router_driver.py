from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from libs import errors
from services.router.model import (
    CallOptions,
    ChatCall,
    Chunk,
    EmbedCall,
    Embedded,
    ErrorClass,
    Facts,
    MidStreamFailure,
    Ranked,
    RerankCall,
    Reranked,
    ToolCallDelta,
    Usage,
)
from services.router.model.health import Circuit
from services.router.service import attempts
from tests.router_script import (
    ANSWER,
    CALL,
    CALLER,
    LAST,
    Script,
    deployment,
    down,
    indecent,
    limited,
    refused,
    rejected,
    script,
    too_long,
)

NOT = "NO_DEPLOYMENT_AVAILABLE"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_FIRST_PAUSE", 0.001)


def call(**options: Any) -> ChatCall:
    return replace(CALL, options=CallOptions(**options))


async def chat(made: Script, **options: Any) -> Chunk:
    return await made.router().chat(CALLER, call(**options))


async def fails(made: Script, kind: type[errors.Error], reason: str, **options: Any) -> errors.Error:
    with pytest.raises(kind) as caught:
        await chat(made, **options)
    assert caught.value.reason_code == reason
    assert all(state.in_flight == 0 for state in made.states)
    return caught.value


def tried(whole: Chunk) -> list[tuple[str, str, str]]:
    assert whole.answered_by
    failed = [(f.model_group, f.deployment_id, f.reason) for f in whole.answered_by.failed_attempts]
    answered = whole.answered_by.deployment
    return [*failed, (answered.model_group, answered.deployment_id, "")]


async def test_another_deployment_first_then_the_next_order_then_another_group() -> None:
    made = script(
        deployment("a"),
        deployment("b"),
        deployment("later", order=1),
        deployment("other", "h"),
        turns={name: [[down()]] for name in ("a", "b", "later")},
        num_retries=1,
        fallbacks={"g": ("h",)},
    )
    whole = await chat(made)
    assert {made.asked[0], made.asked[1]} == {"a", "b"}
    assert made.asked[2:] == ["later", "later", "other"]
    assert [group for group, _, _ in tried(whole)] == ["g", "g", "g", "g", "h"]


async def test_fallbacks_of_fallbacks_are_bounded_and_never_go_back() -> None:
    groups = [f"g{n}" for n in range(10)]
    made = script(
        *(deployment(f"d{n}", group) for n, group in enumerate(groups)),
        turns={f"d{n}": [[down()]] for n in range(10)},
        num_retries=0,
        fallbacks={group: (groups[(n + 1) % 10], "g0") for n, group in enumerate(groups)},
        max_fallbacks=3,
    )
    with pytest.raises(errors.Unavailable) as caught:
        await made.router().chat(CALLER, replace(CALL, model="g0"))
    assert made.asked == ["d0", "d1", "d2", "d3"]
    assert caught.value.metadata["attempts"] == "4"


@pytest.mark.parametrize(
    ("failure", "group"), [(too_long(), "long"), (indecent(), "open"), (down(), "same"), (rejected(), "same")]
)
async def test_fallbacks_go_by_the_error(failure: Any, group: str) -> None:
    made = script(
        *(deployment(name, name) for name in ("g", "long", "open", "same")),
        turns={"g": [[failure]]},
        num_retries=0,
        context_window_fallbacks={"g": ("long",)},
        content_policy_fallbacks={"*": ("open",)},
        default_fallbacks=("same",),
    )
    assert (await chat(made)).text == "hello"
    assert made.asked == ["g", group]


async def test_without_fallbacks_where_the_call_wants_none() -> None:
    made = script(deployment("a"), deployment("b", "h"), turns={"a": [[refused()]]}, default_fallbacks=("h",))
    await fails(made, errors.Internal, "UPSTREAM_AUTH", disable_fallbacks=True)
    assert made.asked == ["a"]


async def test_an_alias_is_another_name() -> None:
    made = script(deployment("a"), aliases={"best": "g"})
    assert (await made.router().chat(CALLER, replace(CALL, model="best"))).text == "hello"


async def test_unknown_groups_come_with_near_names() -> None:
    made = script(deployment("a", "gpt-4o"), deployment("b", "claude"))
    with pytest.raises(errors.NotFound) as caught:
        await made.router().chat(CALLER, replace(CALL, model="gpt4o"))
    assert "gpt-4o" in caught.value.message
    assert "claude" not in caught.value.message


@pytest.mark.parametrize(
    ("settings", "options", "failure", "asked"),
    [
        ({}, {}, down(), 3),
        ({}, {"num_retries": 1}, down(), 2),
        ({}, {"num_retries": 0}, down(), 1),
        ({}, {}, rejected(), 1),
        ({"retry_policy": {ErrorClass.INTERNAL_SERVER: 4}}, {}, down(), 5),
        ({"retry_policy": {ErrorClass.INTERNAL_SERVER: 4}}, {"num_retries": 0}, down(), 1),
        ({"retry_policy": {ErrorClass.BAD_REQUEST: 1}}, {}, rejected(), 2),
        ({"retry_policy": {ErrorClass.BAD_REQUEST: 1}}, {"num_retries": 3}, rejected(), 1),
        (
            {
                "retry_policy": {ErrorClass.INTERNAL_SERVER: 4},
                "group_retry_policies": {"g": {ErrorClass.INTERNAL_SERVER: 1}},
            },
            {},
            down(),
            2,
        ),
        ({"retry_policy": {ErrorClass.RATE_LIMIT: 0}}, {}, down(), 3),
    ],
)
async def test_retries_by_class(settings: dict[str, Any], options: dict[str, Any], failure: Any, asked: int) -> None:
    made = script(deployment("a"), turns={"a": [[failure]]}, **settings)
    with pytest.raises(errors.Error):
        await chat(made, **options)
    assert len(made.asked) == asked


async def test_a_pause_that_is_too_long_goes_to_the_fallback() -> None:
    made = script(
        deployment("a"), deployment("b", "h"), turns={"a": [[limited(60.0)]]}, default_fallbacks=("h",), num_retries=5
    )
    assert (await chat(made)).text == "hello"
    assert made.asked == ["a", "b"]


async def test_all_of_a_group_cool_down() -> None:
    made = script(deployment("a"), deployment("b"), turns={"a": [[limited(7.0)]], "b": [[limited(3.0)]]})
    assert (await fails(made, errors.ResourceExhausted, "UPSTREAM_RATE_LIMITED")).metadata["attempts"] == "2"
    made.clock.now += 1
    error = await fails(made, errors.Unavailable, NOT)
    assert error.retry_after == pytest.approx(2.0)
    assert error.metadata == {"model_group": "g"}
    assert len(made.asked) == 2


async def test_a_circuit_closes_after_one_call_that_is_answered() -> None:
    gate = asyncio.Event()
    made = script(deployment("a"), turns={"a": [[down()], [gate, *ANSWER]]}, num_retries=0, allowed_fails=0)
    await fails(made, errors.Unavailable, "UPSTREAM_UNAVAILABLE")
    assert made.state("a").circuit is Circuit.OPEN
    made.clock.now += 5
    assert made.state("a").circuit is Circuit.HALF_OPEN
    trial = asyncio.create_task(chat(made))
    while len(made.asked) < 2:
        await asyncio.sleep(0)
    with pytest.raises(errors.Unavailable):
        await chat(made)
    gate.set()
    assert (await trial).text == "hello"
    assert made.state("a").circuit is Circuit.CLOSED
    assert (await chat(made)).text == "hello"


async def test_a_trial_that_fails_opens_the_circuit_again() -> None:
    made = script(deployment("a"), turns={"a": [[down()]]}, num_retries=0, allowed_fails=0)
    for _ in range(3):
        await fails(made, errors.Unavailable, "UPSTREAM_UNAVAILABLE")
        assert made.state("a").circuit is Circuit.OPEN
        made.clock.now += 5


async def test_a_trial_that_is_left_decides_nothing() -> None:
    made = script(deployment("a"), turns={"a": [[down()], [asyncio.Event()], ANSWER]}, num_retries=0, allowed_fails=0)
    await fails(made, errors.Unavailable, "UPSTREAM_UNAVAILABLE")
    made.clock.now += 5
    trial = asyncio.create_task(chat(made))
    while len(made.asked) < 2:
        await asyncio.sleep(0)
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    assert (made.state("a").trials, made.state("a").circuit) == (0, Circuit.HALF_OPEN)
    assert (await chat(made)).text == "hello"


async def test_what_is_over_its_limit_waits_for_the_next_minute() -> None:
    made = script(deployment("a", rpm=2))
    for _ in range(2):
        await chat(made)
    error = await fails(made, errors.Unavailable, NOT)
    assert error.retry_after == pytest.approx(60 - made.clock.now % 60)
    made.clock.now += error.retry_after or 0
    await chat(made)


async def test_a_missing_capability_is_named() -> None:
    made = script(deployment("a", capabilities=("!vision",)), pre_call_checks=True)
    with pytest.raises(errors.FailedPrecondition) as caught:
        await made.router().chat(CALLER, replace(CALL, needs=frozenset({"vision"})))
    assert caught.value.reason_code == "CAPABILITY_MISSING"
    assert caught.value.metadata == {"capability": "vision", "model_group": "g"}


async def test_a_conversation_that_fits_nowhere_goes_to_the_longer_context() -> None:
    made = script(deployment("a"), deployment("b", "h"), pre_call_checks=True, context_window_fallbacks={"g": ("h",)})
    made.known = {"a": Facts(context_window=10), "b": Facts(context_window=1000)}
    long = replace(CALL, messages=[{"role": "user", "content": "word " * 100}])
    assert (await made.router().chat(CALLER, long)).text == "hello"
    assert made.asked == ["b"]
    made.table_now = replace(made.table_now, context_window_fallbacks={})
    with pytest.raises(errors.InvalidArgument) as caught:
        await made.router().chat(CALLER, long)
    assert caught.value.reason_code == "CONTEXT_WINDOW_EXCEEDED"


async def test_all_credentials_come_in_one_request_and_a_refused_one_is_renewed_once() -> None:
    references = {"aws_secret_access_key": "secret:aws:key", "aws_session": "secret:aws:session"}
    keyed = deployment("a", key_reference="secret:aws:id", credential_references=references)
    made = script(keyed, turns={"a": [[refused()], ANSWER]})
    await chat(made)
    assert made.resolved == [["secret:aws:id", "secret:aws:key", "secret:aws:session"]] * 2
    old, new = made.credentials
    assert (old.api_key, new.api_key) == ("old value of secret:aws:id", "new value of secret:aws:id")
    assert new.parameters == {name: f"new value of {reference}" for name, reference in references.items()}
    assert "value" not in repr(new)


class Unresolved(Script):
    async def resolve(self, references: Sequence[str], *, refresh: bool = False) -> Sequence[str]:
        raise errors.FailedPrecondition("no", reason="SECRET_UNRESOLVED")


async def test_a_key_that_cannot_be_had_is_not_the_deployments_fault() -> None:
    table = script(deployment("a", key_reference="ref"), deployment("b", "h"), allowed_fails=0).table_now
    made = Unresolved(table)
    await fails(made, errors.FailedPrecondition, "SECRET_UNRESOLVED")
    assert (made.state("a").circuit, made.state("a").outcomes.within(60, made.clock()).requests) == (Circuit.CLOSED, 0)
    made.table_now = replace(table, default_fallbacks=("h",))
    assert (await chat(made)).text == "hello"


def breaking(**settings: Any) -> Script:
    return script(deployment("a"), deployment("b", order=1), turns={"a": [[Chunk("he "), down()]]}, **settings)


async def test_a_broken_stream_fails() -> None:
    made = breaking()
    assert (await fails(made, errors.Unavailable, "UPSTREAM_UNAVAILABLE")).metadata["attempts"] == "1"


async def test_a_broken_stream_begins_again() -> None:
    made = breaking(num_retries=0)
    stream = made.router().chat_stream(CALLER, call(mid_stream_failure=MidStreamFailure.RESTART))
    chunks = [chunk async for chunk in stream]
    at = next(n for n, chunk in enumerate(chunks) if chunk.restarted)
    assert [chunk.text for chunk in chunks[:at]] == ["he "]
    assert [chunk.text for chunk in chunks[at:]] == ["", "he", "llo", ""]
    restarted = chunks[at].restarted
    assert restarted
    assert (restarted.deployment_id, restarted.reason) == ("a", "UPSTREAM_UNAVAILABLE")
    assert (await chat(breaking(num_retries=0), mid_stream_failure=MidStreamFailure.RESTART)).text == "hello"


async def test_a_broken_stream_goes_on_where_a_model_can() -> None:
    made = breaking(num_retries=0)
    made.known = {"b": Facts(capabilities=frozenset({"prefill"}))}
    made.turns["b"] = [[Chunk(" llo"), LAST]]
    stream = made.router().chat_stream(CALLER, call(mid_stream_failure=MidStreamFailure.CONTINUE))
    chunks = [chunk async for chunk in stream]
    assert not any(chunk.restarted for chunk in chunks)
    assert "".join(chunk.text for chunk in chunks) == "he llo"
    assert made.calls[-1].messages[-1] == {"role": "assistant", "content": "he", "prefix": True}


@pytest.mark.parametrize(
    "first", [[Chunk("he", tool_call_deltas=(ToolCallDelta(0),)), down()], [Chunk(reasoning="hm"), down()]]
)
async def test_what_cannot_go_on_begins_again(first: list[Any]) -> None:
    made = breaking(num_retries=0)
    made.known = {"b": Facts(capabilities=frozenset({"prefill"}))}
    made.turns["a"] = [first]
    assert (await chat(made, mid_stream_failure=MidStreamFailure.CONTINUE)).text == "hello"
    assert len(made.calls[-1].messages) == 1


async def test_no_model_can_go_on() -> None:
    made = breaking(num_retries=0)
    assert (await chat(made, mid_stream_failure=MidStreamFailure.CONTINUE)).text == "hello"
    assert len(made.calls[-1].messages) == 1


async def test_the_first_token_and_silence_have_limits_of_their_own() -> None:
    silent = script(deployment("a"), turns={"a": [[5.0]]}, num_retries=0, timeout=30.0)
    await fails(silent, errors.DeadlineExceeded, "DEADLINE_EXCEEDED", first_token_timeout=0.02)
    pausing = script(deployment("a"), turns={"a": [[Chunk("he"), 5.0]]}, num_retries=0, timeout=30.0)
    await fails(pausing, errors.DeadlineExceeded, "DEADLINE_EXCEEDED", idle_timeout=0.02)
    configured = script(deployment("a"), turns={"a": [[5.0]]}, num_retries=0, first_token_timeout=0.02)
    await fails(configured, errors.DeadlineExceeded, "DEADLINE_EXCEEDED")
    own = script(deployment("a", timeout=0.02), turns={"a": [[Chunk("he"), 5.0]]}, num_retries=0)
    await fails(own, errors.DeadlineExceeded, "DEADLINE_EXCEEDED")


async def test_the_time_of_the_whole_call_ends_retries_too() -> None:
    made = script(deployment("a"), turns={"a": [[5.0]]}, num_retries=10, allowed_fails=0)
    await fails(made, errors.DeadlineExceeded, "DEADLINE_EXCEEDED", timeout=0.05)
    assert (len(made.asked), made.state("a").circuit) == (1, Circuit.CLOSED)


async def test_embeddings_and_rankings_take_the_same_way() -> None:
    vectors = Embedded([[1.0]], Usage(3, 0, 3), 0.1)
    made = script(deployment("a"), deployment("b"), turns={"a": [[down()], [vectors]], "b": [[down()], [vectors]]})
    embedded = await made.router().embed(CALLER, EmbedCall("g", ["x"]))
    assert embedded.answered_by
    assert (embedded.vectors, len(embedded.answered_by.failed_attempts)) == ([[1.0]], 2)
    ranked = Reranked([Ranked(0, 1.0)])
    made = script(deployment("a"), turns={"a": [[ranked]]})
    assert (await made.router().rerank(CALLER, RerankCall("g", "q", ["x"]))).results == [Ranked(0, 1.0)]
    assert made.state("a").in_flight == 0


async def test_a_probe_asks_exactly_one_deployment_for_one_token() -> None:
    made = script(deployment("a"), deployment("b"), turns={"b": [[down()]]})
    for each in made.table_now.groups["g"]:
        await made.router().probe(CALLER, each)
    assert made.asked == ["a", "b"]
    assert made.calls[0].settings == {"max_tokens": 1}
    assert [made.state(name).outcomes.within(60, made.clock()).failures for name in ("a", "b")] == [0, 1]
