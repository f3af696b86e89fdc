"""The rules of a prompt, and the environment that its template is written for."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from libs.errors import Violation
from services.registry.model import Spec

MOST_NAMED: Final = 10
_REFUSED: Final = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.EvalContextModifier)


def check_prompt(spec: Spec) -> list[Violation]:
    return [*_check_variables(spec), *_check_template(spec)]


@pass_context
def _as_it_is(context: Context, value: Any) -> Any:
    """Since it wants the context, Jinja cannot evaluate constants such as 9**9**9 while it compiles."""
    return value


@cache
def template_environment() -> ImmutableSandboxedEnvironment:
    """No globals, no other templates, and nothing computed before a template is rendered."""
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, optimized=False, finalize=_as_it_is, keep_trailing_newline=True
    )
    environment.globals.clear()
    return environment


def _check_variables(spec: Spec) -> list[Violation]:
    names = [variable["name"] for variable in spec.get("variables", ())]
    return [
        Violation(f"prompt.spec.variables[{index}].name", f"{name} is declared twice")
        for index, name in enumerate(names)
        if name in names[:index]
    ]


def _check_template(spec: Spec) -> list[Violation]:
    field = "prompt.spec.template"
    if not spec.get("template"):
        return [Violation(field, "is required")]
    try:
        used = _names(spec["template"])
    except TemplateError as error:
        return [Violation(field, f"is not a template: {_text(error)}")]
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return [Violation(field, "is not a template that can be rendered: it is nested too deeply")]
    declared = {variable["name"] for variable in spec.get("variables", ())}
    return [Violation(field, f"uses {name}, which is not declared") for name in sorted(used - declared)[:MOST_NAMED]]


def _text(error: TemplateError) -> str:
    line = f"line {error.lineno}: " if isinstance(error, TemplateSyntaxError) else ""
    return line + (error.message or "")[:200]


def _names(template: str) -> set[str]:
    """The names that a template takes from outside. Raises for one that could not be rendered."""
    environment = template_environment()
    parsed = environment.parse(template)
    if refused := next(parsed.find_all(_REFUSED), None):
        raise TemplateSyntaxError("other templates and autoescape cannot be used", refused.lineno)
    environment.compile(template)
    names = meta.TrackingCodeGenerator(environment)
    names.optimizer = None
    names.visit(parsed)
    return names.undeclared_identifiers
