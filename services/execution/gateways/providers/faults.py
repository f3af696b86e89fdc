"""What the failure of a call to a tool provider means to whoever called."""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2

from libs import deadline, status
from services.execution.service.sources import ToolError, unavailable

_CODE: Final = grpc.StatusCode
_ABOUT_NOW: Final = 0.1
"""Seconds: a deadline is over here and there at about the same time."""


def is_lost(error: grpc.aio.AioRpcError) -> bool:
    return error.code() in (_CODE.UNAVAILABLE, _CODE.CANCELLED)


def meant(error: grpc.aio.AioRpcError, source_id: str) -> Exception:
    """The source is lost, or out of time, or the tool has failed, which is for the caller of the tool to know."""
    code = error.code()
    if is_lost(error):
        return unavailable(source_id, "was lost before it answered")
    if code is _CODE.UNAUTHENTICATED:
        return unavailable(source_id, words(error))
    left = deadline.remaining()
    if code is _CODE.DEADLINE_EXCEEDED and left is not None and left < _ABOUT_NOW:
        return TimeoutError()
    return ToolError(words(error))


def words(error: grpc.aio.AioRpcError) -> str:
    """For people and models. A code that a server gives is most of what it says."""
    code = error.code()
    if code is _CODE.UNAUTHENTICATED:
        return "refused the credentials"
    if code is _CODE.UNAVAILABLE:
        return "cannot be reached"
    said = f"{code.name}: {(error.details() or 'no reason is given')[:500]}"
    return " ".join([said, *_details(error)])


def _details(error: grpc.aio.AioRpcError) -> list[str]:
    bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    try:
        described = status.described_by(error)
        for detail in described.details if described is not None else ():
            detail.Unpack(bad)
            detail.Unpack(retry)
    except DecodeError:  # not what they say that they are
        return []
    fields = [f"({v.field}: {v.description[:200]})" for v in bad.field_violations[:10]]
    again = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return [*fields, *([f"(another try may do better in {again:.3g} s)"] if again > 0 else [])]
