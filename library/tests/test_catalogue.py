"""A fault and an innocent twin of each kind; `python -m tests.catalogue` tries all of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from . import catalogue
from .planted import IDENTICAL, REFUSED, Workshop, split

pytest.importorskip("dvc")
QUICK = [case for case in catalogue.chosen(None, None) if case.quick]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("catalogue")
    yield Workshop(folder, catalogue.VARIANTS)
    shutil.rmtree(folder)


def test_the_catalogue_has_a_form() -> None:
    names = [(case.kind, case.name) for case in catalogue.CASES]
    assert len(names) == len(set(names)) >= 70
    for kind, cases in split(catalogue.CASES).items():
        assert any(case.innocent for case in cases) and not all(case.innocent for case in cases), kind
        quick = [case.innocent for case in cases if case.quick]
        assert kind == "threads" or (len(quick) <= 3 and any(quick) and not all(quick)), kind  # which take long
        for case in cases:
            assert case.innocent or case.says or case.first or case.name == "an object's address in memory", case.name
            assert case.of in catalogue.VARIANTS and (case.verdict != REFUSED or case.says), case.name
            assert case.verdict != IDENTICAL or case.says, case.name


@pytest.mark.parametrize("case", QUICK, ids=[f"{case.kind}: {case.name}" for case in QUICK])
def test_the_verdict_and_its_cause_are_right(workshop: Workshop, case: object) -> None:
    found = workshop.attempt(case)  # type: ignore[arg-type]
    assert not found, found
