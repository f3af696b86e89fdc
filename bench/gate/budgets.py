"""What a unit of work may do, as it is written down in budgets.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.gate.counting import KINDS

FILE: Final = Path(__file__).with_name("budgets.toml")
TOLERANCE: Final = 0.03
_ONE: Final = 0.9
"""Of statements and commits: one more is one too many."""
_SEVERAL: Final = 2
"""Times more room for a unit of several commits: what shares one of them is up to the moment."""

Found = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Budgets:
    """For one minor version of Python: another one calls other functions."""

    python: str
    tolerance: float
    paths: Found

    @classmethod
    def load(cls, file: Path = FILE) -> Budgets:
        kept = tomllib.loads(file.read_text())
        return cls(kept["python"], kept["tolerance"], kept["paths"])

    def save(self, file: Path = FILE) -> None:
        lines = [
            "# Written by `make gate UPDATE=1`: how many functions a unit of each path calls, in Python and in C,",
            "# how many statements it says to the database, and how many of them commit. See docs/decisions/0019.",
            f'python = "{self.python}"',
            f"tolerance = {self.tolerance}",
        ]
        for name, counts in self.paths.items():
            lines += ["", f'[paths."{name}"]', *(f"{kind} = {counts[kind]:g}" for kind in KINDS)]
        file.write_text("\n".join(lines) + "\n")

    def judge(self, found: Found) -> Iterator[tuple[str, str, float, float, str]]:
        """Path, kind, budget and found, and what is wrong with it, if anything."""
        for name, counts in found.items():
            budgets = self.paths.get(name, {})
            for kind, count in counts.items():
                yield name, kind, budgets.get(kind, 0.0), count, self._verdict(budgets, kind, count)

    def _verdict(self, budgets: Mapping[str, float], kind: str, count: float) -> str:
        if kind not in budgets:
            return "NEW"
        room = self.tolerance * budgets[kind] if kind == "calls" else _ONE
        if budgets["commits"] > 1:
            room *= _SEVERAL
        return "DEARER" if count > budgets[kind] + room else "CHEAPER" if count < budgets[kind] - room else ""
