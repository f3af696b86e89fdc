"""`python -m bench [--only NAMES] [--quick] [--save FILE]` measures, `python -m bench compare OLD NEW` compares.

Each scenario is a module with `async def run(report, *, quick)`. Nothing is judged by one absolute time: a figure has a
baseline in the same run, in alternating rounds.
"""

from __future__ import annotations

import os
import resource
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop

from bench.report import Missing, Report, compare, machine

SCENARIOS: Final = (
    *("registry", "secrets", "router", "execution", "suite", "aims", "workflow", "teams"),
    *("providers", "hosts", "builtin_tools", "mcp_tools", "growth"),
)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def measure(
    context: typer.Context,
    only: Annotated[str, typer.Option(help=f"Of {', '.join(SCENARIOS)}, with commas between.")] = "",
    quick: Annotated[bool, typer.Option(help="Fewer rounds of less.")] = False,
    save: Annotated[Path | None, typer.Option(help="Where the figures go, as JSON; the table goes beside it.")] = None,
) -> None:
    """Measures the scenarios, one after the other."""
    if context.invoked_subcommand is not None:
        return
    wanted = [name for name in only.split(",") if name] or list(SCENARIOS)
    if unknown := [name for name in wanted if name not in SCENARIOS]:
        raise typer.BadParameter(f"{unknown[0]} is none of {', '.join(SCENARIOS)}", param_hint="--only")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most, most)
    )  # a thousand streams, each with a connection to the provider
    report = Report(machine())
    for name in wanted:
        typer.echo(f"\n# {name}\n")
        try:
            uvloop.run(import_module(f"bench.{name}").run(report, quick=quick))
        except Missing as missing:
            typer.echo(f"{name}: left out, {missing}")
        if save:
            report.save(save)
            save.with_suffix(".md").write_text(report.markdown() + "\n")
    typer.echo(f"\n{report.markdown()}")


@app.command("compare")
def compare_(old: Path, new: Path) -> None:
    """Says what has changed beyond noise between two saved runs."""
    for line in compare(Report.load(old), Report.load(new)):
        typer.echo(line)


@app.command("gate")
def gate_(
    update: Annotated[bool, typer.Option(help="Write what is found down as the budgets.")] = False,
    only: Annotated[str, typer.Option(help="Paths with this in their name.")] = "",
    functions: Annotated[bool, typer.Option(help="Say which functions are called how often.")] = False,
) -> None:
    """Counts what the hot paths do, and fails where it is not what bench/gate/budgets.toml says."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    gate = import_module("bench.gate").gate
    raise typer.Exit(0 if gate(update=update, only=only, functions=functions) else 1)


if __name__ == "__main__":
    app()
