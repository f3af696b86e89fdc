"""Who calls. A caller comes from a verified JWT, or, on loopback without keys, is tenant `default`."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from libs import errors
from libs.config import Settings, StartError
from libs.ids import is_id

DEFAULT_TENANT: Final = "default"
SERVICE_SCOPE: Final = "service"
TENANT_KEY: Final = "dynamic-agents-tenant"
SUBJECT_KEY: Final = "dynamic-agents-subject"
TOKEN_KEY: Final = "dynamic-agents-token"  # noqa: S105
_CACHED_TOKENS: Final = 4096


@dataclass(frozen=True, slots=True)
class Caller:
    tenant: str
    subject: str
    scopes: frozenset[str]
    token: str = field(default="", repr=False)
    """What the peer showed: the subject's own token, or that of a service which acts for it."""
    service: str = ""
    """The subject of a token with the scope `service`; empty where it is a user's."""
    delegated: str = field(default="", repr=False)
    """The subject's own token, where a service handed it on."""

    @property
    def own_token(self) -> str:
        return self.delegated if self.service else self.token

    def require(self, scope: str) -> None:
        if not self.scopes & {scope, SERVICE_SCOPE, "*"}:
            raise errors.PermissionDenied(f"scope {scope} is missing", metadata={"scope": scope})


_current: ContextVar[Caller] = ContextVar("caller")


def current() -> Caller:
    return _current.get()


def current_or_none() -> Caller | None:
    return _current.get(None)


def enter(caller: Caller) -> None:
    """Makes `caller` the current one for the rest of this task."""
    _current.set(caller)


class Authenticator(Protocol):
    def authenticate(self, metadata: Mapping[str, Any]) -> Caller: ...


class Loopback:
    """No credentials: everybody who can reach the loopback interface is the one local caller."""

    _caller = Caller(DEFAULT_TENANT, "local", frozenset({"*"}))

    def authenticate(self, metadata: Mapping[str, Any]) -> Caller:
        return self._caller


class JwtAuthenticator:
    """Bearer tokens with the claims `tenant`, `sub` and `scope` (space separated) or `scopes` (a list).

    A token with the scope `service` may act for another tenant and subject, named in the call's metadata, and may hand
    on that subject's own token.
    """

    def __init__(self, key: Any, algorithms: list[str], *, issuer: str | None, audience: str | None) -> None:
        self._key, self._algorithms, self._issuer, self._audience = key, algorithms, issuer, audience
        self._verified: dict[str, tuple[float, Caller]] = {}

    def authenticate(self, metadata: Mapping[str, Any]) -> Caller:
        scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise errors.Unauthenticated("a bearer token is required")
        caller = self._bearer(token)
        if not caller.service or TENANT_KEY not in metadata:
            return caller
        tenant = _tenant(metadata[TENANT_KEY])
        subject = unquote(metadata[SUBJECT_KEY]) if SUBJECT_KEY in metadata else caller.subject
        delegated = self._delegated(str(metadata.get(TOKEN_KEY, "")), tenant, subject)
        return Caller(tenant, subject, caller.scopes, token, caller.service, delegated)

    def _bearer(self, token: str) -> Caller:
        expires, caller = self._verified.get(token) or self._verify(token)
        if expires <= time.time():
            self._verified.pop(token, None)
            raise errors.Unauthenticated("the token has expired")
        return caller

    def _delegated(self, token: str, tenant: str, subject: str) -> str:
        """Empty for one that has expired meanwhile, or is another's: the service itself may still call."""
        if not token:
            return ""
        try:
            owner = self._bearer(token)
        except errors.Unauthenticated:
            return ""
        return token if (owner.tenant, owner.subject, owner.service) == (tenant, subject, "") else ""

    def _verify(self, token: str) -> tuple[float, Caller]:
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            )
        except jwt.ExpiredSignatureError:
            raise errors.Unauthenticated("the token has expired") from None
        except jwt.PyJWTError as error:
            raise errors.Unauthenticated(f"the token does not verify: {type(error).__name__}") from None
        scopes, subject = _scopes(claims), str(claims["sub"])
        service = subject if SERVICE_SCOPE in scopes else ""
        caller = Caller(_tenant(claims.get("tenant", "")), subject, scopes, token, service)
        if len(self._verified) >= _CACHED_TOKENS:
            self._verified.clear()
        self._verified[token] = (float(claims["exp"]), caller)
        return self._verified[token]


def _tenant(value: object) -> str:
    if not isinstance(value, str) or not is_id(value):
        raise errors.Unauthenticated("the token names no valid tenant")
    return value


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    scopes = claims.get("scopes") or claims.get("scope", "")
    return frozenset(
        scopes.split() if isinstance(scopes, str) else map(str, scopes if isinstance(scopes, list) else ())
    )


def acting_for(caller: Caller) -> Mapping[str, str]:
    """Metadata with which a service says for whom it calls; a subject may be any text, metadata only ASCII."""
    own = {TOKEN_KEY: caller.own_token} if caller.own_token else {}
    return {TENANT_KEY: caller.tenant, SUBJECT_KEY: quote(caller.subject), **own}


def is_open(settings: Settings) -> bool:
    """Whether nobody needs credentials."""
    return settings.jwt_secret is None and settings.jwt_public_key_file is None


def authenticator(settings: Settings) -> Authenticator:
    """Refuses to go without keys anywhere but on loopback."""
    secret, path = settings.jwt_secret, settings.jwt_public_key_file
    if secret is not None and path is not None:
        raise StartError("jwt_secret and jwt_public_key_file exclude each other: set one")
    if secret is not None:
        if len(secret.get_secret_value()) < 32:
            raise StartError("jwt_secret is shorter than 32 characters")
        return JwtAuthenticator(
            secret.get_secret_value(), ["HS256"], issuer=settings.jwt_issuer, audience=settings.jwt_audience
        )
    if path is not None:
        key, algorithm = _public_key(path)
        return JwtAuthenticator(key, [algorithm], issuer=settings.jwt_issuer, audience=settings.jwt_audience)
    if not _is_loopback(settings.host):
        raise StartError(
            f"refusing to listen on {settings.host} without authentication: "
            "set jwt_public_key_file or jwt_secret, or listen on 127.0.0.1"
        )
    return Loopback()


def _public_key(path: Path) -> tuple[Any, str]:
    """The key, and the one algorithm that its kind is for."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise StartError(f"jwt_public_key_file: cannot read {path}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise StartError(f"jwt_public_key_file: {path} is not the PEM file of a public key") from None
    match key:
        case rsa.RSAPublicKey():
            return key, "RS256"
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return key, "ES256"
        case ed25519.Ed25519PublicKey():
            return key, "EdDSA"
    raise StartError(f"jwt_public_key_file: {path} is neither an RSA, a P-256 nor an Ed25519 key")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
