from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from libs import deadline, errors, identity
from services.router.model import (
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Embedded,
    Facts,
    Failure,
    FinishReason,
    RerankCall,
    Reranked,
    RoutingTable,
    TokenCount,
    Usage,
    routing_table,
)
from services.router.service import Router, attempts

CALLER = identity.Caller("default", "test", frozenset({"*"}))
CALL = ChatCall("g", [{"role": "user", "content": "hello"}], stream=True)
ANSWER = [Chunk("he"), Chunk("llo"), Chunk(finish_reason=FinishReason.STOP, usage=Usage(1, 2, 3))]
DOWN = Failure(errors.Unavailable("down", reason="UPSTREAM_UNAVAILABLE"), may_pass=True)
REFUSED = Failure(errors.Internal("no", reason="UPSTREAM_AUTH"), may_pass=False)


class Fake:
    """All three ports; `script` has what each deployment does."""

    def __init__(self, table: RoutingTable, script: dict[str, list[Any]]) -> None:
        self._table, self._script = table, script
        self.asked: list[tuple[str, str | None]] = []
        self.closed = 0

    async def table(self, caller: identity.Caller) -> RoutingTable:
        return self._table

    async def resolve(self, references: Sequence[str], *, refresh: bool = False) -> Sequence[str]:
        return [f"key of {reference}" for reference in references]

    async def chat(
        self, deployment: Deployment, credentials: Credentials, call: ChatCall
    ) -> AsyncGenerator[Chunk, None]:
        self.asked.append((deployment.deployment_id, credentials.api_key))
        try:
            for step in self._script[deployment.deployment_id]:
                if isinstance(step, Failure):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            self.closed += 1

    async def embed(self, deployment: Deployment, credentials: Credentials, call: EmbedCall) -> Embedded:
        raise NotImplementedError

    async def rerank(self, deployment: Deployment, credentials: Credentials, call: RerankCall) -> Reranked:
        raise NotImplementedError

    async def count_tokens(self, deployment: Deployment, call: ChatCall) -> TokenCount:
        return TokenCount(len(str(call.messages)) // 4)

    async def facts(self, deployment: Deployment) -> Facts:
        return Facts()

    async def problem(self, deployment: Deployment) -> str:
        return ""

    def router(self) -> Router:
        return Router(self, self, self, offline=True)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_FIRST_PAUSE", 0.01)


def fake(timeout: float = 5.0, num_retries: int = 2, **script: list[Any]) -> Fake:
    deployments = [
        Deployment(name, "g", "openai/x", key_reference="ref" if name == "keyed" else "", weight=1000.0**-index)
        for index, name in enumerate(script)
    ]
    return Fake(routing_table(deployments, num_retries=num_retries, timeout=timeout), script)


async def test_key_is_resolved_for_the_call() -> None:
    ports = fake(keyed=ANSWER)
    assert (await ports.router().chat(CALLER, CALL)).text == "hello"
    assert ports.asked == [("keyed", "key of ref")]


async def test_answered_by_is_on_the_first_chunk_and_the_last() -> None:
    chunks = [chunk async for chunk in fake(a=ANSWER).router().chat_stream(CALLER, CALL)]
    assert [bool(chunk.answered_by) for chunk in chunks] == [True, False, True]


async def test_failed_attempt_goes_to_another_deployment_and_is_reported() -> None:
    ports = fake(a=[DOWN], b=ANSWER)
    whole = await ports.router().chat(CALLER, CALL)
    assert ports.closed == len(ports.asked)
    assert whole.answered_by is not None
    assert whole.answered_by.deployment.deployment_id == "b"
    assert [f.reason for f in whole.answered_by.failed_attempts] == ["UPSTREAM_UNAVAILABLE"] * (len(ports.asked) - 1)


async def test_attempts_are_bounded() -> None:
    ports = fake(a=[DOWN])
    with pytest.raises(errors.Unavailable) as caught:
        await ports.router().chat(CALLER, CALL)
    assert len(ports.asked) == 3
    assert caught.value.metadata["attempts"] == "3"


async def test_no_retries_when_configured_so() -> None:
    ports = fake(num_retries=0, a=[DOWN])
    with pytest.raises(errors.Unavailable):
        await ports.router().chat(CALLER, CALL)
    assert len(ports.asked) == 1


async def test_what_cannot_pass_is_not_tried_again() -> None:
    ports = fake(a=[REFUSED])
    with pytest.raises(errors.Internal):
        await ports.router().chat(CALLER, CALL)
    assert len(ports.asked) == 1


async def test_a_stream_that_has_begun_is_not_begun_again() -> None:
    ports = fake(a=[Chunk("he"), DOWN])
    chunks = ports.router().chat_stream(CALLER, CALL)
    assert (await anext(chunks)).text == "he"
    with pytest.raises(errors.Unavailable):
        await anext(chunks)
    assert len(ports.asked) == 1


async def test_silence_ends_an_attempt() -> None:
    ports = fake(timeout=0.02, a=[5.0])
    with pytest.raises(errors.DeadlineExceeded):
        await ports.router().chat(CALLER, CALL)
    assert (len(ports.asked), ports.closed) == (3, 3)


async def test_deadline_ends_the_attempt_and_the_retries() -> None:
    deadline.enter(0.05)
    ports = fake(a=[5.0])
    with pytest.raises(errors.DeadlineExceeded):
        await ports.router().chat(CALLER, CALL)
    assert (len(ports.asked), ports.closed) == (1, 1)


async def test_no_pause_beyond_the_deadline() -> None:
    deadline.enter(1.0)
    limited = Failure(errors.ResourceExhausted("slow", retry_after=3.0), may_pass=True)
    ports = fake(a=[limited])
    with pytest.raises(errors.ResourceExhausted) as caught:
        await ports.router().chat(CALLER, CALL)
    assert (len(ports.asked), caught.value.retry_after) == (1, 3.0)


async def test_reader_that_leaves_ends_the_attempt() -> None:
    ports = fake(a=ANSWER)
    chunks = ports.router().chat_stream(CALLER, CALL)
    await anext(chunks)
    await chunks.aclose()
    assert ports.closed == 1


async def test_unknown_group_names_the_known_ones() -> None:
    with pytest.raises(errors.NotFound) as caught:
        await fake(a=ANSWER).router().chat(CALLER, ChatCall("nosuch", CALL.messages))
    assert caught.value.metadata == {"model_group": "nosuch", "known": "g,offline"}


async def test_known_groups_fit_into_an_error() -> None:
    deployments = [Deployment(str(n), f"group-{n:04}", "openai/x") for n in range(1000)]
    ports = Fake(routing_table(deployments, num_retries=0, timeout=1.0), {})
    with pytest.raises(errors.NotFound) as caught:
        await ports.router().chat(CALLER, CALL)
    assert len(caught.value.metadata["known"]) <= 250
    assert caught.value.metadata["known"].endswith(tuple("0123456789"))
