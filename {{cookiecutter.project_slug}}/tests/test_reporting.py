"""Pieces of the report, one by one: intervals, figures, tables, and that views are no inputs."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .project import NAME, ROOT, module

statistics = module("reporting.statistics")


def test_intervals() -> None:
    three = statistics.estimate([1.0, 2.0, 3.0])
    assert three.mean == 2 and three.half == pytest.approx(4.302652729911275 / 3**0.5)  # a table of Student's t
    assert statistics.estimate([1.0]).half is None and str(statistics.estimate([0.5])) == "0.5000"
    paired = statistics.difference({0: 0.1, 1: 0.5, 2: 0.9, 7: 5.0}, {0: 0.2, 1: 0.6, 2: 1.0, 8: 0.0})
    assert paired.mean == pytest.approx(0.1) and paired.half == pytest.approx(0, abs=1e-9) and paired.excludes_zero
    assert statistics.difference({0: 1.0}, {1: 1.0}) is None
    assert statistics.unpaired([0.1, 0.5, 0.9], [0.2, 0.6, 1.0]).half > 0.5  # unpaired, the same numbers tell nothing
    assert str(statistics.Estimate(0.98741, 0.00903, 5)) == "0.9874 ± 0.0090"


def test_a_curve_over_decades_has_plain_numbers_at_its_axis(tmp_path: Path) -> None:
    runs_of_two = [SimpleNamespace(curves={"loss": {0: 100.0 + seed, 1: 1.0, 2: 0.01}}) for seed in range(2)]
    one = SimpleNamespace(name="cnn", runs=runs_of_two)
    drawing = module("reporting.figures").curves([one], "loss", tmp_path).svg
    assert b"<!-- 0.1 -->" in drawing and b"math" not in drawing


def named(main: str | None, *settings: dict[str, Any], runs_of_first: int = 1) -> list[str]:
    """Name experiments of one run each (but for the first), which have the same readable name."""
    made = []
    for number, each in enumerate(settings):
        seed = each.get("seed", 0)
        run = SimpleNamespace(id=f"cnn-seed={seed}-0000000{number}", seed=seed, settings=each, record={"inputs": {}})
        made.append(SimpleNamespace(runs=[run] * (runs_of_first if number == 0 else 1), first=run, name=""))
    module("reporting.names").name_all(list(made), main)
    return [each.name for each in made]


def test_names_say_what_differs_from_the_main_run() -> None:
    usual = {"seed": 0, "lr": 0.1, "callbacks.best.monitor": "loss", "callbacks.best.mode": "min", "model.epochs": 9}
    last = {"seed": 0, "lr": 0.1, "callbacks.best": None, "model.epochs": 9}
    longer = usual | {"model.epochs": 8, "model.scheduler.T_max": 8}
    assert named("cnn-seed=0-00000000", usual, last, longer) == [
        "cnn",
        "cnn callbacks.best=null",
        "cnn epochs=8 T_max=8",
    ]
    assert named("cnn-seed=0-00000001", usual, last)[1] == "cnn"
    assert named(None, usual, usual | {"lr": 0.2}, runs_of_first=2) == ["cnn", "cnn lr=0.2"]
    assert named(None, usual | {"s": 0}, usual | {"seed": 1, "s": 1, "lr": 0.2}) == ["cnn", "cnn lr=0.2"]  # s follows
    many = [usual | {name: name == end for name in "abcde"} for end in "xabcde"]
    assert len(set(named(None, *many))) == len(many)  # no two share a name
    short = module("reporting.figures").short
    assert short("cnn") == "cnn" and short("cnn-with-a-name-of-many-words batch_size=16").endswith("batch_size=16")


def test_latex_prints_what_is_meant() -> None:
    escape = module("reporting.tables").escape
    assert (
        escape("a_b & 5 % #1 {x} ~^\\") == r"a\_b \& 5 \% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


def test_views_are_not_inputs_unless_a_training_loads_them(tmp_path: Path) -> None:
    inputs, packages = module("repro.inputs"), module("repro.packages")
    package = shutil.copytree(ROOT / "src" / NAME, tmp_path / "src/package")
    before = inputs.code_sha256(package)
    page = package / "reporting/page.py"
    page.write_text(page.read_text() + "\n")
    assert inputs.code_sha256(package) == before
    assert list(packages.outside({"package.reporting.page": str(page)}, tmp_path, package)) == [
        "src/package/reporting/page.py"
    ]
    (package / "train.py").write_text("")
    assert inputs.code_sha256(package) != before
