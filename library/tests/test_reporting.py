"""Pieces of the report, one by one: intervals, figures, tables, and that views are no inputs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .project import module

tables = module("samebits.report.tables")


def test_intervals() -> None:
    three = tables.estimate([1.0, 2.0, 3.0])
    assert three.mean == 2 and three.half == pytest.approx(4.302652729911275 / 3**0.5)  # a table of Student's t
    assert tables.estimate([1.0]).half is None and str(tables.estimate([0.5])) == "0.5000"

    def paired(one: dict[int, float], other: dict[int, float]) -> Any:
        with_values = [SimpleNamespace(name="", values=lambda metric, each=each: each) for each in (one, other)]
        return tables.compare(*with_values, "loss")

    compared = paired({0: 0.1, 1: 0.5, 2: 0.9, 7: 5.0}, {0: 0.2, 1: 0.6, 2: 1.0, 8: 0.0})
    assert list(compared.differences) == [0, 1, 2] and compared.mean.mean == pytest.approx(0.1)
    assert compared.mean.half == pytest.approx(0, abs=1e-9) and compared.mean.excludes_zero
    assert paired({0: 1.0}, {1: 1.0}) is None
    assert tables.unpaired([0.1, 0.5, 0.9], [0.2, 0.6, 1.0]).half > 0.5  # unpaired, the same numbers tell nothing


def test_a_curve_over_decades_has_plain_numbers_at_its_axis(tmp_path: Path) -> None:
    runs_of_two = [SimpleNamespace(curves={"loss": {0: 100.0 + seed, 1: 1.0, 2: 0.01}}) for seed in range(2)]
    one = SimpleNamespace(name="cnn", runs=runs_of_two)
    drawing = module("samebits.report.figures").curves([one], "loss", tmp_path).svg
    assert b"<!-- 0.1 -->" in drawing and b"math" not in drawing


def named(main: str | None, *settings: dict[str, Any], runs_of_first: int = 1) -> list[str]:
    """Name experiments of one run each (but for the first), which have the same readable name."""
    made = []
    for number, each in enumerate(settings):
        seed = each.get("seed", 0)
        run = SimpleNamespace(id=f"cnn-seed={seed}-0000000{number}", seed=seed, settings=each, record={"inputs": {}})
        made.append(SimpleNamespace(runs=[run] * (runs_of_first if number == 0 else 1), first=run, name=""))
    module("samebits.report.runs").name_all(list(made), main)
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
    short = module("samebits.report.figures").short
    assert short("cnn") == "cnn" and short("cnn-with-a-name-of-many-words batch_size=16").endswith("batch_size=16")


def test_latex_prints_what_is_meant() -> None:
    escape = module("samebits.report.tables").escape
    assert (
        escape("a_b & 5 % #1 {x} ~^\\") == r"a\_b \& 5 \% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
