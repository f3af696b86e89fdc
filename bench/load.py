"""Load for a unary method, from a process of its own: ghz where it is installed, else a Python client.

A client in Python costs as much as the server that it asks: with it, a slow server comes out too well.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import orjson
import uvloop
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.json_format import ParseDict

from bench.echo import method_of

CONCURRENCY: Final = 32
GHZ: Final = shutil.which("ghz") or shutil.which("ghz", path=f"{Path.home()}/go/bin")


async def rate(address: str, module: str, method: str, requests: Sequence[dict[str, Any]], calls: int) -> float:
    """Calls a second, every one answered with OK; the requests take turns."""
    arguments = _ghz if GHZ else _python
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.json"
        data.write_bytes(orjson.dumps(list(requests)))
        child = await asyncio.create_subprocess_exec(
            *arguments(Path(folder), address, module, method, calls), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await child.communicate()
        assert child.returncode == 0, out
    report = orjson.loads(out)
    assert report["statusCodeDistribution"] == {"OK": calls}, report["statusCodeDistribution"]
    return calls / float(report["total"]) * 1e9


def _ghz(folder: Path, address: str, module: str, method: str, calls: int) -> list[str]:
    assert GHZ
    protoset = folder / "protoset"
    protoset.write_bytes(_protoset(module))
    options = ["--insecure", "--protoset", str(protoset), "--call", method, "-D", str(folder / "data.json")]
    return [GHZ, *options, "-c", str(CONCURRENCY), "-n", str(calls), "--connections", "2", "-O", "json", address]


def _python(folder: Path, address: str, module: str, method: str, calls: int) -> list[str]:
    return [sys.executable, "-m", "bench.load", address, module, method, str(folder / "data.json"), str(calls)]


def _protoset(module: str) -> bytes:
    """The contracts of a module with all that they import."""
    found: dict[str, Any] = {}

    def add(file: Any) -> None:
        for imported in file.dependencies:
            add(imported)
        if file.name not in found:
            described = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(described)
            found[file.name] = described

    add(importlib.import_module(module).DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString()


async def _ask(address: str, module: str, name: str, requests: Sequence[dict[str, Any]], calls: int) -> None:
    importlib.import_module(module)
    method = method_of(*name.split("/"))
    kind: Any = message_factory.GetMessageClass(method.input_type)
    messages = [ParseDict(request, kind()).SerializeToString() for request in requests]
    left = iter(range(calls))
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(f"/{name}")

        async def caller() -> None:
            for number in left:
                await call(messages[number % len(messages)])

        await call(messages[0])
        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))
        took = time.perf_counter() - began
    print(orjson.dumps({"total": took * 1e9, "statusCodeDistribution": {"OK": calls}}).decode())


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    asked = orjson.loads(Path(sys.argv[4]).read_bytes())
    uvloop.run(_ask(sys.argv[1], sys.argv[2], sys.argv[3], asked, int(sys.argv[5])))
