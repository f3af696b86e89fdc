"""`dynamic-agents secret`: put, list, rotate, delete; another key for the vault. No value is ever an argument."""

from __future__ import annotations

import asyncio
import base64
import binascii
import sys
from contextlib import suppress
from typing import Annotated, Any

import grpc
import typer
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from google.protobuf.field_mask_pb2 import FieldMask
from pydantic import SecretStr
from rich.markup import escape
from rich.table import Table

from cli.connection import PORT_BASE, PortBase, call, pages
from cli.output import Failure, Json, console, print_json

app = typer.Typer(help="Secrets: put, list, rotate, delete, rotate-key.", no_args_is_help=True)
SecretId = Annotated[str, typer.Argument(metavar="SECRET_ID")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--field", help="A field that has a value; repeatable. Default: api_key."),
]


@app.command()
def put(
    provider: Annotated[str, typer.Argument(help="Whose credential it is, e.g. openai.")],
    field: Fields = None,
    name: Annotated[str, typer.Option(help="Name for people, and for references provider/name.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; repeatable.")] = None,
    user: Annotated[bool, typer.Option("--user", help="The caller's own rather than the tenant's.")] = False,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Keeps a secret. Values come from standard input, one line a field in their order, or are asked for."""
    secret = secret_pb2.Secret(provider=provider, display_name=name, labels=_labels(label, as_json=as_json))
    secret.scope = secret_pb2.SECRET_SCOPE_USER if user else secret_pb2.SECRET_SCOPE_SYSTEM
    request = secrets_service_pb2.CreateSecretRequest(secret=secret, values=_values(field, as_json=as_json))

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> secret_pb2.Secret:
        return (await _stub(channel).CreateSecret(request, **options)).secret

    made = call("secrets", port_base, use, as_json=as_json)
    if as_json:
        print_json(made)
    else:
        console.print(f"keeping [bold]{made.secret_id}[/bold], version {made.version}: {escape(_reference(made))}")


@app.command("list")
def list_(
    provider: Annotated[str, typer.Option(help="Only secrets of this provider.")] = "",
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Lists the secrets, without values."""

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> list[secret_pb2.Secret]:
        request = secrets_service_pb2.ListSecretsRequest(page_size=1000, provider=provider)
        return await pages(_stub(channel).ListSecrets, request, "secrets", options)

    found = call("secrets", port_base, use, as_json=as_json)
    if as_json:
        for secret in found:
            print_json(secret)
        return
    table = Table("secret", "provider", "name", "fields", "scope", "version", box=None)
    for secret in found:
        scope = "user" if secret.scope == secret_pb2.SECRET_SCOPE_USER else "system"
        fields = ", ".join(secret.fields)
        row = (secret.secret_id, secret.provider, secret.display_name, fields, scope, str(secret.version))
        table.add_row(*map(escape, row))
    console.print(table if found else "no secrets")


@app.command()
def rotate(
    secret_id: SecretId,
    field: Fields = None,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Gives a secret new values, as `put` takes them; fields that are not named stay as they are."""
    values = _values(field, as_json=as_json)
    request = secrets_service_pb2.UpdateSecretRequest(
        secret=secret_pb2.Secret(secret_id=secret_id),
        values=values,
        update_mask=FieldMask(paths=[f"values.{name}" for name in values]),
    )

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> secret_pb2.Secret:
        return (await _stub(channel).UpdateSecret(request, **options)).secret

    made = call("secrets", port_base, use, as_json=as_json)
    if as_json:
        print_json(made)
    else:
        console.print(f"rotated [bold]{made.secret_id}[/bold], version {made.version}")


@app.command()
def delete(
    secret_id: SecretId,
    etag: Annotated[str, typer.Option(help="Delete only at this etag.")] = "",
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Deletes a secret with all its versions."""

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> None:
        request = secrets_service_pb2.DeleteSecretRequest(secret_id=secret_id, etag=etag)
        await _stub(channel).DeleteSecret(request, **options)

    call("secrets", port_base, use, as_json=as_json)
    if as_json:
        print_json({"secret_id": secret_id, "deleted": True})
    else:
        console.print(f"deleted [bold]{secret_id}[/bold]")


@app.command("rotate-key")
def rotate_key(as_json: Json = False) -> None:
    """Wraps the vault's data keys with a new key: a new key file, or, where vault_key is set, standard input.

    It works on the database itself, in one transaction. Processes that run go on: they read the new key file by
    themselves; where vault_key is set, start them again with the new one.
    """
    from services.secrets import rotation
    from services.secrets.config import SecretsSettings

    settings = SecretsSettings.load()
    new = SecretStr(_key(as_json=as_json)) if settings.vault_key else None
    key_id, count = asyncio.run(rotation.rotate(settings, new))
    if as_json:
        print_json({"key_id": key_id, "versions": count})
    else:
        console.print(f"the vault has the key {key_id} now; {count} versions were wrapped anew")


def _values(fields: list[str] | None, *, as_json: bool) -> dict[str, str]:
    names = fields or ["api_key"]
    if sys.stdin.isatty():
        return {name: typer.prompt(name, hide_input=True) for name in names}
    text = sys.stdin.read().removesuffix("\n")
    lines = [text] if len(names) == 1 else text.split("\n")
    if len(lines) != len(names) or not all(lines):
        raise Failure(f"standard input has not one line for each of {', '.join(names)}", as_json=as_json)
    return dict(zip(names, lines, strict=True))


def _key(*, as_json: bool) -> str:
    text = (typer.prompt("new vault_key", hide_input=True) if sys.stdin.isatty() else sys.stdin.read()).strip()
    with suppress(binascii.Error, ValueError):
        if len(base64.b64decode(text, validate=True)) == 32:
            return str(text)
    raise Failure("the new vault_key is not the base64 of 32 bytes", as_json=as_json)


def _labels(labels: list[str] | None, *, as_json: bool) -> dict[str, str]:
    pairs = [label.partition("=") for label in labels or ()]
    if not all(found for _, found, _ in pairs):
        raise Failure("--label: not KEY=VALUE", as_json=as_json)
    return {key: value for key, _, value in pairs}


def _reference(secret: secret_pb2.Secret) -> str:
    scheme = "user" if secret.scope == secret_pb2.SECRET_SCOPE_USER else "secret"
    return " ".join(f"{scheme}:{secret.provider}:{field}" for field in secret.fields)


def _stub(channel: grpc.aio.Channel) -> secrets_service_pb2_grpc.SecretsServiceAsyncStub:
    return secrets_service_pb2_grpc.SecretsServiceStub(channel)
