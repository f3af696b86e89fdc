"""A WorkflowSpec, made ready to be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.execution.model.targets import Spec
from services.execution.model.workflows import (
    Approval,
    Condition,
    Deed,
    Function,
    Loop,
    Member,
    OnError,
    Parallel,
    Pause,
    Plan,
    Retry,
    Router,
    Steps,
    WorkflowStep,
)

_ON_ERROR: Final = {
    "ON_ERROR_SKIP": OnError.SKIP,
    "ON_ERROR_FALLBACK": OnError.FALLBACK,
    "ON_ERROR_COMPENSATE": OnError.COMPENSATE,
}
_MEMBERS: Final = ("agent", "team", "workflow")


def planned(spec: Spec) -> Plan:
    return Plan(_steps(spec.get("steps", ())), spec.get("output", ""))


def timeout_of(spec: Spec) -> float | None:
    """Seconds that a run may take at most, as its target's limits say."""
    seconds: float | None = _seconds(spec.get("limits", {}).get("timeout"))
    return seconds


def tools_of_steps(spec: Spec) -> list[str]:
    """Ids of the tools that the steps of a workflow call."""
    return list(dict.fromkeys(_tools(spec.get("steps", ()))))


def _steps(specs: Any) -> Steps:
    return tuple(map(_step, specs))


def _step(spec: Spec) -> WorkflowStep:
    return WorkflowStep(
        step_id=spec["step_id"],
        deed=_deed(spec),
        input=spec.get("input", ""),
        retry=_retry(spec.get("retry", {})),
        timeout=_seconds(spec.get("timeout")),
        on_error=_ON_ERROR.get(spec.get("on_error", ""), OnError.FAIL),
        fallback=_step(spec["fallback"]) if "fallback" in spec else None,
        compensation=_step(spec["compensation"]) if "compensation" in spec else None,
        output_schema=spec.get("output_schema"),
    )


def _deed(spec: Spec) -> Deed:
    kind = next(name for name in (*_MEMBERS, *_DEEDS) if name in spec)
    if kind in _MEMBERS:
        return Member(kind, f"{kind}/{spec[kind][f'{kind}_id']}")
    made: Deed = _DEEDS[kind](spec[kind])
    return made


def _parallel(spec: Spec) -> Parallel:
    branches = tuple(_list(branch) for branch in spec["branches"])
    at_once = spec.get("max_concurrency") or len(branches)
    return Parallel(branches, at_once, spec.get("failure_policy") == "FAILURE_POLICY_COLLECT")


def _router(spec: Spec) -> Router:
    choices = {name: _list(choice) for name, choice in spec["choices"].items()}
    return Router(spec["selector"], choices, spec.get("default_choice", ""))


_DEEDS: Final[Mapping[str, Any]] = {
    "function": lambda spec: Function(spec["tool_id"], spec.get("arguments", {})),
    "parallel": _parallel,
    "condition": lambda spec: Condition(spec["condition"], _list(spec["then"]), _list(spec.get("otherwise", {}))),
    "loop": lambda spec: Loop(_list(spec["body"]), spec.get("until", ""), spec["max_iterations"]),
    "router": _router,
    "approval": lambda spec: Approval(spec["question"], _seconds(spec.get("expires_after"))),
    "wait": lambda spec: Pause(_seconds(spec.get("delay")), spec.get("time", ""), spec.get("signal", "")),
}


def _list(spec: Spec) -> Steps:
    return _steps(spec.get("steps", ()))


def _retry(spec: Spec) -> Retry:
    return Retry(
        spec.get("max_attempts", 1),
        _seconds(spec.get("initial_delay"), 1.0),
        spec.get("multiplier", 2.0),
        _seconds(spec.get("max_delay"), 60.0),
    )


def _seconds(duration: str | None, default: Any = None) -> Any:
    return default if duration is None else float(duration.removesuffix("s"))


def _tools(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(function := value.get("function"), Mapping) and "step_id" in value:
            yield function["tool_id"]
        for name, inner in value.items():
            if name != "output_schema":
                yield from _tools(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tools(inner)
