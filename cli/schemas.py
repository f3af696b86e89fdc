"""`dynamic-agents schema`: JSON Schema of a bundle's documents, made from the contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from buf.validate import validate_pb2
from dynamicagents.registry.v1 import snapshot_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from cli.output import Failure

Schema = dict[str, Any]
_RESOURCES: Final[Any] = snapshot_pb2.ResourceSnapshot.DESCRIPTOR.oneofs_by_name["resource"].fields
KINDS: Final[dict[str, Any]] = {field.message_type.name: field for field in _RESOURCES}
"""The field of ResourceSnapshot for each kind of document."""
SET_BY_SERVER: Final = frozenset({"revision", "etag", "create_time", "update_time", "built_in"})
ROUTER_CONFIG: Final = "RouterConfig"

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_WELL_KNOWN: Final[dict[str, Schema]] = {
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Value": {},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
        "description": 'Seconds, e.g. "30s".',
    },
}
_BOUNDS: Final = {
    "gte": "minimum",
    "gt": "exclusiveMinimum",
    "lte": "maximum",
    "lt": "exclusiveMaximum",
    "min_len": "minLength",
    "max_len": "maxLength",
    "pattern": "pattern",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_pairs": "minProperties",
    "max_pairs": "maxProperties",
}
_SIXTY_FOUR_BITS: Final = frozenset({"int64", "uint64", "sint64", "fixed64", "sfixed64"})
_SCALARS: Final = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}


def schema(
    kind: Annotated[str, typer.Argument(help="Agent, Team, ...; left out: documents of every kind.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for <kind>.json and bundle.json.")
    ] = None,
) -> None:
    """Prints the JSON Schema of a bundle's documents, for editors."""
    wanted = [kind_named(kind)] if kind else list(KINDS)
    if output is None:
        print(_text(document_schema(*wanted)))
        return
    schemas = {KINDS[name].name: document_schema(name) for name in wanted}
    if not kind:
        schemas["bundle"] = document_schema(*wanted)
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, made in schemas.items():
            (output / f"{name}.json").write_text(_text(made) + "\n")
    except OSError as error:
        raise Failure(f"{output}: {error.strerror}") from None


def kind_named(text: str, *, as_json: bool = False) -> str:
    """The kind by its name in documents or in the contracts: "EventRule", "event_rule"."""
    wanted = text.replace("_", "").replace("-", "").lower()
    for name in KINDS:
        if name.lower() == wanted:
            return name
    raise Failure(f"{text}: is not a kind; there are {', '.join(KINDS)}", as_json=as_json)


def document_schema(*kinds: str) -> Schema:
    """The schema of a document of one of these kinds."""
    definitions = _Definitions()
    documents = {kind: _document(kind, definitions) for kind in kinds}
    if len(documents) == 1:
        ((kind, made),) = documents.items()
        return {"$schema": _DIALECT, "title": kind, **made, "$defs": definitions.schemas}
    choices = [
        {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": made}
        for kind, made in documents.items()
    ]
    return {
        "$schema": _DIALECT,
        "title": "A document of a bundle",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(documents)}},
        "allOf": choices,
        "$defs": definitions.schemas,
    }


def _document(kind: str, definitions: _Definitions) -> Schema:
    message = KINDS[kind].message_type
    if kind == ROUTER_CONFIG:
        properties, required = {"spec": definitions.reference(message)}, []
    else:
        properties = {field.name: definitions.of_field(field) for field in message.fields}
        required = [message.fields[0].name]
        for name in SET_BY_SERVER & properties.keys():
            properties[name] = {**properties[name], "readOnly": True}
    return {
        "type": "object",
        "properties": {"kind": {"const": kind}, **properties},
        "required": ["kind", *required],
        "additionalProperties": False,
    }


class _Definitions:
    """The schemas of messages, each made once: messages may contain themselves."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}

    def reference(self, message: Any) -> Schema:
        if message.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message.full_name])
        if message.name not in self.schemas:
            self.schemas[message.name] = {}
            self.schemas[message.name].update(self._message(message))
        return {"$ref": f"#/$defs/{message.name}"}

    def of_field(self, field: Any) -> Schema:
        rules = _rules(field)
        if field.message_type and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            made = {"type": "object", "additionalProperties": self._one(value, rules.map.values)}
            keys = _mapped(rules.map.keys.string)
            return made | _mapped(rules.map) | ({"propertyNames": keys} if keys else {})
        if field.is_repeated:
            unique = {"uniqueItems": True} if rules.repeated.unique else {}
            return {"type": "array", "items": self._one(field, rules.repeated.items)} | _mapped(rules.repeated) | unique
        return self._one(field, rules)

    def _message(self, message: Any) -> Schema:
        made: Schema = {
            "type": "object",
            "properties": {field.name: self.of_field(field) for field in message.fields},
            "additionalProperties": False,
        }
        if required := [field.name for field in message.fields if _is_required(field)]:
            made["required"] = required
        if choices := [_at_most_one(oneof) for oneof in message.oneofs if not _is_optional(oneof)]:
            made["allOf"] = choices
        return made

    def _one(self, field: Any, rules: Any) -> Schema:
        scalar = _SCALARS[field.type]
        if scalar == "message":
            return self.reference(field.message_type)
        if scalar == "enum":
            refused = rules.enum.not_in
            return {"enum": [value.name for value in field.enum_type.values if value.number not in refused]}
        return _scalar(scalar) | _mapped(getattr(rules, scalar, None))


def _rules(field: Any) -> Any:
    return field.GetOptions().Extensions[validate_pb2.field]


def _scalar(scalar: str) -> Schema:
    if scalar in _SIXTY_FOUR_BITS:
        return {"type": ["integer", "string"]}
    if scalar in ("double", "float"):
        return {"type": "number"}
    if scalar == "bytes":
        return {"type": "string", "contentEncoding": "base64"}
    return {"type": {"bool": "boolean", "string": "string"}.get(scalar, "integer")}


def _mapped(rules: Any) -> Schema:
    """Those rules that JSON Schema knows."""
    if rules is None:
        return {}
    return {_BOUNDS[field.name]: value for field, value in rules.ListFields() if field.name in _BOUNDS}


def _is_required(field: Any) -> bool:
    """Whether a document without the field breaks its rule: rules hold for empty values too."""
    rules = _rules(field)
    if rules.required:
        return True
    if field.has_presence or rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
        return False
    if field.is_repeated:
        return bool(rules.repeated.min_items or rules.map.min_pairs)
    return bool(rules.string.min_len or rules.string.pattern or rules.int32.gte > 0)


def _is_optional(oneof: Any) -> bool:
    """The oneof that stands for `optional`."""
    return len(oneof.fields) == 1 and oneof.name == f"_{oneof.fields[0].name}"


def _at_most_one(oneof: Any) -> Schema:
    each: list[Schema] = [{"required": [field.name]} for field in oneof.fields]
    if oneof.GetOptions().Extensions[validate_pb2.oneof].required:
        return {"oneOf": each}
    return {"oneOf": [*each, {"not": {"anyOf": each}}]}


def _text(made: Schema) -> str:
    return orjson.dumps(made, option=orjson.OPT_INDENT_2).decode()
