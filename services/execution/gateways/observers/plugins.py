"""Operators' plugins, called so that none of them can stall a run."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from typing import Any, Final

import structlog

from libs import correlation, errors, identity
from libs.config import StartError
from libs.metrics import Metrics
from services.execution import hooks
from services.execution.gateways.observers.reasons import reason_of
from services.execution.hooks import Ended, Veto
from services.execution.model.acts import Act, ModelTurn, TargetRun, ToolUse
from services.execution.model.events import Event
from services.execution.model.executions import Execution
from services.execution.service.observing import VETOED

log = structlog.get_logger()

_POINTS: Final = {TargetRun: "agent", ModelTurn: "model", ToolUse: "tool"}
_MOST_THREADS: Final = 8
"""Of one plugin. Those that hang are never given back."""
_FAILURES: Final = 5
"""One after the other, after which a plugin is left alone for a while."""
_PAUSE: Final = 30.0


class Failed(Exception):
    """A plugin did not do what it was asked; `how` is timeout, error, busy or suspended."""

    def __init__(self, how: str, why: str = "") -> None:
        super().__init__(why)
        self.how = how


class Plugin:
    def __init__(self, name: str, implementation: Any, *, timeout: float, required: bool) -> None:
        self.name, self.required = name, required
        self._implementation, self._timeout = implementation, timeout
        self._threads = 0
        self._failures, self._again = 0, 0.0
        # Not in the context of a run: that has the caller with the caller's token.
        self._context = contextvars.copy_context()

    def has(self, point: str) -> bool:
        method = getattr(self._implementation, point, None)
        return callable(method) and getattr(type(self._implementation), point, None) is not getattr(hooks.Hooks, point)

    async def call(self, point: str, *args: Any) -> None:
        """Raises Veto where the plugin does, and Failed where it fails."""
        if time.monotonic() < self._again:
            raise Failed("suspended")
        try:
            await self._bounded(getattr(self._implementation, point), args)
        except Veto:
            self._failures = 0
            raise
        except Failed:
            self._fails()
            raise
        except Exception as error:
            self._fails()
            log.exception("hook failed", hook=self.name, point=point)
            raise Failed("error", type(error).__name__) from None
        self._failures = 0

    def _fails(self) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            self._failures, self._again = 0, time.monotonic() + _PAUSE

    async def _bounded(self, method: Callable[..., Any], args: Sequence[Any]) -> None:
        context = self._context.copy()
        context.run(correlation.enter, correlation.current())
        given = copy.deepcopy(args)
        if inspect.iscoroutinefunction(method):
            work: asyncio.Future[Any] = asyncio.create_task(method(*given), context=context)
        else:
            work = self._in_thread(context, method, given)
        try:
            await asyncio.wait({work}, timeout=self._timeout)
        finally:
            work.cancel()  # one that does not let itself be cancelled is not waited for
        if not work.done() or work.cancelled():
            raise Failed("timeout", f"after {self._timeout:g} s")
        work.result()

    def _in_thread(
        self, context: contextvars.Context, method: Callable[..., Any], args: Sequence[Any]
    ) -> asyncio.Future[Any]:
        """Not a pool's, whose threads the end of the process waits for."""
        if self._threads >= _MOST_THREADS:
            raise Failed("busy", f"{self._threads} calls of it have not ended")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._threads += 1

        def settle(error: BaseException | None) -> None:
            self._threads -= 1
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

        def work() -> None:
            error: BaseException | None = None
            try:
                context.run(method, *args)
            except BaseException as raised:
                error = raised if isinstance(raised, Exception) else RuntimeError(type(raised).__name__)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error)

        threading.Thread(target=work, name=f"hook {self.name}", daemon=True).start()
        return done


class Plugins:
    """An observer that hands on to plugins, in the order in which they are named."""

    def __init__(self, plugins: Sequence[Plugin], metrics: Metrics) -> None:
        self._plugins = plugins
        self._calls = metrics.counter("hook_calls_total", "Calls of hooks, by outcome.", ("hook", "point", "outcome"))
        self._late: set[asyncio.Task[None]] = set()
        self._told = {
            kind: any(plugin.has(f"{when}_{point}") for plugin in plugins for when in ("before", "after"))
            for kind, point in _POINTS.items()
        }

    def origin(self) -> str:
        return ""

    def ended(self, execution: Execution, outcome: Event) -> None:
        """A hook is told of runs of agents."""

    @asynccontextmanager
    async def seen(self, act: Act) -> AsyncIterator[None]:
        if not self._told[type(act)]:
            yield
            return
        point, subject = _POINTS[type(act)], _subject(act)
        for plugin in self._plugins:
            await self._before(plugin, f"before_{point}", subject)
        began = time.perf_counter()
        try:
            yield
        except BaseException as error:
            ended = _ended(act, time.perf_counter() - began, reason_of(error))
            if isinstance(error, Exception):
                await self._after(f"after_{point}", subject, ended)
            else:  # whoever interrupts a run does not wait for plugins
                late = asyncio.create_task(self._after(f"after_{point}", subject, ended))
                self._late.add(late)
                late.add_done_callback(self._late.discard)
            raise
        await self._after(f"after_{point}", subject, _ended(act, time.perf_counter() - began, ""))

    async def _before(self, plugin: Plugin, point: str, subject: Any) -> None:
        if not plugin.has(point):
            return
        try:
            await self._call(plugin, point, subject)
        except Veto as veto:
            raise _vetoed(plugin.name, point, str(veto) or "it is not allowed") from None
        except Failed as failed:
            if plugin.required:
                raise _vetoed(plugin.name, point, "a required hook failed", cause=failed.how) from None

    async def _after(self, point: str, subject: Any, ended: Ended) -> None:
        for plugin in self._plugins:
            if plugin.has(point):
                try:
                    await self._call(plugin, point, subject, ended)
                except (Failed, Veto):
                    continue

    async def _call(self, plugin: Plugin, point: str, *args: Any) -> None:
        outcome = "ok"
        try:
            await plugin.call(point, *args)
        except Veto:
            outcome = "veto"
            raise
        except Failed as failed:
            outcome = failed.how
            log.warning("hook skipped", hook=plugin.name, point=point, how=failed.how, why=str(failed) or None)
            raise
        finally:
            self._calls.labels(plugin.name, point, outcome).inc()


def plugins(names: Sequence[str], metrics: Metrics, *, timeout: float, required: Collection[str]) -> Plugins | None:
    """Those of the installed ones that are named; no other one is imported."""
    if unnamed := set(required) - set(names):
        raise StartError(f"bad setting required_hooks of execution: {sorted(unnamed)[0]} is not among hooks")
    if not names:
        return None
    installed = {point.name: point for point in entry_points(group=hooks.GROUP)}
    made = []
    for name in names:
        if name not in installed:
            known = ", ".join(sorted(installed)) or "none"
            raise StartError(f"bad setting hooks of execution: {name} is not installed; installed are: {known}")
        try:
            implementation = installed[name].load()()
        except Exception as error:
            raise StartError(f"bad setting hooks of execution: {name}: {error}") from None
        made.append(Plugin(name, implementation, timeout=timeout, required=name in required))
    return Plugins(made, metrics)


def _vetoed(hook: str, point: str, text: str, *, cause: str = "veto") -> errors.FailedPrecondition:
    metadata = {"hook": hook, "point": point, "cause": cause}
    return errors.FailedPrecondition(text, reason=VETOED, metadata=metadata)


def _subject(act: Act) -> hooks.Agent | hooks.Model | hooks.Tool:
    tenant, execution_id = identity.current().tenant, correlation.current()
    match act:
        case TargetRun(work):
            asked = work.request
            return hooks.Agent(
                tenant,
                work.execution_id,
                asked.target.kind.value,
                asked.target.target_id,
                work.pinned.whole.revision,
                asked.session_id,
                asked.user_id,
                asked.input,
                asked.metadata,
            )
        case ModelTurn(call):
            tools = [tool["function"]["name"] for tool in call.tools]
            return hooks.Model(tenant, call.execution_id, call.agent_id, call.model, call.messages, tools)
        case ToolUse(tool, arguments):
            return hooks.Tool(tenant, execution_id, tool.tool_id, arguments)


def _ended(act: Act, seconds: float, reason: str) -> Ended:
    match act:
        case TargetRun(work, answer):
            usage = work.usage
            output = answer.output if answer else ""
            return Ended(
                seconds,
                reason,
                output,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cost_usd=usage.cost_usd,
            )
        case ModelTurn(_, said):
            took = said.usage
            return Ended(
                seconds,
                reason,
                act.text,
                tool_calls=[
                    {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
                    for call in said.tool_calls
                ],
                input_tokens=took.input_tokens if took else 0,
                output_tokens=took.output_tokens if took else 0,
                cost_usd=(took.cost_usd if took else None) or 0.0,
            )
        case ToolUse(_, _, result):
            return Ended(seconds, reason, result.output if result else "", bool(result and result.is_error))
