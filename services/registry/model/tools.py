"""The rules of tool definitions, MCP servers and tool providers. A value that may be a key is never repeated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from libs.errors import Violation
from services.registry.model import Spec
from services.registry.model.schemas import check_schema

_REFERENCE: Final = re.compile(r"secret:[a-z0-9][a-z0-9_-]*:[A-Za-z0-9_]+")
_SECRET_VARIABLE: Final = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)
_SECRET_HEADER: Final = re.compile(r"authorization|cookie|.*(key|token)", re.IGNORECASE)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_TOOL_NAME: Final = re.compile(r"[^\s*/]*\*|[^\s*/]+")
_METHOD: Final = re.compile(r"([A-Za-z_]\w*\.)*[A-Za-z_]\w*/[A-Za-z_]\w*|[A-Za-z_][\w.]*(/\w*)?\*|\*", re.ASCII)


def function_name(resource_id: str, spec: Spec) -> str:
    """The name under which models see a tool definition."""
    return str(spec.get("function_name") or resource_id)


def check_tool_definition(spec: Spec) -> list[Violation]:
    field = "tool_definition.spec"
    if "input_schema" not in spec:
        return [Violation(f"{field}.input_schema", "is required: the JSON Schema of the arguments")]
    found = check_schema(spec["input_schema"], f"{field}.input_schema", of_object=True)
    if "output_schema" in spec:
        found += check_schema(spec["output_schema"], f"{field}.output_schema")
    return found


def check_mcp_server(spec: Spec) -> list[Violation]:
    field = "mcp_server.spec"
    transports = [name for name in ("stdio", "http", "sse") if name in spec]
    if len(transports) != 1:
        return [Violation(f"{field}.transport", "is required: exactly one of stdio, http and sse")]
    return [
        *_check_environment(spec.get("stdio", {}), f"{field}.stdio"),
        *(violation for name in ("http", "sse") for violation in _check_http(spec.get(name, {}), f"{field}.{name}")),
        *_check_names(spec.get("include_tools", ()), f"{field}.include_tools"),
        *_check_names(spec.get("exclude_tools", ()), f"{field}.exclude_tools"),
    ]


def _check_environment(stdio: Spec, field: str) -> Iterator[Violation]:
    environment = stdio.get("environment", {})
    for name in environment:
        if not _VARIABLE.fullmatch(name):
            yield Violation(f'{field}.environment["{name}"]', "is not the name of an environment variable")
    yield from _check_references(environment, f"{field}.environment", _SECRET_VARIABLE)


def _check_http(http: Spec, field: str) -> Iterator[Violation]:
    if "url" in http and (problem := _problem_of_url(http["url"])):
        yield Violation(f"{field}.url", problem)
    headers = http.get("headers", {})
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            yield Violation(f'{field}.headers["{name}"]', "is not a header of HTTP")
    yield from _check_references(headers, f"{field}.headers", _SECRET_HEADER)


def _problem_of_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL"
    if not parts.hostname or port == 0:
        return "is not a URL"
    if "@" in parts.netloc or any(_is_secret(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return "has credentials; they belong in headers, as references"
    return None


def _is_secret(name: str) -> bool:
    return bool(_SECRET_VARIABLE.fullmatch(name) or _SECRET_HEADER.fullmatch(name))


def _check_references(values: Mapping[str, str], field: str, secret: re.Pattern[str]) -> Iterator[Violation]:
    for name, value in values.items():
        demanded = secret.fullmatch(name) or value.startswith("secret:")
        if demanded and not _REFERENCE.fullmatch(value):
            yield Violation(f'{field}["{name}"]', "must be a reference, secret:provider:field")


def _check_names(names: Sequence[str], field: str) -> Iterator[Violation]:
    for index, name in enumerate(names):
        if not _TOOL_NAME.fullmatch(name):
            yield Violation(f"{field}[{index}]", "is not the name of a tool, or the beginning of one and *")


def check_tool_provider(spec: Spec) -> list[Violation]:
    return [*_check_address(spec), *_check_token(spec), *_check_methods(spec)]


def _check_address(spec: Spec) -> Iterator[Violation]:
    field = "tool_provider.spec.address"
    if not spec.get("address"):
        yield Violation(field, "is required: host:port")
    elif not 1 <= int(spec["address"].rpartition(":")[2]) <= 65535:
        yield Violation(field, "has a port that is not one of 1 to 65535")


def _check_token(spec: Spec) -> Iterator[Violation]:
    token = spec.get("token_reference")
    if token and not _REFERENCE.fullmatch(token):
        yield Violation("tool_provider.spec.token_reference", "is not secret:provider:field; a token itself is refused")


def _check_methods(spec: Spec) -> Iterator[Violation]:
    field, methods = "tool_provider.spec.methods", spec.get("methods", ())
    by_reflection = spec.get("protocol") == "TOOL_PROTOCOL_REFLECTION"
    if by_reflection and not methods:
        yield Violation(field, "are required with TOOL_PROTOCOL_REFLECTION")
    if methods and not by_reflection:
        yield Violation(field, "are only for TOOL_PROTOCOL_REFLECTION")
    for index, method in enumerate(methods):
        if not _METHOD.fullmatch(method):
            yield Violation(f"{field}[{index}]", "is not package.Service/Method, or the beginning of it and *")
