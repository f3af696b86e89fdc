"""What the commands print: for people, or with --json one JSON object a line."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import grpc
import orjson
import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from rich.console import Console

from libs import status

console: Final = Console(highlight=False)
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


class Failure(Exception):
    """What a command tells before it ends with exit code 1."""

    def __init__(self, message: str, *, details: dict[str, Any] | None = None, as_json: bool = False) -> None:
        super().__init__(message)
        self.details = {"message": message, **(details or {})}
        self.as_json = as_json


def fail(failure: Failure) -> int:
    if failure.as_json:
        print(orjson.dumps({"error": failure.details}).decode(), file=sys.stderr)
    else:
        print(f"dynamic-agents: {failure}", file=sys.stderr)
    return 1


def to_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def print_json(value: Message | dict[str, Any]) -> None:
    print(orjson.dumps(to_dict(value) if isinstance(value, Message) else value).decode(), flush=True)


def rpc_failure(error: grpc.aio.AioRpcError, address: str, *, as_json: bool) -> Failure:
    described = status.described_by(error)
    if described is None:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            text = f"nobody answers at {address}: is `dynamic-agents up` running?"
        else:
            text = f"{error.code().name}: {error.details()}"
        return Failure(text, details={"code": error.code().name}, as_json=as_json)
    return status_failure(described, as_json=as_json)


def status_failure(described: status_pb2.Status, *, as_json: bool) -> Failure:
    code = status.grpc_code(described).name
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in described.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    fields = [{"field": v.field, "description": v.description} for v in bad.field_violations]
    details = {"code": code, "reason": info.reason, "message": described.message, "fields": fields}
    return Failure(f"{code} ({info.reason}): {described.message}", details=details, as_json=as_json)
