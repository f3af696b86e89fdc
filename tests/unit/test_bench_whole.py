"""What is made of what the load says."""

from __future__ import annotations

import math

from bench.whole import Load, quantile


def test_quantile() -> None:
    hundred = list(range(100, 0, -1))
    assert [quantile(hundred, part) for part in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert quantile([7.0], 0.01) == 7.0
    assert math.isnan(quantile([], 0.5))


def test_failed_runs_are_told_and_measured_no_further() -> None:
    good = {"first_event": 1.0, "first_text": 2.0, "total": 3.0, "events": 4, "characters": 5, "delays": [6.0]}
    bad = {**good, "delays": None, "error": "it ended without its end"}
    load = Load.of({"seconds": 0.5, "runs": [{**good, "error": ""}, bad, {**good, "delays": None, "error": ""}]})
    assert load.errors == ["it ended without its end"]
    assert (load.totals, load.delays, load.events, load.characters) == ([3.0, 3.0], [6.0], 8, 10)
