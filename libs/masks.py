"""Field masks, checked against the message that they speak of."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

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


def displaced(paths: Collection[str], patch: Message) -> list[str]:
    """Paths of what is cleared by setting other members of its oneof."""
    found: list[str] = []
    for path in paths:
        at, names = patch, path.split(".")
        for index, name in enumerate(names):
            field = at.DESCRIPTOR.fields_by_name[name]
            if not field.has_presence or not at.HasField(name):
                break
            others = [other.name for other in field.containing_oneof.fields] if field.containing_oneof else []
            found += [".".join((*names[:index], other)) for other in others if other != name]
            if not field.message_type:
                break
            at = getattr(at, name)
    return found


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
