"""Environments of what is compared with, made once under .cache."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parent.parent
_SERVER: Final = ("openai==3.52.0", "uvloop==0.23.0", "httptools==0.9.0")


async def agentos() -> Path:
    """Its Python."""
    return await _made("agentos", "agno[os]==3.1.10", "aiosqlite==0.22.1", *_SERVER)


async def fastapi() -> Path:
    return await _made("fastapi", "fastapi==0.165.0", "uvicorn==0.54.0", "python-multipart==0.0.34", *_SERVER)


async def _made(name: str, *packages: str) -> Path:
    folder = _ROOT / ".cache" / name
    python = folder / "bin" / "python"
    if (folder / "installed").exists():
        return python
    print(f"installing {packages[0]} into .cache (once)")
    wanted = " ".join(f'"{one}"' for one in packages)
    install = f'"$uv" pip install -q --compile-bytecode --python "{python}" {wanted}'
    script = f'uv=$(tools/uv.sh) && "$uv" venv -q --clear "{folder}" && {install} && touch "{folder}/installed"'
    child = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=_ROOT)
    if await child.wait() != 0:
        raise RuntimeError(f"{packages[0]} cannot be installed")
    return python
