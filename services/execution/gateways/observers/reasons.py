"""Why something ended without a result, in the words of errors.v1.ErrorReason."""

from __future__ import annotations

import asyncio

from libs import deadline, errors
from services.execution.model.inputs import InputNeeded
from services.execution.service.elicitation import SourceAsks
from services.execution.service.outputs import Unfit

WAITS = "INPUT_REQUIRED"
"""No error: the run goes on with an answer."""


def reason_of(error: BaseException) -> str:
    match error:
        case InputNeeded() | SourceAsks():
            return WAITS
        case errors.Error():
            return error.reason_code
        case Unfit():
            return error.error().reason_code
        case asyncio.CancelledError() | GeneratorExit():
            return "DEADLINE_EXCEEDED" if deadline.remaining() == 0 else "CANCELLED"
    return "INTERNAL"
