"""Field masks, checked against the message that they speak of."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask

from libs.errors import InvalidArgument, Violation

if TYPE_CHECKING:
    from google._upb._message import Descriptor as NativeDescriptor

AnyDescriptor: TypeAlias = "Descriptor | NativeDescriptor"


def paths(mask: FieldMask, message: AnyDescriptor, changeable: Collection[str]) -> list[str]:
    """The mask's paths; one that names no changeable field of `message` is an error."""
    if not mask.paths:
        raise InvalidArgument([Violation("update_mask", "names no field")])
    violations = [
        Violation("update_mask", f"{path!r} {problem}")
        for path in mask.paths
        if (problem := _problem(path, message, changeable))
    ]
    if violations:
        raise InvalidArgument(violations)
    return list(mask.paths)


def _problem(path: str, message: AnyDescriptor, changeable: Collection[str]) -> str:
    at: AnyDescriptor | None = message
    for name in path.split("."):
        if at is None or at.full_name.startswith("google.protobuf."):
            return "goes deeper than a mask can"
        field = at.fields_by_name.get(name)
        if field is None:
            return "is not a field"
        at = None if field.is_repeated else field.message_type
    return "" if path.split(".")[0] in changeable else "cannot be changed"
