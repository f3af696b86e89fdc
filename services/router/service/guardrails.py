"""Checks of what goes to a model and what comes back. LiteLLM's own guardrails belong to its proxy and are not used."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any, Final

import re2

from libs import errors
from services.router.model import ChatCall, EmbedCall, Guardrail, RerankCall, RoutingTable

GROUP: Final = "dynamic_agents.guardrails"
_OVERLAP: Final = 4096
"""Characters of a stream's past that are checked again with each piece."""

Hook = Callable[[str, Mapping[str, str]], "str | Awaitable[str | None] | None"]
"""Says what is wrong with a text; None or an empty text lets it pass."""


def known(kind: str) -> bool:
    return kind in _BUILT_IN or bool(metadata.entry_points(group=GROUP, name=kind))


async def check_input(table: RoutingTable, call: ChatCall | EmbedCall | RerankCall) -> None:
    if guardrails := [g for g in table.guardrails if g.input]:
        await _check(guardrails, "\n".join(texts(call)), "input")


class Output:
    """Checks an answer as it comes. Pieces before the one that is refused have been sent."""

    def __init__(self, table: RoutingTable) -> None:
        self._guardrails = [g for g in table.guardrails if g.output]
        self._past = ""

    async def check(self, text: str) -> None:
        if self._guardrails and text:
            seen = self._past + text
            await _check(self._guardrails, seen, "output")
            self._past = seen[-_OVERLAP:]


def texts(call: ChatCall | EmbedCall | RerankCall) -> Iterator[str]:
    """Every text of a call."""
    if isinstance(call, EmbedCall):
        yield from call.inputs
    elif isinstance(call, RerankCall):
        yield call.query
        yield from call.documents
    else:
        for message in call.messages:
            yield from _texts(message.get("content"))


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Sequence):
        for part in content:
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                yield part["text"]


async def _check(guardrails: Sequence[Guardrail], text: str, side: str) -> None:
    for guardrail in guardrails:
        check = _BUILT_IN.get(guardrail.kind) or _hook(guardrail.kind)
        found = check(text, guardrail.arguments)
        wrong = await found if inspect.isawaitable(found) else found
        if wrong:
            raise errors.FailedPrecondition(
                f"guardrail {guardrail.name!r} refused the {side}: {wrong}",
                reason="GUARDRAIL",
                metadata={"guardrail": guardrail.name, "side": side},
            )


def _max_input_characters(text: str, arguments: Mapping[str, str]) -> str | None:
    limit = int(arguments.get("limit", "0"))
    return f"{len(text)} characters of at most {limit}" if len(text) > limit else None


def _blocked_words(text: str, arguments: Mapping[str, str]) -> str | None:
    return "it has a blocked word" if _words(arguments.get("words", "")).search(text) else None


def _blocked_pattern(text: str, arguments: Mapping[str, str]) -> str | None:
    return "it matches a blocked pattern" if _pattern(arguments.get("pattern", "")).search(text) else None


@lru_cache(maxsize=256)
def _words(words: str) -> Any:
    listed = "|".join(re2.escape(word.strip()) for word in words.split(",") if word.strip())
    return _pattern(rf"(?i)(?:^|[^\pL\pN_])(?:{listed})(?:$|[^\pL\pN_])")


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


@lru_cache(maxsize=64)
def _hook(kind: str) -> Hook:
    for entry in metadata.entry_points(group=GROUP, name=kind):
        loaded: Hook = entry.load()
        return loaded
    raise errors.FailedPrecondition(
        f"no guardrail {kind!r} is installed", reason="GUARDRAIL", metadata={"guardrail": kind}
    )


_BUILT_IN: Final[Mapping[str, Hook]] = {
    "max_input_characters": _max_input_characters,
    "blocked_words": _blocked_words,
    "blocked_pattern": _blocked_pattern,
}
