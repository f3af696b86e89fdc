"""Calls of tools whose sources ask something before they answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.execution.model.inputs import InputAnswer, Kind, Question

_KEPT = "asked"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a source wants to know, by names of its own, and what it wants to be given back with the answers."""

    questions: Mapping[str, Mapping[str, Any]]
    """Each as UserInput in its JSON form."""
    state: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {_KEPT: {"questions": {key: dict(one) for key, one in self.questions.items()}, "state": self.state}}

    def input_id(self, call_id: str, key: str) -> str:
        """Another for each question of each round, and the same however often the run is taken up."""
        of = orjson.dumps([call_id, key, self.state, self.questions[key]], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(of).hexdigest()[:32]

    def to_questions(self, call_id: str) -> dict[str, Question]:
        """Questions to the run's caller, by their ids."""
        return {
            input_id: {"input_id": input_id, Kind.USER_INPUT.value: dict(one)}
            for key, one in self.questions.items()
            for input_id in [self.input_id(call_id, key)]
        }


class SourceAsks(Exception):
    """A source answers a call with questions; the call is to be made again with the answers."""

    def __init__(self, asked: Asked) -> None:
        super().__init__("the tool asks")
        self.asked = asked


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call is made again with: an answer for each question, None where the user declined."""

    state: str | None = None
    answers: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)


def kept(result: Mapping[str, Any] | None) -> Asked | None:
    """What a step waits for, if it has no result yet."""
    if result is None or _KEPT not in result:
        return None
    return Asked(**result[_KEPT])


def answered(asked: Asked, given: Mapping[str, InputAnswer]) -> Answered:
    """The answers, given by the names of the questions."""
    return Answered(asked.state, {key: _value(answer) for key, answer in given.items()})


def _value(answer: InputAnswer) -> Mapping[str, Any] | None:
    if answer.value.get("declined"):
        return None
    values: Mapping[str, Any] = answer.value.get("values", {})
    return values


_answered: ContextVar[Answered | None] = ContextVar("answers to a source", default=None)


def enter_answered(answers: Answered | None) -> None:
    """Sets what the call that the current task makes is made again with."""
    _answered.set(answers)


def current_answered() -> Answered | None:
    return _answered.get()
