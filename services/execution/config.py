from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, model_validator

from libs.config import Settings


class ExecutionSettings(Settings):
    service: ClassVar[str] = "execution"

    port: int = Field(50054, ge=0, le=65535, description="Port to listen on.")
    max_message_bytes: int = Field(8 * 1024 * 1024, ge=65536, description="Largest message of a call, in bytes.")
    max_executions: int = Field(500, ge=1, description="Runs at once in one process; more wait in its queue.")
    max_executions_per_tenant: int = Field(
        0, ge=0, description="Runs of one tenant at once in one process; 0: as many as max_executions."
    )
    max_queued: int = Field(
        10_000, ge=0, description="Runs that may wait in one process; more are refused. 0: none waits."
    )
    max_queued_per_tenant: int = Field(0, ge=0, description="Of one tenant; 0: as many as max_queued.")
    input_timeout: float = Field(
        86_400.0, gt=0, description="Seconds that a run waits for an approval, a user's input or a tool's result."
    )
    wait_held: float = Field(
        5.0, ge=0, description="Seconds that a workflow waits in its process; longer waits hold none."
    )
    model_patience: float = Field(
        0.0, ge=0, description="A model call ends when it takes so many times what 95 % of its kind take; 0: never."
    )
    model_patience_floor: float = Field(10.0, gt=0, description="Seconds that model_patience grants at least.")
    default_timeout: float = Field(600.0, gt=0, description="Seconds a run may take when its caller does not say.")
    resume_grace: float = Field(30.0, ge=0, description="Seconds a run goes on with nobody watching it.")
    commit_window: float = Field(
        0.001,
        ge=0,
        le=1,
        description="The least seconds between two commits of events; what comes meanwhile is committed together. "
        "After a commit of many executions it is half a millisecond for each of them, at most 0.05.",
    )
    heartbeat: float = Field(15.0, gt=0, le=300, description="Seconds of silence after which a stream says so.")
    lease: float = Field(
        15.0, gt=0.1, description="Seconds without a sign of its process after which another one takes a run up."
    )
    tool_sources: tuple[str, ...] = Field(
        (), description="Sources of tools of this installation's own, each as module:callable."
    )
    max_deaths: int = Field(3, ge=1, description="Processes that may die of a run before nobody takes it up again.")
    event_retention: float = Field(
        30.0, ge=0, description="Days that the events and journals of ended runs are kept; 0: for ever."
    )
    tenant_event_retention: dict[str, float] = Field(
        {}, description="The same for single tenants: days by the tenant's name."
    )
    compact_after: float = Field(
        0.0, ge=0, description="Hours after which the text of an ended run is stored in fewer rows; 0: never."
    )
    watch_poll: float = Field(0.2, gt=0, le=10, description="Seconds between looks at a run of another process.")
    database_patience: float = Field(
        10.0, ge=0, description="Seconds that a run outlasts a database that does not answer."
    )
    tool_result_limit: int = Field(
        256 * 1024, ge=1024, description="Bytes of a tool's result that are handed on; the rest is cut off."
    )
    tool_cache_bytes: int = Field(
        32 * 1024 * 1024, ge=0, description="Bytes of results of tools that one process keeps for further calls."
    )
    http_fetch_hosts: tuple[str, ...] = Field(
        (),
        description="Hosts that builtin/http_fetch may reach: host, host:port, *.domain, or * for all that are public.",
    )
    http_fetch_private_hosts: tuple[str, ...] = Field(
        (), description="The same for hosts at private addresses, named one by one: host, or host:port."
    )
    http_fetch_limit: int = Field(1024 * 1024, ge=1024, description="Bytes of a page that are read.")
    http_fetch_timeout: float = Field(15.0, gt=0, le=300, description="Seconds that a page, or a search, may take.")
    web_search_provider: Literal["searxng", "brave"] = Field(
        "searxng", description="What builtin/web_search asks: a SearXNG, or Brave Search."
    )
    web_search_url: str = Field("", description="Where it is; Brave Search has an address of its own.")
    web_search_key: str = Field("", description="Its key, as a reference: secret:provider:field.")
    sql_databases: dict[str, SecretStr] = Field(
        {},
        description="Databases of builtin/sql_query by name: postgresql://... or sqlite:///..., or a reference to "
        "that. Name a role that may only read.",
    )
    sql_tenants: dict[str, tuple[str, ...]] = Field(
        {}, description="Tenants that may ask a database; one that is not named here may be asked by all."
    )
    agno_toolkits: tuple[str, ...] = Field(
        (), description="Toolkits of Agno whose functions are tools: module of agno.tools, or module:Class."
    )
    sql_max_rows: int = Field(1000, ge=1, description="Rows of a query that are given.")
    sql_timeout: float = Field(10.0, gt=0, le=300, description="Seconds that a query may take.")
    hooks: tuple[str, ...] = Field(
        (), description="Installed plugins, by their names under the entry points dynamic_agents.hooks, in order."
    )
    required_hooks: tuple[str, ...] = Field(
        (), description="Those of them without which nothing goes on: where one fails or is slow, it has said no."
    )
    hook_timeout: float = Field(1.0, gt=0, le=60, description="Seconds that a hook may take for one call.")
    mcp_commands: tuple[str, ...] = Field(
        (),
        description="Beginnings of command lines that MCP servers over stdio may be, e.g. 'uvx mcp-server-time'; "
        "arguments after them are whatever Registry says.",
    )
    mcp_variables: tuple[str, ...] = Field(
        ("*_KEY", "*_TOKEN", "*_SECRET", "*_PASSWORD"),
        description="Patterns of the environment variables that such a server may be given.",
    )
    mcp_patience: float = Field(10.0, gt=0, description="Seconds that an MCP server has to answer a connection.")
    mcp_idle: float = Field(300.0, gt=0, description="Seconds after which a connection that nobody uses is closed.")
    mcp_ttl: float = Field(
        300.0, gt=0, description="Seconds for which an MCP server's tools are believed, unless it says otherwise."
    )
    grpc_provider_addresses: tuple[str, ...] = Field(
        ("private",),
        description="Where tool providers may be: patterns of host:port, e.g. '*.crm.internal:50052' or '*'; "
        "'private' stands for loopback and the private ranges.",
    )
    grpc_provider_ca_file: Path | None = Field(
        None, description="PEM file of the authorities that tool providers with TLS are trusted by; unset: the usual."
    )
    grpc_patience: float = Field(10.0, gt=0, description="Seconds that a tool provider has to list its tools.")
    grpc_idle: float = Field(300.0, gt=0, description="Seconds after which a channel that nobody uses is closed.")
    grpc_ttl: float = Field(
        300.0, gt=0, description="Seconds for which a tool provider's tools are believed, unless it says otherwise."
    )
    host_patience: float = Field(
        5.0, ge=0, description="Seconds that a call waits for a host of its tool that is connected and has room."
    )
    relay_host: str = Field(
        "127.0.0.1",
        description="Address at which other processes reach the hosts of this one; of each machine its own where "
        "Execution runs on several.",
    )
    relay_port: int = Field(0, ge=0, le=65535, description="Its port; 0: any. Set only where there is one process.")
    mcp_port: int | None = Field(
        None, ge=0, le=65535, description="Port on which the MCP server listens for streamable HTTP; none: it does not."
    )
    mcp_server_tools: tuple[str, ...] = Field(
        ("builtin/*", "agent/*"),
        description="What the MCP server offers: ids of tools, agent/<agent_id>, or how they begin, such as mcp/crm/*.",
    )
    mcp_server_depth: int = Field(
        5,
        ge=1,
        le=100,
        description="Runs and calls through MCP servers that may wait for each other, one within the other.",
    )

    @model_validator(mode="after")
    def _require_references(self) -> Self:
        if self.web_search_key and not self.web_search_key.startswith("secret:"):
            raise ValueError("web_search_key is not a reference, secret:provider:field")
        for name, url in self.sql_databases.items():
            if not url.get_secret_value().startswith(("postgresql", "sqlite", "secret:")):
                raise ValueError(f"sql_databases.{name} is neither postgresql://, sqlite:/// nor a reference")
        if unknown := sorted({*self.sql_tenants} - {*self.sql_databases}):
            raise ValueError(f"sql_tenants names {unknown[0]}, which sql_databases does not")
        if any("*" in host for host in self.http_fetch_private_hosts):
            raise ValueError("http_fetch_private_hosts are named one by one, without *")
        return self
