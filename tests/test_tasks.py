"""Other tasks than the example's, laid over a fresh project: few lines, in few places, and every command works.

Each is a folder in tests/tasks; `[expect]` in its task.toml says what has to come out.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project, fresh
from .overlays import MOST_LINES, TASKS, expectations, lay_over

pytestmark = pytest.mark.project


@dataclass(frozen=True)
class Task:
    """A project with another task, trained, and what is expected of it."""

    name: str
    project: Project
    expected: dict[str, Any]

    def json(self, name: str) -> Any:
        """Read one of its files."""
        return json.loads((self.project.path / name).read_text())


@pytest.fixture(scope="module", params=sorted(path.parent.name for path in TASKS.glob("*/task.toml")))
def task(request: pytest.FixtureRequest, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Lay a task over a fresh project, in as many lines as a user is willing to write, and train it."""
    made = fresh(project, tmp_path_factory.mktemp(request.param))
    changed = lay_over(request.param, made.path)
    assert sum(changed.written.values()) <= MOST_LINES and not changed.elsewhere, changed.text
    if "pyproject.toml" in changed.written:
        made.make("lock")
    made.make("train")
    return Task(request.param, made, expectations(request.param))


def test_it_learns_and_is_measured(task: Task) -> None:
    task.project.make("evaluate")
    metrics = task.json("models/main/metrics.json")
    for name, (least, most) in task.expected["metrics"].items():
        assert least <= metrics[name] <= most, (name, metrics)
    assert task.json("reports/metrics.json") == metrics


def test_its_predictions_are_written_and_made(task: Task) -> None:
    table = task.project.path / "models/main/predictions.csv"
    assert (table.read_text().splitlines()[0] if table.exists() else "") == task.expected.get("predictions", "")
    for words, said in task.expected.get("predict", []):
        status = 2 if said.startswith("error: ") else 0
        paths = [word.format(inputs=TASKS / task.name / "inputs") for word in words]
        printed = task.project.python("-m", "handwritten_digits.predict", *paths, status=status)
        assert said in printed and (status == 0 or printed.count("\n") == 1), printed


def test_its_report_shows_it(task: Task) -> None:
    said = task.project.make("report")
    page = (task.project.path / "reports/report.html").read_text()
    assert [text for text in task.expected["report"] if text not in page + said] == []


def test_its_own_lint_and_tests_pass(task: Task) -> None:
    task.project.make("lint")
    assert " passed" in task.project.make("test")


def test_it_is_killed_and_goes_on_to_the_same_bits(task: Task) -> None:
    """What was killed and went on is what a training that nobody kills gives: the verdict says so."""
    words = ["-m", "handwritten_digits.train", "run_name=killed", *task.expected.get("short", [])]
    killed = task.project.path / "models"
    process = subprocess.Popen(
        [".venv/bin/python", *words], cwd=task.project.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list(killed.glob("killed-*/checkpoints/*.ckpt")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (run,) = killed.glob("killed-*")
    assert "going on from step" in task.project.python(*words)
    assert "IDENTICAL" in task.project.make("reproduce", f"RUN=models/{run.name}")


def test_packages_are_added_and_what_was_pinned_stays(task: Task) -> None:
    def pins(*commit: str) -> set[str]:
        words = ["git", "grep", "-hoE", "^[a-z0-9._-]+==[^ ;]+", *commit, "--", "requirements/*.txt"]
        return set(task.project.run(*words).split())

    before, now = pins("HEAD"), pins()
    assert len(before) > 200 and before <= now
    wanted = set(task.expected.get("packages", []))
    assert wanted <= {pin.partition("==")[0] for pin in now - before} and (now == before or wanted)


def test_lines_elsewhere_are_noticed(tmp_path: Path, project: Project) -> None:
    """The control of the count."""
    made = fresh(project, tmp_path)
    (made.path / "Makefile").write_text("all:\n")
    changed = lay_over("regression", made.path)
    assert changed.elsewhere == ["Makefile"]
