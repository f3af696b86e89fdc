"""`dynamic-agents serve`, `migrate` and `config`: one service, the databases, the settings."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

import services
from cli.output import Json, console, print_json
from libs import database
from libs.config import PREFIX, SERVICES, Settings

Service = StrEnum("Service", {name: name for name in SERVICES})  # type: ignore[misc]


def serve(
    service: Annotated[Service, typer.Argument(help="The service to run.")],
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes that share the port.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 is a free one.")] = None,
) -> None:
    """Runs one service in the foreground until SIGTERM or Ctrl-C."""
    for name, value in (("WORKERS", workers), ("PORT", port)):
        if value is not None:
            os.environ[f"{PREFIX}{service.value.upper()}_{name}"] = str(value)
    os.execv(sys.executable, [sys.executable, "-m", f"services.{service.value}"])  # noqa: S606


def migrate(
    only: Annotated[list[Service] | None, typer.Argument(metavar="[SERVICE]...", help="Default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Brings the databases to this version's schema. Embedded ones do so at start by themselves."""
    for name in [service.value for service in only or ()] or SERVICES:
        folder = migrations(name)
        if folder is None:
            continue
        settings = settings_of(name).load()
        asyncio.run(database.migrate(settings, folder))
        if as_json:
            print_json({"service": name, "migrated": True})
        else:
            console.print(f"{name}: migrated")


def config(
    only: Annotated[list[Service] | None, typer.Argument(metavar="[SERVICE]...", help="Default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Prints the settings in force, secrets masked."""
    names = [service.value for service in only or ()] or SERVICES
    effective: dict[str, Any] = {name: settings_of(name).load().model_dump(mode="json") for name in names}
    if as_json:
        print_json(effective)
    else:
        print(yaml.safe_dump(effective, sort_keys=False), end="")


def settings_of(service: str) -> type[Settings]:
    module = importlib.import_module(f"services.{service}.config")
    kind: type[Settings] = getattr(module, f"{service.capitalize()}Settings")
    return kind


def migrations(service: str) -> Path | None:
    folder = Path(services.__path__[0]) / service / "migrations"
    return folder if folder.is_dir() else None
