"""What no file is, where one should be, and what systems refuse: one sentence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import command_kills
from .attack import Attack, chosen
from .attacks_faults import CASES
from .faults import project

FEW = [*CASES[: -(count := sum("in the place" not in case.kind for case in CASES)) : 29], *CASES[-count::2]]


@pytest.fixture(scope="module", autouse=True)
def made() -> Iterator[None]:
    yield
    shutil.rmtree(project().parent, ignore_errors=True)


def test_there_are_hundreds_of_attacks_each_of_its_own_name() -> None:
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES) > 400


@pytest.mark.parametrize("case", chosen(FEW, CASES), ids=str)
def test_attacks(case: Attack, tmp_path: Path) -> None:
    case.check(tmp_path)


@pytest.mark.slow
def test_commands_that_are_killed(tmp_path: Path) -> None:
    """Two kills each; and a command that writes its files in two steps is found."""
    base = command_kills.make_base(tmp_path / "base")
    outcomes = command_kills.kill_commands(base, ("report", "bundle"), kills=2, seed=os.getpid())
    assert not [outcome for outcome in outcomes if outcome.problems]
    assert sum(outcome.phase != "no time" for outcome in outcomes) >= 3
    planted = command_kills.kill_commands(base, ("report",), kills=4, seed=3, planted=True)
    assert any("is not whole" in problem for outcome in planted for problem in outcome.problems)
    for outcome in planted:
        shutil.rmtree(Path(outcome.folder or tmp_path / "none").parent, ignore_errors=True)
