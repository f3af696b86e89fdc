"""Secrets and their values."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, NoReturn
from urllib.parse import quote


class Value:
    """The text of a credential. `reveal` alone shows it: neither repr, str and format nor a copy or a pickle do.

    Its own bytes are overwritten when nobody holds it any more. Texts that `reveal` gave are not ours to overwrite.
    """

    __slots__ = ("_bytes", "_cleared", "_digest")

    def __init__(self, text: str) -> None:
        self._bytes, self._cleared = bytearray(text.encode()), False
        self._digest: tuple[bytes, str] = b"", ""

    def reveal(self) -> str:
        if self._cleared:
            raise ValueError("the value is cleared")
        return self._bytes.decode()

    def digest(self, key: bytes) -> str:
        """Tells equal values apart from others, and without the key nothing more."""
        known, digest = self._digest
        if known != key:
            digest = hmac.digest(key, self._bytes, hashlib.sha256).hex()
            self._digest = key, digest
        return digest

    def clear(self) -> None:
        self._cleared = True
        self._bytes[:] = bytes(len(self._bytes))

    def __del__(self) -> None:
        if hasattr(self, "_bytes"):
            self.clear()

    def __repr__(self) -> str:
        return "Value(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and hmac.compare_digest(self._bytes, other._bytes)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Value is neither copied nor pickled")


Values = Mapping[str, Value]


class Scope(Enum):
    SYSTEM = auto()
    USER = auto()


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose secrets: a tenant's own, or those of one of its subjects. The token has no part in equality."""

    tenant: str
    subject: str = ""
    token: str = field(default="", repr=False, compare=False)

    @property
    def scope(self) -> Scope:
        return Scope.USER if self.subject else Scope.SYSTEM


@dataclass(frozen=True, slots=True)
class Draft:
    """What a caller asks to keep."""

    provider: str
    display_name: str
    labels: Mapping[str, str]
    values: Values


@dataclass(frozen=True, slots=True)
class Change:
    """What a caller asks to change; None stays as it is."""

    display_name: str | None = None
    labels: Mapping[str, str] | None = None
    replaced: Values | None = None
    """All the values that there shall be."""
    patched: Mapping[str, Value | None] = field(default_factory=dict)
    """Single values; None removes one."""

    @property
    def changes_values(self) -> bool:
        return self.replaced is not None or bool(self.patched)

    def values(self, current: Values) -> Values:
        changed = {**(current if self.replaced is None else self.replaced), **self.patched}
        return {name: value for name, value in changed.items() if value is not None}


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
    etag: str = ""
    scope: Scope = Scope.SYSTEM
    value_time: datetime | None = None
    """When the values last changed, where that is known."""

    @property
    def state(self) -> str:
        """Another one when the values may be others."""
        return f"{self.version} {(self.value_time or self.update_time).isoformat()}"

    def may_have(self, name: str) -> bool:
        return not self.fields or name in self.fields

    def is_named(self, name: str) -> bool:
        return name in ("", self.display_name, self.secret_id)

    def rank(self, preferred: Mapping[str, str]) -> tuple[int, datetime, str]:
        """The greatest of several answers: that with the most of the preferred labels, then the newest."""
        labels = sum(self.labels.get(name) == value for name, value in preferred.items())
        return labels, self.value_time or self.update_time, self.secret_id


@dataclass(frozen=True, slots=True)
class SecretValues:
    values: Values
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
class Holder:
    """A service, and whom it acts for."""

    service: str
    subject: str


@dataclass(frozen=True, slots=True)
class Lease:
    """For how long its holder may use the values of a secret."""

    lease_id: str
    holder: Holder
    owner: Owner
    provider: str
    secret_id: str
    state: str
    """What says that the values are still those."""
    renew_time: datetime
    expire_time: datetime
    max_expire_time: datetime
    parent_id: str = ""


@dataclass(frozen=True, slots=True)
class Wrap:
    """A token that gives the values of a secret once; of the token itself the digest alone is kept."""

    digest: str
    maker: Holder
    owner: Owner
    provider: str
    secret_id: str
    create_time: datetime
    expire_time: datetime
    spent: bool = False

    @property
    def path(self) -> str:
        return path(self.provider, self.secret_id)


def path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)


def is_text(text: str) -> bool:
    """Whether it can travel: an environment may hold bytes, and JSON halves of characters, that UTF-8 does not have."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def first(secret_id: str, draft: Draft, *, etag: str = "", scope: Scope = Scope.SYSTEM) -> Secret:
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
        etag=etag,
        scope=scope,
        value_time=now,
    )
