"""The rules of the contracts, applied to a message."""

from __future__ import annotations

import protovalidate
from google.protobuf.message import Message

from libs.errors import InvalidArgument, Violation


def validate(message: Message) -> None:
    try:
        protovalidate.validate(message)
    except protovalidate.ValidationError as error:
        raise InvalidArgument([_violation(v.proto) for v in error.violations]) from None


def _violation(violation: protovalidate.ViolationPb) -> Violation:
    path = ""
    for element in violation.field.elements if violation.field else ():
        path += f".{element.field_name}"
        match element.subscript:
            case None:
                pass
            case subscript:
                path += f"[{subscript.value!r}]" if isinstance(subscript.value, str) else f"[{subscript.value}]"
    return Violation(path.removeprefix("."), violation.message or violation.rule_id)
