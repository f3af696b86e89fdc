"""Secrets, their values, and the references that configurations make to them."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import Any, Final, NoReturn

_ENVIRONMENT: Final = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_SECRET: Final = re.compile(r"secret:([a-z0-9][a-z0-9_-]{0,62}):([A-Za-z0-9_]{1,63})")
_OWN_VARIABLES: Final = ("DYNAMIC_AGENTS_", "A8N_")


class Value:
    """The text of a credential. `reveal` alone shows it: neither repr, str and format nor a copy or a pickle do."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Value(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Value is neither copied nor pickled")


@dataclass(frozen=True, slots=True)
class Draft:
    """What a caller asks to keep."""

    provider: str
    display_name: str
    labels: Mapping[str, str]
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Secret:
    """What may be known of a credential; no `fields` means that they are not known."""

    secret_id: str
    provider: str
    display_name: str
    labels: Mapping[str, str]
    fields: tuple[str, ...]
    version: int
    create_time: datetime
    update_time: datetime

    def may_have(self, name: str) -> bool:
        return not self.fields or name in self.fields


@dataclass(frozen=True, slots=True)
class SecretValues:
    values: Mapping[str, Value]
    version: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext, the wrapped data key that opens it, and the id of the master key that wrapped that."""

    key_id: str
    wrapped_key: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A create that may be repeated: its key, and the digest of what it asked for."""

    request_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class EnvironmentReference:
    name: str


@dataclass(frozen=True, slots=True)
class SecretReference:
    provider: str
    field: str


Reference = EnvironmentReference | SecretReference


class Failure(Enum):
    MALFORMED = auto()
    NOT_FOUND = auto()
    DENIED = auto()
    UNAVAILABLE = auto()


@dataclass(frozen=True, slots=True)
class Resolution:
    reference: str = field(repr=False)  # a malformed one may be a key that was put in the wrong place
    outcome: Value | Failure


@dataclass(frozen=True, slots=True)
class Environment:
    """The process's variables, as far as references may name them."""

    variables: Mapping[str, str] = field(repr=False)
    names: tuple[str, ...]
    tenants: tuple[str, ...]

    def get(self, tenant: str, name: str) -> Value | Failure:
        if name.upper().startswith(_OWN_VARIABLES) or not _matches(name, self.names):
            return Failure.DENIED
        if not _matches(tenant, self.tenants):
            return Failure.DENIED
        text = self.variables.get(name)
        return Value(text) if text and is_text(text) else Failure.NOT_FOUND


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def is_text(text: str) -> bool:
    """Whether it can travel: an environment may hold bytes, and JSON halves of characters, that UTF-8 does not have."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def parse(text: str) -> Reference | None:
    """The reference that `text` is; None if it is none."""
    if match := _ENVIRONMENT.fullmatch(text):
        return EnvironmentReference(match[1])
    if match := _SECRET.fullmatch(text):
        return SecretReference(match[1], match[2])
    return None


def first(secret_id: str, draft: Draft) -> Secret:
    now = datetime.now(UTC)
    return Secret(
        secret_id=secret_id,
        provider=draft.provider,
        display_name=draft.display_name,
        labels=dict(draft.labels),
        fields=tuple(sorted(draft.values)),
        version=1,
        create_time=now,
        update_time=now,
    )
