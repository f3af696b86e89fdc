"""JSON Schemas of protobuf messages, as their JSON is made and read: by the names of the .proto file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor

from services.execution.gateways.providers import rules

Schema = dict[str, Any]

_MOST_MESSAGES: Final = 500
_MOST_FIELDS: Final = 5000
_MOST_ALTERNATIVES: Final = 32
_INLINE: Final = 5
"""Levels of messages within each other; deeper ones, those used twice and those that hold themselves get names."""
VALUE: Final = "value"
"""The argument that stands for a message whose JSON is no object."""

_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
}
_LONG: Final = {
    FieldDescriptor.TYPE_INT64: "-?[0-9]{1,19}",
    FieldDescriptor.TYPE_SINT64: "-?[0-9]{1,19}",
    FieldDescriptor.TYPE_SFIXED64: "-?[0-9]{1,19}",
    FieldDescriptor.TYPE_UINT64: "[0-9]{1,20}",
    FieldDescriptor.TYPE_FIXED64: "[0-9]{1,20}",
}
_FLOATS: Final = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
_WRAPPERS: Final = tuple(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_SPECIAL: Final[Mapping[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time", "description": "RFC 3339"},
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$",
        "description": 'seconds, e.g. "1.5s"',
    },
    "google.protobuf.FieldMask": {"type": "string", "description": "lowerCamelCase paths with commas between them"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Value": {},
    "google.protobuf.Empty": {"type": "object", "properties": {}},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string", "description": "type.googleapis.com/ and a type of this server"}},
        "required": ["@type"],
    },
}


class TooMany(ValueError):
    """A message holds more messages or fields than a schema is made of."""


def arguments_schema(message: Descriptor, comments: Mapping[str, str]) -> Schema:
    """Of what a caller sends; what JSON has no object for is given as `value`."""
    schema = _Schemas(comments, strict=True).of(message)
    if schema.get("type") == "object":
        return schema
    return {"type": "object", "properties": {VALUE: schema}, "required": [VALUE], "additionalProperties": False}


def result_schema(message: Descriptor, comments: Mapping[str, str]) -> Schema | None:
    """Of what a server answers; None where that is no object."""
    schema = _Schemas(comments, strict=False).of(message)
    return schema if schema.get("type") == "object" else None


def is_wrapped(message: Descriptor) -> bool:
    return message.full_name in _WRAPPERS or _SPECIAL.get(message.full_name, {"type": "object"}).get("type") != "object"


class _Schemas:
    """Of one root. A strict one is of arguments: it has no more than is known, and all the rules."""

    def __init__(self, comments: Mapping[str, str], *, strict: bool) -> None:
        self._comments, self._strict = comments, strict
        self._uses: Counter[str] = Counter()
        self._definitions: dict[str, Schema] = {}
        self._waiting: list[Descriptor] = []

    def of(self, root: Descriptor) -> Schema:
        if (special := self._special(root)) is not None:
            return special
        self._uses = _uses(root)
        schema = self._object(root, 1)
        while self._waiting:
            message = self._waiting.pop()
            self._definitions[message.full_name] = self._object(message, 1)
        return {**schema, "$defs": self._definitions} if self._definitions else schema

    def _special(self, message: Descriptor) -> Schema | None:
        if message.full_name in _WRAPPERS:
            return self._scalar(message.fields_by_name["value"])
        if message.full_name not in _SPECIAL:
            return None
        schema = dict(_SPECIAL[message.full_name])
        if message.full_name == "google.protobuf.Empty" and self._strict:
            schema["additionalProperties"] = False
        return schema

    def _message(self, message: Descriptor, depth: int) -> Schema:
        if (special := self._special(message)) is not None:
            return special
        if self._uses[message.full_name] == 1 and depth <= _INLINE:
            return self._object(message, depth)
        if message.full_name not in self._definitions:
            self._definitions[message.full_name] = {}
            self._waiting.append(message)
        return {"$ref": f"#/$defs/{message.full_name}"}

    def _object(self, message: Descriptor, depth: int) -> Schema:
        schema: Schema = {"type": "object"}
        if comment := self._comments.get(message.full_name):
            schema["description"] = comment
        schema["properties"] = {field.name: self._field(field, depth + 1) for field in message.fields}
        if required := [field.name for field in message.fields if self._strict and _is_required(field)]:
            schema["required"] = required
        if self._strict:
            schema["additionalProperties"] = False
        alternatives = [oneof for oneof in message.oneofs if _is_real(oneof)]
        if self._strict and alternatives:
            schema |= _exclusive(schema, alternatives)
        return schema

    def _field(self, field: FieldDescriptor, depth: int) -> Schema:
        schema = self._many(field, depth) if field.is_repeated else self._one(field, depth)
        if self._strict:
            schema = {**schema, **rules.keywords(field, schema)}
        if comment := self._comments.get(field.full_name):
            schema = {**schema, "description": comment}
        if field.GetOptions().deprecated:
            schema = {**schema, "deprecated": True}
        return schema

    def _many(self, field: FieldDescriptor, depth: int) -> Schema:
        entry = field.message_type
        if entry is None or not entry.GetOptions().map_entry:
            return {"type": "array", "items": self._one(field, depth + 1)}
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        schema = {"type": "object", "additionalProperties": self._one(value, depth + 1)}
        if self._strict and key.type == FieldDescriptor.TYPE_BOOL:
            schema["propertyNames"] = {"enum": ["true", "false"]}
        elif self._strict and key.type != FieldDescriptor.TYPE_STRING:
            schema["propertyNames"] = {"pattern": f"^({_LONG.get(key.type, '-?[0-9]{1,10}')})$"}
        return schema

    def _one(self, field: FieldDescriptor, depth: int) -> Schema:
        return self._scalar(field) if field.message_type is None else self._message(field.message_type, depth)

    def _scalar(self, field: FieldDescriptor) -> Schema:
        kind = field.type
        if kind in _INTEGERS:
            least, most = _INTEGERS[kind]
            return {"type": "integer", "minimum": least, "maximum": most}
        if kind in _LONG:
            # JSON of protobuf has strings for what a double cannot hold, and takes both.
            return {"type": ["integer", "string"] if self._strict else "string", "pattern": f"^({_LONG[kind]})$"}
        if kind in _FLOATS:
            return {"type": "number"} if self._strict else {"type": ["number", "string"]}
        if kind == FieldDescriptor.TYPE_BOOL:
            return {"type": "boolean"}
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if kind == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return {"type": "string"}

    def _enum(self, enum: EnumDescriptor) -> Schema:
        if enum.full_name == "google.protobuf.NullValue":
            return {"type": "null"}
        named: Schema = {"type": "string", "enum": [value.name for value in enum.values]}
        if comment := self._comments.get(enum.full_name):
            named["description"] = comment
        # A server may know values that it did not tell of; they come as numbers.
        return named if self._strict else {"anyOf": [named, {"type": "integer"}]}


def _uses(root: Descriptor) -> Counter[str]:
    """How often messages are fields of what the root holds; what holds itself counts twice."""
    uses: Counter[str] = Counter({root.full_name: 2})
    waiting, fields = [root], 0
    while waiting:
        message = waiting.pop()
        fields += len(message.fields)
        for field in message.fields:
            inner = field.message_type
            if inner is None or inner.full_name in _SPECIAL or inner.full_name in _WRAPPERS:
                continue
            uses[inner.full_name] += 1
            if uses[inner.full_name] == 1:
                waiting.append(inner)
        if len(uses) > _MOST_MESSAGES or fields > _MOST_FIELDS:
            raise TooMany(f"{root.full_name} holds more than {_MOST_MESSAGES} messages, or {_MOST_FIELDS} fields")
    return uses


def _is_required(field: FieldDescriptor) -> bool:
    behaviours = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field.is_required or field_behavior_pb2.REQUIRED in behaviours or rules.is_required(field)


def _is_real(oneof: OneofDescriptor) -> bool:
    """Not one that stands for a single optional field."""
    return 1 < len(oneof.fields) <= _MOST_ALTERNATIVES


def _exclusive(schema: Schema, oneofs: Sequence[OneofDescriptor]) -> Schema:
    """At most one of each: in keywords that providers of models take at the root, as they do not take oneOf."""
    dependent: dict[str, Any] = {}
    said = [schema["description"]] if "description" in schema else []
    for oneof in oneofs:
        names = [field.name for field in oneof.fields]
        said.append(f"At most one of {', '.join(names)}.")
        for name in names:
            dependent[name] = {"properties": {other: False for other in names if other != name}}
    return {"description": " ".join(said), "dependentSchemas": dependent}
