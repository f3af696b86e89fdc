"""What a Prometheus endpoint says."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Mapping

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


class Page:
    def __init__(self, families: Mapping[str, Metric]) -> None:
        self.families = families

    @property
    def names(self) -> set[str]:
        """Of series, as queries name them."""
        found = {sample.name for family in self.families.values() for sample in family.samples}
        for family in self.families.values():
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            found |= {f"{family.name}{end}" for end in ends}
        return found

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series with these labels; 0 where there are none."""
        return sum(
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str, label: str) -> set[str]:
        samples = [sample for family in self.families.values() for sample in family.samples]
        return {sample.labels[label] for sample in samples if sample.name == name}


async def read(port: int | None, host: str = "127.0.0.1") -> Page:
    def get() -> str:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=20) as answer:
            return str(answer.read().decode())

    text = await asyncio.to_thread(get)
    return Page({family.name: family for family in text_string_to_metric_families(text)})
