"""Other tasks than the example's, laid over a fresh project: few lines, in few places, and every command works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Project, fresh
from .overlays import MOST_LINES, lay_over

pytestmark = pytest.mark.project


@pytest.fixture(scope="module")
def regression(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Lay the regression over a fresh project, and train it."""
    made = fresh(project, tmp_path_factory.mktemp("regression"))
    changed = lay_over("regression", made.path)
    assert sum(changed.written.values()) <= MOST_LINES and not changed.elsewhere, changed.text
    made.make("train")
    return made


def test_a_regression_is_trained_measured_and_used(regression: Project) -> None:
    regression.make("evaluate")
    metrics = json.loads((regression.path / "models/main/metrics.json").read_text())
    assert metrics["test/rmse"] < 70 and json.loads((regression.path / "reports/metrics.json").read_text()) == metrics
    rows = (regression.path / "models/main/predictions.csv").read_text().splitlines()
    assert rows[0] == "index,target,predicted" and len(rows) == 1 + 67
    patient = regression.path.parent / "patient.csv"
    patient.write_text("59,2,32.1,101.0,157,93.2,38.0,4.0,4.8598,87\n")
    assert regression.python("-m", "handwritten_digits.predict", str(patient)).splitlines()[-2] == "row,progression"
    patient.write_text("59,2\n")
    said = regression.python("-m", "handwritten_digits.predict", str(patient), status=2)
    assert said.startswith("error: ") and "must hold 10 numbers" in said and said.count("\n") == 1


def test_its_report_shows_what_it_predicts(regression: Project) -> None:
    assert "1 seed, test/rmse" in regression.make("report")
    page = (regression.path / "reports/report.html").read_text()
    assert "What it predicts" in page and "67 test samples (1 seed)" in page and "Residuals: mlp" in page
    assert {"predicted.svg", "residuals.svg"} <= {path.name for path in (regression.path / "reports/figures").iterdir()}


def test_lines_elsewhere_are_noticed(tmp_path: Path, project: Project) -> None:
    """The control of the count."""
    made = fresh(project, tmp_path)
    (made.path / "Makefile").write_text("all:\n")
    changed = lay_over("regression", made.path)
    assert changed.elsewhere == ["Makefile"]
