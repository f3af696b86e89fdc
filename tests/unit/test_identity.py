from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from libs import errors, identity
from libs.config import StartError
from services.registry.config import RegistrySettings

SECRET = "s" * 32
Make = Callable[..., Any]


def claims(**others: Any) -> dict[str, Any]:
    made = {"sub": "ann", "tenant": "acme", "exp": time.time() + 60, "scope": "agents:read agents:write", **others}
    return {key: value for key, value in made.items() if value is not None}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def hs256(**others: Any) -> str:
    return jwt.encode(claims(**others), SECRET, "HS256")


@pytest.fixture
def shared(make_settings: Make) -> identity.Authenticator:
    return identity.authenticator(make_settings(RegistrySettings, jwt_secret=SECRET))


def keys(private: Any) -> tuple[bytes, bytes]:
    """The private and the public key as PEM."""
    return (
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


PAIRS = {
    "RS256": keys(rsa.generate_private_key(65537, 2048)),
    "ES256": keys(ec.generate_private_key(ec.SECP256R1())),
    "EdDSA": keys(ed25519.Ed25519PrivateKey.generate()),
}


@pytest.fixture
def with_key(make_settings: Make, tmp_path: Path) -> Callable[..., identity.Authenticator]:
    def make(public: bytes, **others: Any) -> identity.Authenticator:
        path = tmp_path / "key.pem"
        path.write_bytes(public)
        return identity.authenticator(make_settings(RegistrySettings, jwt_public_key_file=path, **others))

    return make


def test_good_token(shared: identity.Authenticator) -> None:
    token = hs256()
    for _ in range(2):  # verified, then remembered
        caller = shared.authenticate(bearer(token))
        assert (caller.tenant, caller.subject) == ("acme", "ann")
        assert caller.scopes == {"agents:read", "agents:write"}
    assert token not in repr(caller)


@pytest.mark.parametrize("algorithm", PAIRS)
def test_good_token_of_a_key_pair(with_key: Callable[..., identity.Authenticator], algorithm: str) -> None:
    private, public = PAIRS[algorithm]
    caller = with_key(public).authenticate(bearer(jwt.encode(claims(scopes=["a", "b"]), private, algorithm)))
    assert (caller.tenant, caller.scopes) == ("acme", {"a", "b"})


@pytest.mark.parametrize(
    ("given", "scopes"),
    [({"scopes": "a b"}, {"a", "b"}), ({"scopes": 5}, set()), ({"scope": ["a"]}, {"a"}), ({"scope": None}, set())],
)
def test_scopes(shared: identity.Authenticator, given: dict[str, Any], scopes: set[str]) -> None:
    assert shared.authenticate(bearer(hs256(**{"scope": "", **given}))).scopes == scopes


def unsigned() -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims(exp=int(time.time()) + 60))
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + "."


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"authorization": ""},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer"},
        bearer("nonsense"),
        bearer("é.é.é"),
        bearer(hs256(exp=time.time() - 1)),
        bearer(hs256(nbf=time.time() + 60)),
        bearer(jwt.encode(claims(), "t" * 32, "HS256")),
        bearer(jwt.encode(claims(), SECRET * 2, "HS512")),
        bearer(hs256(sub=None)),
        bearer(hs256(sub=5)),
        bearer(hs256(exp=None)),
        bearer(hs256(tenant=None)),
        bearer(hs256(tenant="ACME; --")),
        bearer(hs256(tenant=["acme"])),
        bearer(unsigned()),
        bearer(jwt.encode(claims(), PAIRS["RS256"][0], "RS256")),
    ],
)
def test_bad_credentials(shared: identity.Authenticator, metadata: Mapping[str, str]) -> None:
    with pytest.raises(errors.Unauthenticated) as caught:
        shared.authenticate(metadata)
    assert caught.value.reason_code == "CREDENTIAL_INVALID"


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_key_of_another_kind(with_key: Callable[..., identity.Authenticator], algorithm: str) -> None:
    token = jwt.encode(claims(), PAIRS[algorithm][0], algorithm)
    with pytest.raises(errors.Unauthenticated):
        with_key(PAIRS["RS256"][1]).authenticate(bearer(token))


def test_public_key_is_no_shared_secret(with_key: Callable[..., identity.Authenticator]) -> None:
    public = PAIRS["RS256"][1]
    header, payload = ({"alg": "HS256", "typ": "JWT"}, claims(exp=int(time.time()) + 60))
    body = b".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in (header, payload))
    signature = base64.urlsafe_b64encode(
        jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(body, public)
    )
    with pytest.raises(errors.Unauthenticated):
        with_key(public).authenticate(bearer(f"{body.decode()}.{signature.decode().rstrip('=')}"))


def test_token_expires_while_remembered(shared: identity.Authenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    token = hs256()
    shared.authenticate(bearer(token))
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(errors.Unauthenticated):
        shared.authenticate(bearer(token))


def test_issuer_and_audience(make_settings: Make) -> None:
    strict = identity.authenticator(
        make_settings(RegistrySettings, jwt_secret=SECRET, jwt_issuer="https://id", jwt_audience="suite")
    )
    assert strict.authenticate(bearer(hs256(iss="https://id", aud="suite"))).tenant == "acme"
    for wrong in ({}, {"iss": "https://id"}, {"iss": "https://id", "aud": "x"}, {"iss": "x", "aud": "suite"}):
        with pytest.raises(errors.Unauthenticated):
            strict.authenticate(bearer(hs256(**wrong)))


def test_service_acts_for_a_tenant(shared: identity.Authenticator) -> None:
    asked = identity.acting_for(identity.Caller("globex", "josé ☃", frozenset()))
    assert all(value.isascii() for value in asked.values())
    caller = shared.authenticate({**bearer(hs256(scope="service")), **asked})
    assert (caller.tenant, caller.subject, caller.scopes) == ("globex", "josé ☃", {"service"})


def test_service_hands_on_the_subjects_own_token(shared: identity.Authenticator) -> None:
    own, others, ended = hs256(), hs256(sub="bob"), hs256(exp=time.time() - 1)
    service = hs256(sub="router", scope="service")
    asked = identity.acting_for(shared.authenticate(bearer(own)))
    caller = shared.authenticate({**bearer(service), **asked})
    assert (caller.subject, caller.service, caller.own_token) == ("ann", "router", own)
    assert identity.acting_for(caller) == asked  # as the next service is told
    assert own not in repr(caller)
    for no_use in (others, ended, service, hs256(tenant="globex"), "nonsense", ""):
        caller = shared.authenticate({**bearer(service), **asked, identity.TOKEN_KEY: no_use})
        assert (caller.subject, caller.own_token) == ("ann", "")
    assert shared.authenticate(bearer(service)).own_token == ""
    user = shared.authenticate({**bearer(own), identity.TOKEN_KEY: others})
    assert (user.service, user.own_token) == ("", own)


def test_service_acts_for_itself(shared: identity.Authenticator) -> None:
    assert shared.authenticate(bearer(hs256(scope="service"))).tenant == "acme"


def test_service_cannot_act_for_what_is_no_tenant(shared: identity.Authenticator) -> None:
    with pytest.raises(errors.Unauthenticated):
        shared.authenticate({**bearer(hs256(scope="service")), identity.TENANT_KEY: "../x"})


@pytest.mark.parametrize("scope", ["agents:read", "*", "services"])
def test_others_do_not_act_for_a_tenant(shared: identity.Authenticator, scope: str) -> None:
    metadata = {**bearer(hs256(scope=scope)), identity.TENANT_KEY: "globex", identity.SUBJECT_KEY: "root"}
    caller = shared.authenticate(metadata)
    assert (caller.tenant, caller.subject) == ("acme", "ann")


def test_loopback_needs_no_token_and_obeys_no_metadata(make_settings: Make) -> None:
    local = identity.authenticator(make_settings(RegistrySettings))
    assert local.authenticate({identity.TENANT_KEY: "globex"}).tenant == identity.DEFAULT_TENANT


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_hosts(make_settings: Make, host: str) -> None:
    assert isinstance(identity.authenticator(make_settings(RegistrySettings, host=host)), identity.Loopback)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org", ""])
def test_other_hosts_need_keys(make_settings: Make, host: str) -> None:
    with pytest.raises(StartError, match="without authentication"):
        identity.authenticator(make_settings(RegistrySettings, host=host))
    identity.authenticator(make_settings(RegistrySettings, host=host, jwt_secret=SECRET))


def test_short_secret(make_settings: Make) -> None:
    with pytest.raises(StartError, match="jwt_secret") as caught:
        identity.authenticator(make_settings(RegistrySettings, jwt_secret="hunter2"))
    assert "hunter2" not in str(caught.value)


def test_secret_or_key(make_settings: Make, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="jwt_public_key_file"):
        identity.authenticator(make_settings(RegistrySettings, jwt_secret=SECRET, jwt_public_key_file=tmp_path / "x"))


@pytest.mark.parametrize(
    "content",
    [None, b"nonsense", PAIRS["RS256"][0], keys(ec.generate_private_key(ec.SECP521R1()))[1]],
    ids=["missing", "no PEM", "private", "other curve"],
)
def test_bad_key_file(make_settings: Make, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartError, match="jwt_public_key_file"):
        identity.authenticator(make_settings(RegistrySettings, jwt_public_key_file=path))


def test_scopes_that_are_required() -> None:
    caller = identity.Caller("t", "s", frozenset({"a"}))
    caller.require("a")
    with pytest.raises(errors.PermissionDenied) as caught:
        caller.require("b")
    assert caught.value.metadata == {"scope": "b"}
    for all_scopes in ("*", identity.SERVICE_SCOPE):
        identity.Caller("t", "s", frozenset({all_scopes})).require("b")
