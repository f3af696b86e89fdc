"""The suite's own model: no network, no key, and always the same answer to the same question."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.router.model import FinishReason, ToolCall

_LONGEST_QUOTE: Final = 200
_SEARCHED: Final = 1000
_READ: Final = 10_000
_EXPRESSION: Final = re.compile(r"-?[\d(][\d\s.+*/()%-]*[\d)]")
_SPELT: Final = {"×": "*", "·": "*", "÷": "/", " times ": " * ", " plus ": " + ", " minus ": " - "}
_WRITTEN: Final = re.compile(r"(?<![A-Za-z0-9_-])([A-Za-z0-9_-]{1,64})\(\s*")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_DELEGATE, _ASK, _TRANSFER = "delegate_task_to_member", "ask_", "transfer_to_"
_THEN: Final = re.compile(r"\bthen\b", re.IGNORECASE)
_ARITHMETIC: Final = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.operator, ast.unaryop)
_MOST_VALUES: Final = 2000
_DEEPEST: Final = 64
_DIMENSIONS: Final = 64
_FORMATS: Final = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "offline@example.com",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}

Message = Mapping[str, Any]
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    text: str = ""
    calls: tuple[ToolCall, ...] = ()

    @property
    def finish_reason(self) -> FinishReason:
        return FinishReason.TOOL_CALLS if self.calls else FinishReason.STOP

    def words(self) -> list[str]:
        return re.findall(r"\S+\s*", self.text)

    def length(self) -> int:
        return len(self.words()) + sum(len(call.arguments.split()) for call in self.calls)


def count(messages: Iterable[Message]) -> int:
    return sum(len(_text(message).split()) for message in messages)


def vector(text: str, dimensions: int = 0) -> list[float]:
    """Of length one; texts that share words are near each other."""
    size = dimensions or _DIMENSIONS
    marks = [hashlib.shake_256(word.encode()).digest(size) for word in text.lower().split() or [text]]
    sums = [sum(mark[n] - 127.5 for mark in marks) for n in range(size)]
    length = math.hypot(*sums) or 1.0
    return [value / length for value in sums]


def likeness(query: str, document: str) -> float:
    """The share of the query's words that the document has."""
    asked, said = set(query.lower().split()), set(document.lower().split())
    return len(asked & said) / len(asked) if asked else 0.0


def answer(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    tool_choice: str | Mapping[str, Any],
    response_format: Mapping[str, Any] | None,
) -> Answer:
    results = _results(messages)
    said = next((_text(m) for m in reversed(messages) if m["role"] == "user"), "")
    call_id = f"call_{len(messages)}"
    if call := _call(said, len(results), tools, tool_choice, call_id):
        return Answer(calls=(call,))
    if tool_choice == "auto" and (asked := _asked(messages, said, tools)):
        return Answer(calls=tuple(ToolCall(f"{call_id}_{n}", *one) for n, one in enumerate(asked)))
    if response_format and response_format.get("type") == "json_schema":
        return Answer(json.dumps(example(response_format["json_schema"].get("schema") or {})))
    if response_format and response_format.get("type") == "json_object":
        return Answer("{}")
    if results:
        return Answer(f"The result is {', '.join(map(_clipped, results))}.")
    return Answer(f'This is the offline model: no provider was asked. You said: "{_clipped(said)}"')


def _asked(messages: Sequence[Message], said: str, tools: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The others whom the request names, one turn for what stands before each "then", with what was said so far."""
    since = _since_input(messages)
    turn = sum(bool(message.get("tool_calls")) for message in since)
    stages = _THEN.split(said[:_SEARCHED])
    if turn >= len(stages):
        return []
    known = [_clipped(_text(message)) for message in since if message["role"] == "tool"]
    text = "\n".join([said, *known])
    found = [
        (match.start(), name, json.dumps({**arguments, **({} if field is None else {field: text})}))
        for tool in tools
        for who, name, arguments, field in _others(tool["function"])
        if (match := re.search(rf"(?<![\w-]){re.escape(who)}(?![\w-])", stages[turn], re.IGNORECASE))
    ]
    return [(name, arguments) for _, name, arguments in sorted(found)]


def _others(function: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], str | None]]:
    """Whom a tool reaches: under which word, by which call, and which argument takes the text."""
    name, properties = function["name"], (function.get("parameters") or {}).get("properties") or {}
    if name == _DELEGATE and "task" in properties:
        for member_id in (properties.get("member_id") or {}).get("enum", ()):
            yield member_id, name, {"member_id": member_id}, "task"
    elif name.startswith(_ASK) and "input" in properties:
        yield name.removeprefix(_ASK).replace("_", "-"), name, {}, "input"
    elif name.startswith(_TRANSFER):
        yield name.removeprefix(_TRANSFER).replace("_", "-"), name, {}, None


def _since_input(messages: Sequence[Message]) -> Sequence[Message]:
    last = max((n for n, message in enumerate(messages) if message["role"] == "user"), default=0)
    return messages[last + 1 :]


def _results(messages: Sequence[Message]) -> list[str]:
    """What the tools said since the user last spoke."""
    found: list[str] = []
    for message in reversed(messages):
        if message["role"] == "user":
            break
        if message["role"] == "tool":
            found.insert(0, _text(message))
    return found


def _text(message: Message) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


def _call(
    said: str, made: int, tools: Sequence[Mapping[str, Any]], choice: str | Mapping[str, Any], call_id: str
) -> ToolCall | None:
    """The next of the calls that the user has written out, one a turn; else one that the question is for."""
    offered = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
    if isinstance(choice, Mapping):
        offered = {name: offered[name] for name in offered if name == choice["function"]["name"]}
    if choice == "none" or not offered:
        return None
    if asked := written(said, offered):
        return ToolCall(call_id, *asked[made]) if made < len(asked) else None
    if made:
        return None
    calculator = next((name for name, schema in offered.items() if _is_calculator(name, schema)), None)
    if calculator and (expression := arithmetic(said)):
        return ToolCall(call_id, calculator, json.dumps({"expression": expression}))
    if choice == "auto":
        return None
    name, schema = next(iter(offered.items()))
    return ToolCall(call_id, name, json.dumps(example({"type": "object", **schema})))


def written(text: str, names: Collection[str]) -> list[tuple[str, str]]:
    """Calls in the text, such as `find({"name": "Ann"})`, with their arguments."""
    text = text[:_READ]
    return [(found[1], _object(text, found.end())) for found in _WRITTEN.finditer(text) if found[1] in names]


def _object(text: str, start: int) -> str:
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return "{}"
    return text[start:end] if isinstance(value, dict) else "{}"


def _is_calculator(name: str, schema: Schema) -> bool:
    expression = (schema.get("properties") or {}).get("expression") or {}
    return "calculator" in name.lower() and expression.get("type") == "string"


def arithmetic(text: str) -> str | None:
    """The first calculation in the text."""
    text = _DATE.sub(" ", text[:_SEARCHED])
    for word, sign in _SPELT.items():
        text = text.replace(word, sign)
    return next((found for found in map(str.strip, _EXPRESSION.findall(text)) if _is_arithmetic(found)), None)


def _is_arithmetic(text: str) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return any(isinstance(n, ast.BinOp) for n in nodes) and all(isinstance(n, _ARITHMETIC) for n in nodes)


def example(schema: Schema) -> Any:
    """The least value that fits a JSON Schema."""
    return _Example(schema).value(schema, 0)


class _Example:
    def __init__(self, root: Schema) -> None:
        self._root, self._left = root, _MOST_VALUES

    def value(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST or not isinstance(schema, Mapping):
            return None
        if "$ref" in schema:
            return self.value(self._resolved(str(schema["$ref"])), depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        if several := schema.get("anyOf") or schema.get("oneOf"):
            return self.value(several[0], depth + 1)
        return self._of_type(schema, depth + 1)

    def _resolved(self, reference: str) -> Any:
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(part) if part and isinstance(found, Mapping) else found
        return found

    def _of_type(self, schema: Schema, depth: int) -> Any:
        kinds = schema.get("type", "object")
        match kinds[0] if isinstance(kinds, list) else kinds:
            case "object":
                properties = schema.get("properties") or {}
                return {
                    name: self.value(properties.get(name, {"type": "string"}), depth)
                    for name in schema.get("required", ())
                }
            case "array":
                length = min(int(schema.get("minItems", 0)), max(self._left, 0))
                return [self.value(schema.get("items", {}), depth) for _ in range(length)]
            case "string":
                return _string(schema)
            case "integer":
                return _integer(schema)
            case "number":
                return _number(schema)
            case "boolean":
                return False
        return None


def _string(schema: Schema) -> str:
    text = _FORMATS.get(schema.get("format", ""), "offline")
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    return text.ljust(min(least, _SEARCHED), ".")[: None if most is None else int(most)]


def _integer(schema: Schema) -> int:
    number = _number(schema, 1)
    return math.ceil(number) if number > 0 else math.floor(number)


def _number(schema: Schema, step: float = 1e-6) -> float:
    """The number next to zero that the bounds leave."""
    least = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf) + step)
    most = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf) - step)
    return float(min(max(0.0, least), most))
