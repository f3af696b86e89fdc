"""Proto -> model of the answers to what a run asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynamicagents.execution.v1 import execution_service_pb2

from services.execution.model.inputs import InputAnswer, Kind
from services.execution.servicer.translation import to_data


def to_answers(request: execution_service_pb2.ContinueExecutionRequest) -> Sequence[InputAnswer]:
    return [_answer(answer, f"answers[{index}]") for index, answer in enumerate(request.answers)]


def _answer(answer: execution_service_pb2.InputAnswer, field: str) -> InputAnswer:
    match answer.WhichOneof("answer"):
        case "approval":
            return InputAnswer(answer.input_id, Kind.APPROVAL, _decision(answer.approval, field))
        case "user_input":
            return InputAnswer(answer.input_id, Kind.USER_INPUT, _user_input(answer.user_input, field))
        case _:
            result = {"output": answer.tool_result.output, "is_error": answer.tool_result.is_error}
            return InputAnswer(answer.input_id, Kind.EXTERNAL_TOOL, result)


def _decision(decision: execution_service_pb2.ToolDecision, field: str) -> dict[str, Any]:
    value: dict[str, Any] = {"approved": decision.approved, "note": decision.note}
    if decision.HasField("arguments"):
        value["arguments"] = to_data(decision.arguments, f"{field}.approval.arguments")
    return value


def _user_input(given: execution_service_pb2.UserInputAnswer, field: str) -> dict[str, Any]:
    if given.declined:
        return {"declined": True}
    if given.HasField("values"):
        return {"values": to_data(given.values, f"{field}.user_input.values")}
    return {"text": given.text}
