"""`dynamic-agents`: start the suite, look after its agents, run them."""

from __future__ import annotations

import sys

import typer

from cli import agents, bundles, executions, graph, logs, operations, run, schemas, secrets, sessions, suite, tools
from cli.output import Failure, fail
from libs.config import StartError
from libs.supervisor import START_FAILED

app = typer.Typer(name="dynamic-agents", help=__doc__, no_args_is_help=True, add_completion=False)
app.command("up")(suite.up)
app.command("serve")(operations.serve)
app.command("migrate")(operations.migrate)
app.command("config")(operations.config)
app.add_typer(agents.app, name="agent")
app.add_typer(secrets.app, name="secret")
app.add_typer(executions.app, name="execution")
app.add_typer(sessions.app, name="session")
app.add_typer(tools.app, name="tools")
app.command("apply")(bundles.apply)
app.command("export")(bundles.export)
app.command("schema")(schemas.schema)
app.command("run")(run.run)
app.command("graph")(graph.graph)
app.command("logs")(logs.logs)
app.command("demo", hidden=True)(suite.demo)


def main() -> None:
    try:
        app()
    except Failure as failure:
        sys.exit(fail(failure))
    except StartError as error:
        print(f"dynamic-agents: {error}", file=sys.stderr)
        sys.exit(START_FAILED)


if __name__ == "__main__":
    main()
