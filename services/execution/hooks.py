"""The interface of operators' plugins, which are told what runs do: see docs/hooks.md.

A plugin is an object with any of the methods of `Hooks`, each plain or `async`. An async one runs in the event loop and
must not block; a plain one runs in a thread. It is named by an entry point of the group `dynamic_agents.hooks`, which
gives it when called without arguments. This module is all of the suite that a plugin needs, and it does not change
incompatibly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

GROUP: Final = "dynamic_agents.hooks"


class Veto(Exception):
    """Raised in a `before_` method: what was about to happen does not. The text is told to whoever asked for it, to the
    caller or, of a tool, to the model.
    """


@dataclass(frozen=True, slots=True)
class Agent:
    """A run of an agent or a team that begins, whole or as a member of another one. One that is taken up, or goes on
    after an answer, begins again.
    """

    tenant: str
    execution_id: str
    kind: str
    """agent or team."""
    agent_id: str
    """Of a team: its id."""
    revision: int
    session_id: str
    user_id: str
    input: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Model:
    """A turn that is about to be asked of a model. Messages have the shape of OpenAI's chat API."""

    tenant: str
    execution_id: str
    agent_id: str
    model: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tool:
    """A call that is about to be made. Without execution_id it is not of a run, but of a caller of CallTool."""

    tenant: str
    execution_id: str
    tool_id: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended. `reason` is empty where it went well, else a value of errors.v1.ErrorReason without its prefix,
    or INPUT_REQUIRED where the run waits for an answer.
    """

    seconds: float
    reason: str
    output: str
    """The agent's answer, the model's text, the tool's result."""
    is_error: bool = False
    """Of a tool: its result is an error."""
    tool_calls: Sequence[Mapping[str, str]] = ()
    """Of a model: the calls that it asks for, with call_id, name and arguments."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


class Hooks:
    """A base for plugins that does nothing. What is given is a copy: to change it changes nothing."""

    def before_agent(self, agent: Agent) -> Awaitable[None] | None: ...

    def after_agent(self, agent: Agent, ended: Ended) -> Awaitable[None] | None: ...

    def before_model(self, model: Model) -> Awaitable[None] | None: ...

    def after_model(self, model: Model, ended: Ended) -> Awaitable[None] | None: ...

    def before_tool(self, tool: Tool) -> Awaitable[None] | None: ...

    def after_tool(self, tool: Tool, ended: Ended) -> Awaitable[None] | None: ...
