from __future__ import annotations

import copy
import pickle

import pytest

from services.secrets.model import Scope, Value
from services.secrets.references import (
    Environment,
    EnvironmentReference,
    Failure,
    Resolution,
    SecretReference,
    parse,
)

CANARY = "sk-canary"


@pytest.mark.parametrize("shown", [repr, str, "{}".format, "{!r}".format, lambda value: f"{value}", "%s".__mod__])
def test_value_shows_nothing(shown: object) -> None:
    value = Value(CANARY)
    for holder in (value, [value], {"api_key": value}, Resolution(value)):
        assert CANARY not in shown(holder)  # type: ignore[operator]


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_value_is_not_copied(copied: object) -> None:
    with pytest.raises(TypeError) as caught:
        copied(Value(CANARY))  # type: ignore[operator]
    assert CANARY not in str(caught.value)


def test_values_compare() -> None:
    assert Value("a") == Value("a")
    assert Value("a") != Value("b")
    assert Value("a") != "a"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("secret:openai:api_key", SecretReference("openai", "api_key")),
        ("secret:azure_openai:endpoint", SecretReference("azure_openai", "endpoint")),
        ("secret:openai/crm prod:api_key", SecretReference("openai", "api_key", "crm prod")),
        ("user:openai:api_key", SecretReference("openai", "api_key", scope=Scope.USER)),
        ("user:openai/mine:api_key", SecretReference("openai", "api_key", "mine", Scope.USER)),
        ("secret:openai/:api_key", None),
        ("secret:openai/a/b:api_key", None),
        ("system:openai:api_key", None),
        ("os.environ/OPENAI_API_KEY", EnvironmentReference("OPENAI_API_KEY")),
        ("secret:openai", None),
        ("secret:openai:", None),
        ("secret::api_key", None),
        ("secret:OpenAI:api_key", None),
        ("secret:openai:api_key:more", None),
        ("secret:openai:api_key\n", None),
        ("os.environ/", None),
        ("os.environ/A-B", None),
        ("OS.ENVIRON/NAME", None),
        ("sk-1234", None),
        ("", None),
    ],
)
def test_references(text: str, parsed: object) -> None:
    assert parse(text) == parsed


@pytest.mark.parametrize(
    ("tenant", "name", "outcome"),
    [
        ("default", "OPENAI_API_KEY", Value("sk-1")),
        ("default", "OPENAI_ABSENT", Failure.NOT_FOUND),
        ("default", "OPENAI_EMPTY", Failure.NOT_FOUND),
        ("default", "OPENAI_BYTES", Failure.NOT_FOUND),
        ("default", "HOME", Failure.DENIED),
        ("default", "DYNAMIC_AGENTS_JWT_SECRET", Failure.DENIED),
        ("default", "dynamic_agents_jwt_secret", Failure.DENIED),
        ("default", "A8N_SERVICE_TOKEN", Failure.DENIED),
        ("another", "OPENAI_API_KEY", Failure.DENIED),
    ],
)
def test_environment(tenant: str, name: str, outcome: object) -> None:
    variables = {
        "OPENAI_API_KEY": "sk-1",
        "OPENAI_EMPTY": "",
        "OPENAI_BYTES": "\udcff",
        "HOME": "/",
        "DYNAMIC_AGENTS_JWT_SECRET": "x",
        "A8N_SERVICE_TOKEN": "x",
    }
    patterns = ("OPENAI_*", "DYNAMIC_*", "dynamic_*", "A8N_*")
    environment = Environment(variables, patterns, ("default",))
    assert environment.get(tenant, name) == outcome
    assert "sk-1" not in repr(environment)
