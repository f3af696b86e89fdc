from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from dynamicagents.errors.v1 import error_reason_pb2
from google.rpc import error_details_pb2, status_pb2

from libs import errors, status
from libs.errors import Violation
from tests import harness

ROOT = Path(__file__).parents[2]
REASONS = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
COMMON = {"reason": "CANCELLED", "metadata": {"a": "1"}, "retry_after": 1.5}
KINDS = errors.Error.__subclasses__()


def example(kind: type[errors.Error]) -> errors.Error:
    if kind is errors.InvalidArgument:
        return errors.InvalidArgument([Violation("a.b", "is bad"), Violation("c", "is worse")], **COMMON)
    if kind is errors.NotFound or kind is errors.AlreadyExists:
        return kind("agent", "helper", **COMMON)
    return kind("something happened", **COMMON)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_the_wire(kind: type[errors.Error]) -> None:
    sent = example(kind)
    received = status.from_status(
        status_pb2.Status.FromString(status.to_status(sent).SerializeToString()),
    )
    assert type(received) is kind
    assert vars(received) == vars(sent)
    assert str(received) == str(sent)


def test_a_failed_precondition_is_named() -> None:
    sent = errors.FailedPrecondition("agent 'a' is referred to by team t", reason="RESOURCE_REFERENCED")
    (failed,) = harness.detail(status.to_status(sent), error_details_pb2.PreconditionFailure).violations
    assert (failed.type, failed.description) == ("RESOURCE_REFERENCED", "agent 'a' is referred to by team t")


def test_every_error_has_its_own_code() -> None:
    assert set(status.CODES) == set(KINDS)
    assert len(set(status.CODES.values())) == len(KINDS)
    assert status_pb2.Status().code not in status.CODES.values()


def _reasons_in_source() -> Iterator[tuple[str, str]]:
    """The constants that are given as `reason=` in a call or a class of ours."""
    for path in [*(ROOT / "libs").rglob("*.py"), *(ROOT / "services").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            values: list[ast.expr] = []
            if isinstance(node, ast.Call):
                values = [word.value for word in node.keywords if word.arg == "reason"]
            elif isinstance(node, ast.ClassDef) and any("Error" in ast.unparse(b) for b in node.bases):
                values = [
                    line.value
                    for line in node.body
                    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "reason"
                ]
            for value in values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield f"{path.name}:{node.lineno}", value.value


def test_every_reason_is_in_the_contract() -> None:
    used = list(_reasons_in_source())
    assert "RESOURCE_NOT_FOUND" in {reason for _, reason in used}
    assert [(where, reason) for where, reason in used if reason not in REASONS] == []


def test_a_status_always_fits_into_trailers() -> None:
    many = [Violation(f"agent.labels['{'k' * 5000}{n}']", "é" * 5000) for n in range(500)]
    described = status.to_status(errors.InvalidArgument(many, metadata={"known": "x" * 100_000}))
    assert described.ByteSize() < 6 * 1024
    violations = harness.detail(described, error_details_pb2.BadRequest).field_violations
    assert violations[0].field.startswith("agent.labels['kkk")
    assert harness.detail(described, error_details_pb2.ErrorInfo).reason == "INVALID_FIELD"


def rpc_error(code: grpc.StatusCode, *trailers: tuple[str, bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details="secret text")


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable, "SERVICE_UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.CANCELLED, errors.Cancelled, "CANCELLED"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted, "MESSAGE_TOO_LARGE"),
        (grpc.StatusCode.UNKNOWN, errors.Internal, "INTERNAL"),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Internal, "INTERNAL"),
    ],
)
def test_what_the_channel_says_of_a_peer(code: grpc.StatusCode, kind: type[errors.Error], reason: str) -> None:
    error = status.from_rpc_error(rpc_error(code), "router")
    assert (type(error), error.reason_code) == (kind, reason)
    assert "secret text" not in error.message
    assert status.described_by(rpc_error(code)) is None


def test_what_a_peer_says_itself() -> None:
    trailer = (status.DETAILS_KEY, status.to_status(errors.NotFound("agent", "x")).SerializeToString())
    raised = rpc_error(grpc.StatusCode.NOT_FOUND, trailer)
    assert isinstance(status.from_rpc_error(raised, "registry"), errors.NotFound)
    assert status.described_by(raised) is not None
