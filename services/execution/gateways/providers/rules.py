"""What of protovalidate's rules JSON Schema can say. The rest is for the server to say when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor

_NUMBERS: Final = ("float", "double", "int32", "int64", "uint32", "uint64", "sint32", "sint64")
_NUMBERS_TOO: Final = ("fixed32", "fixed64", "sfixed32", "sfixed64")
_BOUNDS: Final = {"gte": "minimum", "gt": "exclusiveMinimum", "lte": "maximum", "lt": "exclusiveMaximum"}
_FORMATS: Final = {
    "email": "email",
    "uri": "uri",
    "uuid": "uuid",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
}


def is_required(field: FieldDescriptor) -> bool:
    return bool(_of(field).required)


def keywords(field: FieldDescriptor, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords to add to the field's schema."""
    rules = _of(field)
    kind = rules.WhichOneof("type")
    if kind is None or rules.ignore == validate_pb2.IGNORE_ALWAYS:
        return {}
    lenient = rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE
    match kind:
        case "string":
            return _string(rules.string, lenient=lenient)
        case "repeated":
            return _repeated(rules.repeated, schema)
        case "map":
            return _map(rules.map)
        case "enum":
            return _enum(field, rules.enum)
    if kind in (*_NUMBERS, *_NUMBERS_TOO) and not lenient:
        return _number(getattr(rules, kind), schema)
    return {}


def _of(field: FieldDescriptor) -> validate_pb2.FieldRules:
    extensions: Any = field.GetOptions().Extensions
    found: validate_pb2.FieldRules = extensions[validate_pb2.field]
    return found


def _string(rules: validate_pb2.StringRules, *, lenient: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rules.HasField("max_len"):
        found["maxLength"] = rules.max_len
    if rules.HasField("len"):
        found |= {"minLength": rules.len, "maxLength": rules.len}
    if lenient:
        found.pop("minLength", None)
        return found
    if rules.HasField("min_len"):
        found["minLength"] = rules.min_len
    if rules.HasField("pattern"):
        found["pattern"] = rules.pattern
    if getattr(rules, "in"):
        found["enum"] = list(getattr(rules, "in"))
    known = rules.WhichOneof("well_known")
    return found | ({"format": _FORMATS[known]} if known in _FORMATS else {})


def _repeated(rules: validate_pb2.RepeatedRules, schema: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rules.HasField("min_items"):
        found["minItems"] = rules.min_items
    if rules.HasField("max_items"):
        found["maxItems"] = rules.max_items
    if rules.unique:
        found["uniqueItems"] = True
    if rules.items.HasField("string"):
        found["items"] = {**schema["items"], **_string(rules.items.string, lenient=False)}
    return found


def _map(rules: validate_pb2.MapRules) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rules.HasField("min_pairs"):
        found["minProperties"] = rules.min_pairs
    if rules.HasField("max_pairs"):
        found["maxProperties"] = rules.max_pairs
    return found


def _enum(field: FieldDescriptor, rules: validate_pb2.EnumRules) -> dict[str, Any]:
    allowed, refused = set(getattr(rules, "in")), set(rules.not_in)
    if not (allowed or refused) or field.enum_type is None:
        return {}
    return {
        "enum": [
            value.name
            for value in field.enum_type.values
            if value.number not in refused and (not allowed or value.number in allowed)
        ]
    }


def _number(rules: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Bounds between which a number lies; of those that it lies outside of, gt above lt, nothing is said."""
    set_ = {name: getattr(rules, name) for name in _BOUNDS if rules.HasField(name)}
    least = max((set_[name] for name in ("gt", "gte") if name in set_), default=None)
    most = min((set_[name] for name in ("lt", "lte") if name in set_), default=None)
    if least is not None and most is not None and least > most:
        return {}
    found: dict[str, Any] = {_BOUNDS[name]: value for name, value in set_.items()}
    values = list(getattr(rules, "in"))
    if rules.HasField("const"):
        values = [rules.const]
    if values and schema.get("type") == "integer":
        found["enum"] = values
    return found
