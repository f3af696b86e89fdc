"""Model -> proto of answers."""

from __future__ import annotations

from typing import Final

from dynamicagents.router.v1 import chat_pb2

from services.router.model import AnsweredBy, Chunk, FailedAttempt, FinishReason, ToolCall, Usage

_FINISH_REASONS: Final = {
    None: chat_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.UNKNOWN: chat_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: chat_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: chat_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: chat_pb2.FINISH_REASON_CONTENT_FILTER,
}


def chunk(given: Chunk) -> chat_pb2.ChatChunk:
    made = chat_pb2.ChatChunk(text=given.text, reasoning=given.reasoning)
    for delta in given.tool_call_deltas:
        made.tool_call_deltas.add(index=delta.index, call_id=delta.call_id, name=delta.name, arguments=delta.arguments)
    _add_details(made, given)
    if given.finish_reason:
        _add_end(made, given)
    if given.answered_by:
        made.answered_by.CopyFrom(answered_by(given.answered_by))
    if given.restarted:
        made.restarted.failed_attempt.CopyFrom(failed_attempt(given.restarted))
    return made


def _add_details(made: chat_pb2.ChatChunk, given: Chunk) -> None:
    for one in given.citations:
        made.citations.add(
            url=one.url, title=one.title, quote=one.quote, start_index=one.start_index, end_index=one.end_index
        )
    for token in given.logprobs:
        added = made.logprobs.add(token=token.token, logprob=token.logprob)
        for other in token.top:
            added.top.add(token=other.token, logprob=other.logprob)


def _add_end(made: chat_pb2.ChatChunk, given: Chunk) -> None:
    made.tool_calls.extend(_tool_call(call) for call in given.tool_calls)
    made.finish_reason = _FINISH_REASONS[given.finish_reason]
    if given.usage:
        made.usage.CopyFrom(usage(given.usage))
    if given.cost is not None:
        made.cost_usd = given.cost
    made.cost_estimated = given.cost_estimated


def _tool_call(call: ToolCall) -> chat_pb2.ToolCall:
    return chat_pb2.ToolCall(call_id=call.call_id, name=call.name, arguments=call.arguments)


def usage(given: Usage) -> chat_pb2.Usage:
    return chat_pb2.Usage(
        input_tokens=given.input_tokens,
        output_tokens=given.output_tokens,
        total_tokens=given.total_tokens,
        cached_input_tokens=given.cached_input_tokens,
        reasoning_tokens=given.reasoning_tokens,
        estimated=given.estimated,
    )


def answered_by(given: AnsweredBy) -> chat_pb2.AnsweredBy:
    deployment = given.deployment
    return chat_pb2.AnsweredBy(
        deployment_id=deployment.deployment_id,
        model=deployment.model,
        provider=deployment.provider,
        offline=deployment.is_offline,
        failed_attempts=[failed_attempt(attempt) for attempt in given.failed_attempts],
        model_group=deployment.model_group,
        cached=given.cached,
    )


def failed_attempt(given: FailedAttempt) -> chat_pb2.FailedAttempt:
    made = chat_pb2.FailedAttempt(deployment_id=given.deployment_id, reason=given.reason, model_group=given.model_group)
    made.duration.FromNanoseconds(int(given.seconds * 1e9))
    return made
