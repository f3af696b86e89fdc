"""Toolkits of Agno that the operator allows, as built-in tools. No other is imported."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from agno.tools import Toolkit
from agno.tools.function import Function, ToolResult

from services.execution.service.builtin.offers import Offer, declared
from services.execution.service.schemas import problem_of
from services.execution.service.tools import digest

_REFUSED: Final = frozenset(
    (
        *("agentos", "airflow", "code", "coding", "csv_toolkit", "daytona", "docker", "docling", "duckdb", "e2b"),
        *("file", "file_generation", "local_file_system", "mcp", "mcp_toolbox", "moviepy_video", "opencv", "pandas"),
        *("python", "scheduler", "shell", "streamlit", "studio", "studio_runner", "tool_registry", "visualization"),
        *("webbrowser", "workflow", "workspace"),
    )
)
"""They run code or commands, touch files, or act for Agno's own server."""


def offers(named: str) -> Iterator[Offer]:
    """The functions of a toolkit: `module` of agno.tools, with `:Class` where it has several. Raises ValueError."""
    module, _, wanted = named.partition(":")
    if module in _REFUSED or module.startswith("_") or not module.isidentifier():
        raise ValueError("is no toolkit that may be had")
    toolkit = _class(import_module(f"agno.tools.{module}"), wanted)()
    for function in {**toolkit.functions, **toolkit.async_functions}.values():
        yield _offer(module, function)


def _class(module: ModuleType, wanted: str) -> Callable[[], Toolkit]:
    found = {
        name: one
        for name, one in inspect.getmembers(module, inspect.isclass)
        if issubclass(one, Toolkit) and one.__module__ == module.__name__ and wanted in ("", name)
    }
    if len(found) != 1:
        raise ValueError(f"names no toolkit, or several: {', '.join(found)}")
    return next(iter(found.values()))


def _offer(module: str, function: Function) -> Offer:
    function.process_entrypoint()
    parameters = function.parameters
    tool = declared(f"agno.{module}.{function.name}", function.name, function.description or "", {}, [])
    tool = replace(
        tool,
        function_name=function.name,
        input_schema=parameters,
        version=digest([function.name, function.description, parameters])[:12],
        read_only=False,
        idempotent=False,
        open_world=True,
    )
    offer = Offer(tool, _call(function))
    if problem := problem_of(parameters):
        return offer.off(f"its schema {problem}")
    missing = [name for name in _required(function) if name not in parameters.get("properties", {})]
    return offer.off(f"it needs {missing[0]!r} of Agno") if missing else offer


def _required(function: Function) -> list[str]:
    assert function.entrypoint is not None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    asked = inspect.signature(function.entrypoint).parameters.values()
    return [one.name for one in asked if one.kind in kinds and one.default is inspect.Parameter.empty]


def _call(function: Function) -> Callable[..., Any]:
    entrypoint = function.entrypoint
    assert entrypoint is not None

    async def call(**arguments: Any) -> str:
        if inspect.iscoroutinefunction(entrypoint):
            result = await entrypoint(**arguments)
        else:
            result = await asyncio.to_thread(entrypoint, **arguments)
        return str(result.content if isinstance(result, ToolResult) else result)

    return call
