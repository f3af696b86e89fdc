"""Providers, and the JSON Schemas that the values of their credentials must fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from libs.errors import Violation
from services.secrets.model import Values

Schema = Mapping[str, Any]
_URL: Final = {"type": "string", "pattern": "^https?://"}
_TEXT: Final = {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    display_name: str
    schema: Schema

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(_named(self.schema.get("properties")))

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(_named(self.schema.get("required")))


def _named(found: Any) -> Iterator[str]:
    yield from map(str, found if isinstance(found, list | dict) else ())


def _provider(name: str, display_name: str, required: Schema, **optional: Schema) -> Provider:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": display_name,
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }
    return Provider(name, display_name, schema)


_KEY: Final = {"api_key": _TEXT}
BUILT_IN: Final[Mapping[str, Provider]] = {
    provider.name: provider
    for provider in (
        _provider("anthropic", "Anthropic", _KEY, base_url=_URL),
        _provider("azure_openai", "Azure OpenAI", _KEY, endpoint=_URL, api_version=_TEXT),
        _provider(
            "bedrock",
            "Amazon Bedrock",
            {"aws_access_key_id": _TEXT, "aws_secret_access_key": _TEXT},
            aws_session_token=_TEXT,
            aws_region_name=_TEXT,
        ),
        _provider("discord", "Discord", {"bot_token": _TEXT}, application_id=_TEXT),
        _provider("google", "Google", _KEY, project=_TEXT),
        _provider("groq", "Groq", _KEY, base_url=_URL),
        _provider("openai", "OpenAI", _KEY, org_id=_TEXT, project=_TEXT, base_url=_URL),
        _provider("slack", "Slack", {"bot_token": _TEXT}, app_token=_TEXT, signing_secret=_TEXT),
    )
}


class BadSchema(Exception):
    """A schema that cannot be used, for example since it refers to others."""


def check(schema: Schema, values: Values) -> list[Violation]:
    """What is wrong with the values, without a word of them."""
    texts = {name: value.reveal() for name, value in values.items()}
    try:
        Draft202012Validator.check_schema(schema)
        found = list(Draft202012Validator(schema, registry=Registry()).iter_errors(texts))
        return [violation for error in found for violation in _violations(error, schema)]
    except (SchemaError, Unresolvable, RecursionError):
        pass
    raise BadSchema


def _violations(error: ValidationError, schema: Schema) -> Iterator[Violation]:
    wanted: Any = error.validator_value
    given: Any = error.instance
    path = "".join(f"[{str(part)!r}]" for part in error.absolute_path)
    match error.validator:
        case "required" if not path:
            missing = [name for name in wanted if name not in given]
            yield from (Violation(f"values[{name!r}]", "is required by the provider's schema") for name in missing)
        case "additionalProperties" if not path:
            known = sorted(_named(schema.get("properties")))
            unknown = sorted(set(given) - set(known))
            text = f"is no field of the provider; it has {', '.join(known)}"
            yield from (Violation(f"values[{name!r}]", text) for name in unknown)
        case keyword:
            yield Violation(f"values{path}", f"does not fit the provider's schema ({keyword})")
