"""What no file is, where one should be, and what systems refuse: one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

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
