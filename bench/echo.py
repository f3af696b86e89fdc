"""A bare grpc.aio server to compare with: the same methods and messages, no interceptor, no storage.

`python -m bench.echo FOLDER` serves what `replies` wrote there: each unary method answers with its reply, and each
stream sends its reply once when it opens and once more for each call of the `trigger`.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import orjson
import uvloop
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

LISTENING: Final = "listening at "


def method_of(service: str, name: str) -> Any:
    """The descriptor of a method, once its module is imported."""
    pool: Any = descriptor_pool.Default()
    return pool.FindServiceByName(service).methods_by_name[name]


def replies(folder: Path, module: str, answers: Mapping[str, Message], *, trigger: str = "") -> None:
    """Writes the replies of methods, by their full names `package.Service/Method`, for an echo to serve."""
    folder.mkdir(parents=True)
    plan = {"module": module, "trigger": trigger, "methods": sorted(answers)}
    (folder / "plan.json").write_bytes(orjson.dumps(plan))
    for name, answer in answers.items():
        (folder / name.replace("/", "~")).write_bytes(answer.SerializeToString())


async def serve(folder: Path) -> None:
    plan = orjson.loads((folder / "plan.json").read_bytes())
    for module in plan["module"].split():
        importlib.import_module(module)
    triggered = _Triggered()
    server = grpc.aio.server()
    for name in plan["methods"]:
        service, _, method_name = name.partition("/")
        method = method_of(service, method_name)
        kind: Any = message_factory.GetMessageClass(method.output_type)
        reply = kind.FromString((folder / name.replace("/", "~")).read_bytes())
        handler = _handler(method, kind, reply, triggered, tells=name == plan["trigger"])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method_name: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"{LISTENING}127.0.0.1:{port}", file=sys.stderr, flush=True)
    await server.wait_for_termination()


class _Triggered:
    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        await self._next.wait()


def _handler(method: Any, kind: Any, reply: Message, triggered: _Triggered, *, tells: bool) -> Any:
    async def unary(request: Message, context: Any) -> Message:
        if tells:
            triggered.tell()
        return reply

    async def stream(request: Message, context: Any) -> AsyncIterator[Message]:
        while True:
            yield reply
            await triggered.wait()

    request: Any = message_factory.GetMessageClass(method.input_type)
    codec = {"request_deserializer": request.FromString, "response_serializer": kind.SerializeToString}
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(stream, **codec)
    return grpc.unary_unary_rpc_method_handler(unary, **codec)


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[str]:
    """An echo in a process of its own; gives its address."""
    arguments = (sys.executable, "-m", "bench.echo", str(folder))
    child = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)
    try:
        assert child.stderr
        async with asyncio.timeout(30):
            line = (await child.stderr.readline()).decode()
        assert line.startswith(LISTENING), line
        yield line.removeprefix(LISTENING).strip()
    finally:
        child.terminate()
        await child.wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
