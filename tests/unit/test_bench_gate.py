from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from bench.gate.budgets import Budgets
from bench.gate.counting import Counts, Work
from bench.growth import Point, exponents

SAME = {"calls": 100.0, "statements": 4.0, "commits": 1.0}


def verdicts(**found: float) -> list[str]:
    judged = Budgets("3.11", 0.1, {"path": SAME}).judge({"path": {**SAME, **found}})
    return [wrong for *_, wrong in judged if wrong]


def test_more_and_much_less_are_wrong() -> None:
    assert verdicts() == []
    assert verdicts(calls=109.0) == []
    assert verdicts(calls=111.0) == ["DEARER"]
    assert verdicts(calls=89.0) == ["CHEAPER"]
    assert verdicts(statements=5.0) == ["DEARER"]
    assert verdicts(statements=4.1) == []
    assert verdicts(commits=0.0) == ["CHEAPER"]


def test_a_unit_of_several_commits_has_more_room() -> None:
    budgets = Budgets("3.11", 0.1, {"path": {**SAME, "commits": 3.0}})
    for statements, wrong in ((5.0, ""), (6.0, "DEARER")):
        judged = budgets.judge({"path": {"calls": 119.0, "statements": statements, "commits": 3.0}})
        assert [verdict for *_, verdict in judged] == ["", wrong, ""]


def test_a_path_without_a_budget_is_wrong() -> None:
    judged = list(Budgets("3.11", 0.1, {}).judge({"path": SAME}))
    assert [wrong for *_, wrong in judged] == ["NEW"] * 3


def test_budgets_come_back(tmp_path: Path) -> None:
    made = Budgets("3.11", 0.1, {"a path, SQLite": SAME})
    made.save(tmp_path / "budgets.toml")
    assert Budgets.load(tmp_path / "budgets.toml") == made


async def test_what_is_counted(tmp_path: Path) -> None:
    """Three calls: of it, in Python of `called` and in C of `len`; another thread counts too."""

    def called() -> int:
        return len("text")

    async def once() -> None:
        called()

    async def aside() -> None:
        called()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO kept VALUES (1)")
        connection.execute("COMMIT")
        thread = threading.Thread(target=called)
        thread.start()
        thread.join()

    counts = Counts()
    with counts.listening():
        connection = sqlite3.connect(tmp_path / "kept.db", isolation_level=None)
        connection.execute("CREATE TABLE kept (one INT)")
        alone = await counts.of(Work("alone", once), 5)
        both = await counts.of(Work("both", aside, 1, once), 5)
    connection.close()
    assert (alone["statements"], alone["commits"]) == (0, 0)
    assert (both["statements"], both["commits"]) == (3, 1)
    assert alone["calls"] >= 3
    assert both["calls"] >= 3 + 3


def test_exponents_are_slopes() -> None:
    async def nothing() -> None:
        pass

    def point(size: int, *costs: float) -> Point:
        return Point(size, nothing, 0, found=[(cost, 1.0) for cost in costs])

    points = [point(1, 1.0, 2.0), point(3, 3.0, 2.0), point(10, 10.0, 2.0)]
    assert [round(one, 6) for one in exponents(points, 0)] == [1.0, 0.0]
    assert exponents(points, 1) == [0.0, 0.0]
