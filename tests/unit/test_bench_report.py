from __future__ import annotations

from pathlib import Path

from bench.report import Report, compare, machine


def report(*rounds: float, baseline: tuple[float, ...] = (), **aim: float) -> Report:
    made = Report(machine())
    made.note("execution", "CPU", "us", rounds, against="echo" if baseline else "", baseline=baseline, **aim)
    return made


def test_figures_are_judged_by_their_ratios() -> None:
    figure = report(20, 30, 10, baseline=(10, 10, 10), most=2).figures[0]
    assert figure.judged == [2, 3, 1]
    assert (figure.aim, figure.verdict) == ("<= 2", "met")
    assert report(20, 30, 10, baseline=(10, 10, 10), least=2.5).figures[0].verdict == "missed"
    assert report(20).figures[0].verdict == ""


def test_saved_figures_come_back(tmp_path: Path) -> None:
    made = report(20, 30, baseline=(10, 10), most=2)
    made.save(tmp_path / "new" / "figures.json")
    assert Report.load(tmp_path / "new" / "figures.json").markdown() == made.markdown()
    row = "| execution | CPU | 25 (20-30) us | echo | 10 (10-10) | 2.5 (2-3) | <= 2 | missed |"
    assert made.markdown().splitlines()[-1] == row


def test_only_what_lies_beyond_all_rounds_has_changed() -> None:
    before = report(10, 12, 11)
    assert next(iter(compare(before, report(11, 13, 12)))).startswith("same")
    assert next(iter(compare(before, report(21, 23, 22)))).startswith("CHANGED  execution: CPU")
    assert next(iter(compare(before, report(30)))).startswith("same")  # one round says nothing of noise
    other = Report({})
    assert [line.split()[0] for line in compare(before, other)] == ["gone"]
    assert [line.split()[0] for line in compare(other, before)] == ["new"]
