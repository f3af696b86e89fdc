"""JSON Schemas of protobuf messages, of every type."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from services.execution.gateways.providers.descriptors import Described, described
from services.execution.gateways.providers.dialect import Senseless
from services.execution.gateways.providers.messages import TooMany, arguments_schema, result_schema
from services.execution.service import schemas
from tests import crm_service

CRM = crm_service.crm()
EVERYTHING: dict[str, Any] = {
    "double": 1.5,
    "float": 0.5,
    "int32": -1,
    "int64": "-9007199254740993",
    "uint32": 4294967295,
    "uint64": "18446744073709551615",
    "sint32": -2,
    "sint64": "-3",
    "fixed32": 4,
    "fixed64": "5",
    "sfixed32": -6,
    "sfixed64": "-7",
    "bool": True,
    "string": "é",
    "bytes": base64.b64encode(b"\x00\xff").decode(),
    "status": "STATUS_WON",
    "lead": {"name": "Ada", "status": "STATUS_NEW"},
    "numbers": [1, 2],
    "leads": [{"name": "Bo"}],
    "by_name": {"a": "1"},
    "by_number": {"-3": {"name": "Cy"}},
    "by_truth": {"true": "yes"},
    "phone": "123",
    "nickname": "",
    "timestamp": "2026-11-26T16:00:00Z",
    "duration": "1.500s",
    "struct": {"any": [1.0, None, {"x": True}]},
    "value": [1.0, "two"],
    "list": ["x", 1.0],
    "mask": "name,status",
    "any": {"@type": "type.googleapis.com/crm.v1.Lead", "name": "Di"},
    "empty": {},
    "long": "12",
    "text": "t",
    "truth": False,
    "data": "AAE=",
    "nothing": None,
    "tree": {"name": "root", "children": [{"name": "leaf", "children": [{"name": "below"}]}]},
    "once": {"inner": {"text": "x"}},
    "old": "o",
}


def of(name: str) -> Any:
    return CRM.pool.FindMessageTypeByName(f"crm.v1.{name}")


def arguments(name: str) -> dict[str, Any]:
    schema = arguments_schema(of(name), CRM.comments)
    assert schemas.problem_of(schema) is None
    return schema


def problems(name: str, /, **value: Any) -> list[str]:
    found = schemas.problems(arguments(name), value)
    return [".".join(map(str, error.absolute_path)) or error.message for error in found]


def test_what_is_of_every_type_fits_and_is_read_and_made() -> None:
    given = {name: value for name, value in EVERYTHING.items() if name != "nothing"}
    assert problems("Everything", **given) == []
    message = message_factory.GetMessageClass(of("Everything"))()
    json_format.ParseDict(given, message, descriptor_pool=CRM.pool)
    made = json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=CRM.pool)
    assert made == given
    schema = result_schema(of("Everything"), CRM.comments)
    assert schema is not None
    assert schemas.problem_of(schema) is None
    assert schemas.problems(schema, made) == []
    message.double, message.status = float("nan"), 99
    odd = json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=CRM.pool)
    assert (odd["double"], odd["status"]) == ("NaN", 99)
    assert schemas.problems(schema, odd) == []


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("double", "1"),
        ("int32", 2**31),
        ("int32", 1.5),
        ("int64", "1e3"),
        ("int64", 1.5),
        ("uint32", -1),
        ("uint64", "-1"),
        ("bool", "true"),
        ("string", 1),
        ("bytes", 1),
        ("status", "STATUS_LOST"),
        ("status", 1),
        ("lead", {"surname": "x"}),
        ("lead", []),
        ("numbers", ["1"]),
        ("leads", {}),
        ("by_name", {"a": []}),
        ("by_number", {"x": {}}),
        ("by_truth", {"maybe": "x"}),
        ("nickname", 1),
        ("timestamp", 1),
        ("duration", "1m"),
        ("struct", []),
        ("list", {}),
        ("mask", []),
        ("any", {}),
        ("empty", {"x": 1}),
        ("long", "x"),
        ("truth", "no"),
        ("nothing", 1),
        ("tree", {"children": [{"children": [{"name": 1}]}]}),
        ("once", {"inner": {"text": 1}}),
        ("unknown", 1),
    ],
)
def test_what_does_not_fit(field: str, wrong: Any) -> None:
    assert problems("Everything", **{field: wrong})


def test_at_most_one_of_a_oneof() -> None:
    assert problems("Everything", email="a") == problems("Everything", phone="1") == []
    assert problems("Everything", email="a", phone="1")
    schema = arguments("Everything")
    assert "At most one of email, phone." in schema["description"]
    assert not {"oneOf", "anyOf", "allOf", "not", "enum"} & set(schema)  # providers of models refuse them at the root


def test_references_are_for_what_is_used_twice_or_holds_itself() -> None:
    schema = arguments("Everything")
    assert set(schema["$defs"]) == {"crm.v1.Lead", "crm.v1.Tree"}
    assert schema["properties"]["once"]["properties"]["inner"]["properties"]["text"] == {"type": "string"}
    tree = arguments("Tree")
    assert tree["properties"]["children"]["items"] == {"$ref": "#/$defs/crm.v1.Tree"}


def test_comments_are_descriptions() -> None:
    schema = arguments("CountLeadsRequest")
    assert schema["properties"]["status"]["description"] == "One of them; all when unset."
    assert CRM.comments[f"{crm_service.SERVICE}.CountLeads"] == "Counts the leads of a status."
    assert arguments("Everything")["properties"]["old"]["deprecated"] is True
    assert arguments("Everything")["$defs"]["crm.v1.Lead"]["description"] == "A lead."


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({}, ""),
        ({"name": None}, "'name' is a required property"),
        ({"email": None}, "'email' is a required property"),
        ({"name": ""}, "name"),
        ({"name": "x" * 21}, "name"),
        ({"score": 101}, "score"),
        ({"score": -1}, "score"),
        ({"tags": ["a", "b", "c", "d"]}, "tags"),
        ({"tags": ["a", "a"]}, "tags"),
        ({"tags": ["abcdef"]}, "tags.0"),
        ({"status": "STATUS_UNSPECIFIED"}, "status"),
        ({"code": "ab"}, "code"),
        ({"labels": {"a": "", "b": "", "c": ""}}, "labels"),
        ({"weight": 0.5}, "weight"),
    ],
)
def test_rules_of_protovalidate(changed: dict[str, Any], where: str) -> None:
    right = {"name": "Ada", "email": "a@b.c", "score": 1, "tags": ["a"], "status": "STATUS_NEW", "code": "AB"}
    value = {name: given for name, given in {**right, **changed}.items() if given is not None}
    assert problems("CreateLeadRequest", **value) == ([where] if where else [])


def test_what_is_no_object_is_given_as_a_value() -> None:
    methods = {method.name: method for method in CRM.methods}
    say = arguments_schema(methods["Say"].input_type, {})
    assert (say["properties"], say["required"]) == ({"value": {"type": "string"}}, ["value"])
    assert result_schema(methods["Say"].output_type, {}) is None
    reset = arguments_schema(methods["Reset"].input_type, {})
    assert reset == {"type": "object", "properties": {}, "additionalProperties": False}


def chain(length: int, *fields: str) -> Described:
    """Messages each of which holds the next, in each of the fields."""
    file = FileDescriptorProto(name="chain.proto", package="c", syntax="proto3")
    for number in range(length):
        message = file.message_type.add(name=f"M{number}")
        for index, name in enumerate(fields if number < length - 1 else ()):
            message.field.add(
                name=name,
                number=index + 1,
                type=FieldDescriptorProto.TYPE_MESSAGE,
                label=FieldDescriptorProto.LABEL_OPTIONAL,
                type_name=f".c.M{number + 1}",
            )
    return described({"chain.proto": file.SerializeToString()}, [])


def test_schemas_grow_with_what_there_is_to_describe() -> None:
    root = chain(30, "a", "b").pool.FindMessageTypeByName("c.M0")  # inline: a thousand million messages
    schema = arguments_schema(root, {})
    assert len(schema["$defs"]) == 29
    assert schemas.problem_of(schema) is None
    deep = arguments_schema(chain(400, "a").pool.FindMessageTypeByName("c.M0"), {})
    assert schemas.problem_of(deep) is None
    wide = chain(2, *[f"f{number}" for number in range(6000)]).pool
    with pytest.raises(TooMany):
        arguments_schema(wide.FindMessageTypeByName("c.M0"), {})
    with pytest.raises(TooMany):
        arguments_schema(chain(600, "a").pool.FindMessageTypeByName("c.M0"), {})


def file(name: str, *imports: str, **fields: Any) -> bytes:
    return FileDescriptorProto(name=name, dependency=imports, syntax="proto3", **fields).SerializeToString()


@pytest.mark.parametrize(
    "files",
    [
        {"a.proto": file("a.proto", "b.proto"), "b.proto": file("b.proto", "a.proto")},
        {"a.proto": file("a.proto", "a.proto")},
        {"a.proto": file("a.proto", message_type=[{"name": "M"}, {"name": "M"}])},
        {"a.proto": file("a.proto", message_type=[{"name": "not a name"}])},
        {
            "a.proto": file("a.proto", message_type=[{"name": "M"}]),
            "b.proto": file("b.proto", message_type=[{"name": "M"}]),
        },
        {"a.proto": file("a.proto", message_type=[{"name": "M", "field": [{"name": "f", "type_name": ".gone"}]}])},
        {},
    ],
)
def test_descriptors_that_contradict_themselves(files: dict[str, bytes]) -> None:
    with pytest.raises(Senseless):
        described(files, ["Service"])
