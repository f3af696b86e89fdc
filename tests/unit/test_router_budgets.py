from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest

from libs import errors
from services.router.model import (
    Budget,
    BudgetScope,
    CallOptions,
    ChatCall,
    Chunk,
    EmbedCall,
    Facts,
    Guardrail,
    Pricing,
    RerankCall,
    RoutingTable,
)
from services.router.service import guardrails
from tests.router_script import ANSWER, CALL, CALLER, LAST, Script, configured, deployment, script


def budget(scope: BudgetScope, name: str = "", most: float = 1.0, period: float = 60.0) -> Budget:
    return Budget(scope, name, most, period)


async def spend(made: Script, *tags: str, times: int = 1) -> None:
    for _ in range(times):
        await made.router().chat(CALLER, replace(CALL, options=CallOptions(tags=tags)))


async def exceeded(made: Script, *tags: str) -> errors.Error:
    with pytest.raises(errors.ResourceExhausted) as caught:
        await spend(made, *tags)
    assert caught.value.reason_code == "BUDGET_EXCEEDED"
    return caught.value


async def test_a_tenants_budget_is_renewed_with_its_period() -> None:
    made = script(deployment("a"), budgets=(budget(BudgetScope.TENANT),))
    await spend(made, times=2)
    made.clock.now += 20
    error = await exceeded(made)
    assert error.metadata == {"budget": "tenant", "limit": "1", "used": "1"}
    assert error.retry_after == pytest.approx(40)
    made.clock.now += 40
    await spend(made)


@pytest.mark.parametrize(
    ("scope", "name", "counted"),
    [
        (BudgetScope.SUBJECT, "test", True),
        (BudgetScope.SUBJECT, "other", False),
        (BudgetScope.TAG, "batch", True),
        (BudgetScope.TAG, "other", False),
    ],
)
async def test_what_a_budget_counts(scope: BudgetScope, name: str, *, counted: bool) -> None:
    made = script(deployment("a"), budgets=(budget(scope, name, 0.5),))
    await spend(made, "&batch")
    if counted:
        assert (await exceeded(made, "batch")).metadata["budget"] == f"{scope}:{name}"
    else:
        await spend(made, "batch")


async def test_one_tag_spent_does_not_stop_the_others() -> None:
    made = script(deployment("a"), budgets=(budget(BudgetScope.TAG, "batch", 0.5),))
    await spend(made, "batch")
    await spend(made, "!batch", "night")
    await exceeded(made, "batch")


async def test_where_a_deployment_has_spent_its_own_the_others_serve() -> None:
    made = script(deployment("a", weight=1000.0), deployment("b"), budgets=(budget(BudgetScope.DEPLOYMENT, "a", 0.5),))
    while "a" not in made.asked:
        await spend(made)
    made.asked.clear()
    await spend(made, times=5)
    assert set(made.asked) == {"b"}


async def test_where_all_have_spent_theirs_the_call_ends_or_goes_elsewhere() -> None:
    made = script(deployment("a"), deployment("b", "h"), budgets=(budget(BudgetScope.PROVIDER, "openai", 0.5),))
    await spend(made)
    assert (await exceeded(made)).metadata["budget"] == "provider:openai"
    other = deployment("c", "h", model="anthropic/x")
    configured(made, groups={**made.table_now.groups, "h": (other,)}, default_fallbacks=("h",))
    await spend(made)
    assert made.asked[-1] == "c"


async def test_spending_outlives_the_table() -> None:
    made = script(deployment("a"), budgets=(budget(BudgetScope.TENANT),))
    await spend(made, times=2)
    configured(made, num_retries=0)
    await exceeded(made)


async def test_an_answer_that_is_left_costs_what_was_said() -> None:
    made = script(deployment("a"), budgets=(budget(BudgetScope.TENANT, most=100.0),))
    made.known = {"a": Facts(pricing=Pricing(0.0, 1.0))}
    made.turns = {"a": [[Chunk("x" * 40), *ANSWER]]}
    stream = made.router().chat_stream(CALLER, CALL)
    await anext(stream)
    await stream.aclose()
    assert made.ledger.spent("default", budget(BudgetScope.TENANT)) == 10.0


async def test_tokens_count_against_the_minute() -> None:
    made = script(deployment("a", tpm=25))
    await spend(made)
    with pytest.raises(errors.Unavailable):
        await spend(made)
    made.clock.now += 60
    await spend(made)


def guarded(kind: str, side: str = "input", **arguments: str) -> RoutingTable:
    guardrail = Guardrail("g", kind, side == "input", side == "output", arguments)
    return RoutingTable(guardrails=(guardrail,))


def said(text: str) -> ChatCall:
    return ChatCall("g", [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url"}]}])


@pytest.mark.parametrize(
    ("kind", "arguments", "text", "refused"),
    [
        ("max_input_characters", {"limit": "5"}, "hello", False),
        ("max_input_characters", {"limit": "5"}, "hello!", True),
        ("blocked_words", {"words": "bomb, gun"}, "a Gun.", True),
        ("blocked_words", {"words": "bomb,gun"}, "a gunner", False),
        ("blocked_words", {"words": "c++"}, "use c++ now", True),
        ("blocked_words", {"words": "größe"}, "die GRÖSSE", False),
        ("blocked_words", {"words": "größe"}, "die Größe", True),
        ("blocked_pattern", {"pattern": r"\d{4}-\d{4}"}, "1234-5678", True),
        ("blocked_pattern", {"pattern": r"\d{4}-\d{4}"}, "1234-567", False),
    ],
)
async def test_built_in_guardrails(kind: str, arguments: dict[str, str], text: str, *, refused: bool) -> None:
    table = guarded(kind, **arguments)
    for call in (said(text), EmbedCall("g", [text]), RerankCall("g", text, [])):
        if not refused:
            await guardrails.check_input(table, call)
            continue
        with pytest.raises(errors.FailedPrecondition) as caught:
            await guardrails.check_input(table, call)
        assert (caught.value.reason_code, caught.value.metadata["side"]) == ("GUARDRAIL", "input")


async def test_an_answer_is_checked_across_its_pieces() -> None:
    made = script(deployment("a"), guardrails=guarded("blocked_words", "output", words="secret").guardrails)
    made.turns = {"a": [[Chunk("a sec"), Chunk("ret "), LAST]]}
    stream = made.router().chat_stream(CALLER, CALL)
    assert (await anext(stream)).text == "a sec"
    with pytest.raises(errors.FailedPrecondition) as caught:
        await anext(stream)
    assert caught.value.metadata == {"guardrail": "g", "side": "output"}
    assert (made.state("a").in_flight, made.closed) == (0, 1)


class Entry:
    def __init__(self, hook: Any) -> None:
        self._hook = hook

    def load(self) -> Any:
        return self._hook


async def test_an_operators_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hook(text: str, arguments: Any) -> str | None:
        return f"says {arguments['word']}" if arguments["word"] in text else None

    monkeypatch.setattr(metadata, "entry_points", lambda group, name: [Entry(hook)] if name == "hook" else [])
    guardrails._hook.cache_clear()
    table = guarded("hook", word="no")
    await guardrails.check_input(table, said("yes"))
    with pytest.raises(errors.FailedPrecondition, match="says no"):
        await guardrails.check_input(table, said("no"))
    with pytest.raises(errors.FailedPrecondition, match="is installed"):
        await guardrails.check_input(guarded("nobody"), said("yes"))
    assert (guardrails.known("hook"), guardrails.known("nobody")) == (True, False)
    guardrails._hook.cache_clear()
