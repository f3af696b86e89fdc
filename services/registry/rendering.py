"""Templates of strangers, rendered in processes of their own: one that takes too much takes only its process along."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

from jinja2 import TemplateError

from libs import errors
from services.registry.model.prompts import template_environment

LONGEST_TEXT: Final = 1024 * 1024
_SECONDS: Final = 1.0
_MEMORY: Final = 512 * 1024 * 1024
_PROCESSES: Final = 2
_SIZE: Final = struct.Struct(">I")


class Sandbox:
    """Renders in up to `processes` processes, which are started when they are first needed and have nothing of this
    one: neither its environment nor its files."""

    def __init__(self, processes: int = _PROCESSES) -> None:
        self._free, self._idle = asyncio.Semaphore(processes), list[Process]()

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            await _end(self._idle.pop())

    async def render(self, template: str, variables: Mapping[str, Any]) -> str:
        async with self._free:
            answer = await self._answer({"template": template, "variables": dict(variables)})
        if "text" in answer:
            return str(answer["text"])
        raise errors.invalid("variables", f"cannot be rendered: {answer['problem']}")

    async def _answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        process = await self._process()
        try:
            answer = await _ask(process, json.dumps(question).encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            if await process.wait() >= 0:
                raise  # it was not a signal that ended it, and so not the template
            return {"problem": f"takes more than {_SECONDS:g} s or {_MEMORY // 1024**2} MiB"}
        except BaseException:
            await _end(process)  # its answer would be the next question's
            raise
        self._idle.append(process)
        found: Mapping[str, Any] = json.loads(answer)
        return found

    async def _process(self) -> Process:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-s", "-m", __name__),
            stdin=PIPE,
            stdout=PIPE,
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )


async def _ask(process: Process, question: bytes) -> bytes:
    assert process.stdin
    assert process.stdout
    process.stdin.write(_SIZE.pack(len(question)) + question)
    await process.stdin.drain()
    (size,) = _SIZE.unpack(await process.stdout.readexactly(_SIZE.size))
    return await process.stdout.readexactly(size)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Renders until there are no more questions."""
    while head := questions.read(_SIZE.size):
        (size,) = _SIZE.unpack(head)
        answer = json.dumps(rendered(**json.loads(questions.read(size)))).encode()
        answers.write(_SIZE.pack(len(answer)) + answer)
        answers.flush()


def rendered(template: str, variables: Mapping[str, Any]) -> Mapping[str, str]:
    pieces: list[str] = []
    length = 0
    _take(_SECONDS)
    try:
        for piece in template_environment().from_string(template).generate(variables):
            pieces.append(piece)
            length += len(piece.encode())
            if length > LONGEST_TEXT:
                return {"problem": f"is longer than {LONGEST_TEXT} bytes"}
        return {"text": "".join(pieces)}
    except TemplateError as error:
        return {"problem": str(error)[:200]}
    except Exception as error:  # whatever an expression may raise
        return {"problem": f"{type(error).__name__}: {str(error)[:200]}"}
    finally:
        _take(0)


def _take(seconds: float) -> None:
    """Ends this process after so much time of its processor; 0 takes that back."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)
