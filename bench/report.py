"""What was measured: each figure beside its baseline of the same run, with the machine that it holds for."""

from __future__ import annotations

import math
import os
import platform
import sqlite3
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson


class Missing(Exception):
    """What a scenario needs is not on this machine."""


@dataclass(frozen=True)
class Figure:
    """`found` and `baseline` are of alternating rounds; the aims are for their ratio, where there is one."""

    scenario: str
    name: str
    unit: str
    found: Sequence[float]
    against: str = ""
    baseline: Sequence[float] = ()
    least: float | None = None
    most: float | None = None

    @property
    def key(self) -> str:
        return f"{self.scenario}: {self.name}"

    @property
    def judged(self) -> Sequence[float]:
        """The ratios of neighbouring rounds, or the figures where there is no baseline."""
        if not self.baseline:
            return self.found
        return [one / other if other else math.nan for one, other in zip(self.found, self.baseline, strict=True)]

    @property
    def aim(self) -> str:
        wanted = [f">= {self.least:g}"] if self.least is not None else []
        return ", ".join([*wanted, *([f"<= {self.most:g}"] if self.most is not None else [])])

    @property
    def verdict(self) -> str:
        if not self.aim:
            return ""
        middle = statistics.median(self.judged)
        met = (self.least is None or middle >= self.least) and (self.most is None or middle <= self.most)
        return "met" if met else "missed"


@dataclass
class Report:
    machine: Mapping[str, Any]
    figures: list[Figure] = field(default_factory=list)

    def note(self, scenario: str, name: str, unit: str, found: Sequence[float] | float, **more: Any) -> None:
        given = [found] if isinstance(found, int | float) else list(found)
        self.figures.append(Figure(scenario, name, unit, given, **more))

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = {"machine": dict(self.machine), "figures": [asdict(one) for one in self.figures]}
        file.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2))

    @classmethod
    def load(cls, file: Path) -> Report:
        kept = orjson.loads(file.read_bytes())
        return cls(kept["machine"], [Figure(**one) for one in kept["figures"]])

    def markdown(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        head = "| scenario | figure | found | against | baseline | ratio | aim | |\n" + "| --- " * 8 + "|"
        return "\n".join([facts, "", head, *map(_row, self.figures)])


def _row(one: Figure) -> str:
    against = [one.against, spread(one.baseline), spread(one.judged)] if one.baseline else ["", "", ""]
    cells = [one.scenario, one.name, f"{spread(one.found)} {one.unit}", *against, one.aim, one.verdict]
    return f"| {' | '.join(cells)} |"


def spread(figures: Sequence[float]) -> str:
    """Median, with the least and the most where there are several."""
    middle = f"{statistics.median(figures):.4g}"
    return middle if len(figures) == 1 else f"{middle} ({min(figures):.4g}-{max(figures):.4g})"


def compare(before: Report, after: Report) -> Iterator[str]:
    """What has changed beyond noise: the rounds of the one all lie on one side of those of the other."""
    known = {one.key: one for one in before.figures}
    for one in after.figures:
        if (old := known.pop(one.key, None)) is None:
            yield f"new      {one.key}: {spread(one.judged)}"
            continue
        factor = statistics.median(one.judged) / (statistics.median(old.judged) or float("nan"))
        apart = min(one.judged) > max(old.judged) or max(one.judged) < min(old.judged)
        certain = apart and min(len(one.judged), len(old.judged)) > 1
        what = "CHANGED " if certain else "same    "
        yield f"{what} {one.key}: {spread(old.judged)} -> {spread(one.judged)}, x{factor:.2f}"
    yield from (f"gone     {key}" for key in known)


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "revision": revision.stdout.strip() or "unknown",
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "GiB": memory,
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "grpcio": version("grpcio"),
        "SQLite": sqlite3.sqlite_version,
    }
