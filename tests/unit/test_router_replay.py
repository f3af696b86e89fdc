from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs import errors
from services.router.gateways.replay import NoKeys, Recorder, Replayer
from services.router.model import (
    OFFLINE,
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Embedded,
    Facts,
    Failure,
    FinishReason,
    Ranked,
    RerankCall,
    Reranked,
    TokenCount,
    ToolCall,
    ToolCallDelta,
    Usage,
)

KEY = "sk-very-secret-0123456789"
CREDENTIALS = Credentials(KEY, {"aws_secret_access_key": KEY})
MAIN = Deployment("main", "gpt", "openai/a", key_reference="secret:openai:api_key")
SPARE = Deployment("spare", "gpt", "openai/a", "http://elsewhere")
CALL = ChatCall("gpt", [{"role": "user", "content": "hello"}], settings={"temperature": 0.5}, stream=True)
ANSWER = [
    Chunk("he", tool_call_deltas=(ToolCallDelta(0, "1", "f", "{}"),)),
    Chunk("llo"),
    Chunk(
        tool_calls=(ToolCall("1", "f", "{}"),), finish_reason=FinishReason.TOOL_CALLS, usage=Usage(1, 2, 3), cost=0.0
    ),
]
EMBED, RERANK = EmbedCall("gpt", ("a", "b"), 2), RerankCall("gpt", "q", ("a", "b"), 1)
LIMITED = Failure(
    errors.ResourceExhausted(
        "slow down", reason="UPSTREAM_RATE_LIMITED", metadata={"deployment_id": "main"}, retry_after=3.0
    ),
    may_pass=True,
    status=429,
)


class Provider:
    """An upstream that does as it is told."""

    def __init__(self) -> None:
        self.steps: list[Chunk | Failure] = list(ANSWER)
        self.asked = 0

    async def chat(
        self, deployment: Deployment, credentials: Credentials, call: ChatCall
    ) -> AsyncGenerator[Chunk, None]:
        self.asked += 1
        for step in self.steps:
            if isinstance(step, Failure):
                raise step
            yield step

    async def embed(self, deployment: Deployment, credentials: Credentials, call: EmbedCall) -> Embedded:
        return Embedded([[0.5, 1.0], [0.25, 0.0]], Usage(2, 0, 2), 0.125)

    async def rerank(self, deployment: Deployment, credentials: Credentials, call: RerankCall) -> Reranked:
        return Reranked([Ranked(1, 0.9)], None)

    async def count_tokens(self, deployment: Deployment, call: ChatCall) -> TokenCount:
        return TokenCount(7)

    async def facts(self, deployment: Deployment) -> Facts:
        return Facts(context_window=5)

    async def problem(self, deployment: Deployment) -> str:
        return "none"


async def said(upstream: Any, call: ChatCall = CALL, deployment: Deployment = MAIN) -> list[Chunk]:
    return [chunk async for chunk in upstream.chat(deployment, CREDENTIALS, call)]


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


async def test_what_was_said_is_said_again(provider: Provider, folder: Path) -> None:
    assert await said(Recorder(provider, folder)) == ANSWER
    replayer = Replayer(provider, folder)
    assert await said(replayer) == ANSWER
    assert await said(replayer, deployment=SPARE) == ANSWER
    whole = sum(ANSWER, Chunk())
    assert await said(replayer, replace(CALL, stream=False)) == [whole]
    assert provider.asked == 1


async def test_no_key_is_written(provider: Provider, folder: Path) -> None:
    recorder = Recorder(provider, folder)
    await said(recorder)
    await recorder.embed(MAIN, CREDENTIALS, EMBED)
    (chat, embed) = sorted(path.read_text() for path in folder.iterdir())
    assert KEY not in chat + embed
    assert {orjson.loads(text)["request"]["method"] for text in (chat, embed)} == {"chat", "embed"}


async def test_failures_are_recorded(provider: Provider, folder: Path) -> None:
    provider.steps = [ANSWER[0], LIMITED]
    with pytest.raises(Failure):
        await said(Recorder(provider, folder))
    replayed = Replayer(provider, folder).chat(MAIN, CREDENTIALS, CALL)
    assert await anext(replayed) == ANSWER[0]
    with pytest.raises(Failure) as caught:
        await anext(replayed)
    failure = caught.value
    assert isinstance(failure.error, errors.ResourceExhausted)
    assert (failure.error.reason_code, failure.error.retry_after) == ("UPSTREAM_RATE_LIMITED", 3.0)
    assert (failure.may_pass, failure.status) == (True, 429)


async def test_an_answer_that_is_not_heard_out_is_not_kept(provider: Provider, folder: Path) -> None:
    async with aclosing(Recorder(provider, folder).chat(MAIN, CREDENTIALS, CALL)) as chunks:
        await anext(chunks)
    assert not folder.exists()


@pytest.mark.parametrize(
    "other",
    [
        replace(CALL, settings={}),
        replace(CALL, messages=[]),
        replace(CALL, tool_choice="none"),
        replace(CALL, tools=[{"type": "function"}]),
    ],
)
async def test_what_was_not_recorded(provider: Provider, folder: Path, other: ChatCall) -> None:
    await said(Recorder(provider, folder))
    with pytest.raises(Failure) as caught:
        await said(Replayer(provider, folder), other)
    error = caught.value.error
    assert isinstance(error, errors.FailedPrecondition)
    assert not caught.value.may_pass
    assert error.metadata["digest"] in error.message
    await said(Recorder(provider, folder), other)
    assert (folder / f"{error.metadata['digest']}.json").exists()


async def test_a_recording_that_is_broken(provider: Provider, folder: Path) -> None:
    await said(Recorder(provider, folder))
    (path,) = folder.iterdir()
    path.write_text("{")
    with pytest.raises(Failure, match="cannot be read"):
        await said(Replayer(provider, folder))


async def test_a_folder_that_cannot_be_written_stops_no_call(provider: Provider, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert await said(Recorder(provider, tmp_path / "file" / "folder")) == ANSWER


async def test_vectors_and_orders(provider: Provider, folder: Path) -> None:
    recorder, replayer = Recorder(provider, folder), Replayer(provider, folder)
    embedded = await recorder.embed(MAIN, CREDENTIALS, EMBED)
    assert await replayer.embed(SPARE, CREDENTIALS, EMBED) == embedded
    reranked = await recorder.rerank(MAIN, CREDENTIALS, RERANK)
    assert await replayer.rerank(SPARE, CREDENTIALS, RERANK) == reranked


async def test_what_asks_no_provider_goes_through(provider: Provider, folder: Path) -> None:
    replayer = Replayer(provider, folder)
    (offline,) = OFFLINE.deployments()
    assert await said(replayer, deployment=offline) == ANSWER
    assert await replayer.count_tokens(MAIN, CALL) == TokenCount(7)
    assert (await replayer.facts(MAIN)).context_window == 5
    assert await replayer.problem(MAIN) == "none"
    assert await NoKeys().resolve(["secret:a:b", "os.environ/X"]) == ["", ""]
