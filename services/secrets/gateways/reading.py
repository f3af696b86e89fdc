"""What A8N Identity says, in whatever form it says it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from services.secrets.model import Scope, Secret, Value, is_text

_UNUSABLE: Final = frozenset({"revoked", "disabled", "inactive", "expired", "deleted"})
_BEFORE_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


def named_fields(body: Any) -> Iterator[str]:
    """The fields that a refusal names, in any of the usual forms."""
    match body:
        case {"loc": [*path]}:
            yield ".".join(str(part) for part in path if part not in ("body", "query", "path"))
        case {"field": str(field)}:
            yield field
        case {"detail": inner} | {"errors": inner}:
            yield from named_fields(inner)
        case [*items]:
            for item in items:
                yield from named_fields(item)
        case dict():
            yield from map(str, body)


def is_usable(entry: Any) -> bool:
    return not (isinstance(entry, dict) and str(entry.get("status", "")).lower() in _UNUSABLE)


def entry(body: Any) -> dict[str, Any] | None:
    """The entry, with or without an envelope around it; None if there is none."""
    if not isinstance(body, dict):
        return None
    inner = (value for value in body.values() if isinstance(value, dict) and "id" in value)
    return body if "id" in body else next(inner, {})


def entries(body: Any) -> list[Any] | None:
    """The entries of a page, bare or in an envelope."""
    for name in ("items", "data", "secrets", "providers"):
        if isinstance(body, dict) and isinstance(body.get(name), list):
            found: list[Any] = body[name]
            return found
    return body if isinstance(body, list) else None


def values(body: Any) -> dict[str, Value] | None:
    """The values, with or without an envelope; one that is no text does not fail the others."""
    inner = body["values"] if isinstance(body, dict) and isinstance(body.get("values"), dict) else body
    if not isinstance(inner, dict):
        return None
    return {name: Value(read) for name, value in inner.items() if (read := text(value))}


def next_page(body: Any) -> dict[str, str] | str | None:
    """Where the next page is: its address, or the parameters that name it."""
    match body:
        case {"next": str(address)} | {"links": {"next": str(address)}} | {"next_url": str(address)} if address:
            return address
        case {"next_page_token": str(token)} if token:
            return {"page_token": token}
        case {"next_cursor": str(token)} if token:
            return {"cursor": token}
        case {"page": int(page), "pages": int(pages)} if page < pages:
            return {"page": str(page + 1)}
    return None


def secret(entry: Any, scope: Scope = Scope.SYSTEM) -> Secret | None:
    """None if the entry lacks what makes it one."""
    if not isinstance(entry, dict) or not entry.get("id") or not isinstance(entry.get("provider"), str):
        return None
    created = _time(entry.get("created_at"))
    labels = entry.get("labels")
    return Secret(
        secret_id=str(entry["id"]),
        provider=entry["provider"],
        display_name=str(entry.get("name") or ""),
        labels={key: str(value) for key, value in labels.items()} if isinstance(labels, dict) else {},
        fields=_field_names(entry.get("fields")),
        version=version(entry),
        create_time=created,
        update_time=max(created, _time(entry.get("updated_at"))),
        etag=_etag(entry),
        scope=scope,
    )


def _etag(entry: dict[str, Any]) -> str:
    """A digest of all that is said of a secret, since A8N has no etag of its own; never of a value."""
    said = {name: value for name, value in entry.items() if name not in ("values", "last_used_at", "last_accessed_at")}
    return hashlib.sha256(orjson.dumps(json.dumps(said, sort_keys=True, default=str))).hexdigest()[:16]


def _field_names(fields: Any) -> tuple[str, ...]:
    if isinstance(fields, dict):
        return tuple(sorted(name for name, has in fields.items() if has is not False))
    return tuple(sorted(str(name) for name in fields)) if isinstance(fields, list) else ()


def version(entry: Any) -> int:
    version = entry.get("version") if isinstance(entry, dict) else None
    return version if type(version) is int and version > 0 else 1


def _time(value: Any) -> datetime:
    with suppress(ValueError, TypeError):
        time = datetime.fromisoformat(value)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    return _BEFORE_TIME


def text(value: Any) -> str:
    """Empty for what is no value."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if is_text(text) else ""
