"""Other tasks than the example's, laid over a fresh project: few lines, in few places, and every command works.

Each is a folder in tests/tasks; `[expect]` in its task.toml says what has to come out.
"""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project, fresh
from .overlays import MOST_LINES, TASKS, lay_over, read_task, tasks

pytestmark = pytest.mark.project
STUDENT = 2.7764451052  # the 97.5 % quantile of Student's t with 4 degrees of freedom


# ten trainings one after the other in one process, which nobody kills
ALONE = """
import os, sys, samebits
for name, value in samebits.compose().determinism.env.items():
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = str(value)
from handwritten_digits.train import train
for fold in range(5):
    for seed in (0, 1):
        of_fold = [f"data.folds.{key}={value}" for key, value in {"count": 5, "fold": fold}.items()]
        train(samebits.compose([*of_fold, f"seed={seed}", "trainer.max_epochs=3", f"paths.models={sys.argv[1]}"]))
"""


@dataclass(frozen=True)
class Task:
    """A project with another task, trained, and what is expected of it."""

    name: str
    project: Project
    expected: dict[str, Any]

    def json(self, name: str) -> Any:
        """Read one of its files."""
        return json.loads((self.project.path / name).read_text())


@pytest.fixture(scope="module", params=tasks())
def task(request: pytest.FixtureRequest, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Lay a task over a fresh project, in as many lines as a user is willing to write, and train it."""
    made = fresh(project, tmp_path_factory.mktemp(request.param))
    changed = lay_over(request.param, made.path)
    assert sum(changed.written.values()) <= MOST_LINES and not changed.elsewhere, changed.text
    if "pyproject.toml" in changed.written:
        made.make("lock")
    made.make("train")
    return Task(request.param, made, read_task(request.param)["expect"])


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


SERVE = """
import json, sys
from pathlib import Path
from handwritten_digits.predict import predict
path, options = [Path(each) for each in sys.argv[2:3]], json.loads(sys.argv[1])
print("\\n" + json.dumps(predict(*path, **options), default=lambda array: array.tolist()))
"""


def test_it_is_served(task: Task) -> None:
    """What `samebits serve` answers is what its predict() returns in a process of its own, without a line for it."""
    words, _ = task.expected["predict"][0]
    (path,) = [word.format(inputs=TASKS / task.name / "inputs") for word in words if "{inputs}" in word] or [None]
    options = {} if path else {"count": 2, "seed": 3}  # it generates
    asked = json.dumps({"path": path, "options": options}) + "\n"
    worker = [".venv/bin/python", "-m", "samebits.service.worker", "models/main"]
    done = subprocess.run(worker, cwd=task.project.path, input=asked * 2, capture_output=True, text=True, check=True)
    described, *answers = map(json.loads, done.stdout.splitlines())
    printed = task.project.python("-c", SERVE, json.dumps(options), *filter(None, [path]))
    assert answers == [{"answer": json.loads(printed.strip().splitlines()[-1])}] * 2
    assert (described["file"] is None) == (path is None) and options.keys() <= described["options"].keys()


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


@pytest.mark.parametrize("task", ["regression"], indirect=True)
def test_five_folds_of_two_seeds_are_killed_half_way_and_reported(task: Task, tmp_path: Path) -> None:
    """All trainings and their sweep are killed at once; what goes on gives the bits of trainings that nobody kills."""
    words = ["-m", "samebits", "sweep", "--folds", "5", "--seeds", "0,1", "trainer.max_epochs=3"]
    words += ["callbacks.resume.every_n_steps=1"]

    def records(models: Path) -> dict[str, dict[str, Any]]:
        return {path.parent.name: json.loads(path.read_text()) for path in models.glob("*of5-*/record.json")}

    def finished(found: dict[str, dict[str, Any]]) -> set[str]:
        return {name for name, record in found.items() if record["observed"]["status"] == "finished"}

    def cut_off(found: dict[str, dict[str, Any]]) -> set[str]:
        return {name for name in found.keys() - finished(found) if any((models / name).glob("checkpoints/*.ckpt"))}

    models = task.project.path / "models"
    process = subprocess.Popen(
        [".venv/bin/python", *words], cwd=task.project.path, stdout=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and not (len(finished(records(models))) >= 4 and cut_off(records(models))):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)  # the trainings, too
    assert process.wait() == -signal.SIGKILL
    before = records(models)
    assert 4 <= len(finished(before)) < 10 and cut_off(before)
    assert "10 of 10 runs finished" in task.project.python(*words)
    after = records(models)
    assert len(finished(after)) == 10 and all(after[name] == before[name] for name in finished(before))
    assert all(after[name]["observed"]["starts"] == 2 for name in cut_off(before))
    task.project.python("-c", ALONE, str(tmp_path))
    alone = records(tmp_path)
    assert {name: record["outputs"] for name, record in after.items()} == {
        name: record["outputs"] for name, record in alone.items()
    }
    assert len({record["outputs"]["weights"] for record in alone.values()}) == 10  # the comparison can fail

    task.project.python("-m", "samebits", "report", "per_fold=true")
    page = (task.project.path / "reports/report.html").read_text()
    of_folds: dict[int, list[float]] = {}
    for record in alone.values():
        fold = record["inputs"]["config"]["data"]["folds"]["fold"]
        of_folds.setdefault(fold, []).append(record["outputs"]["metrics"]["test/rmse"])
    means = [statistics.mean(of_folds[fold]) for fold in range(5)]
    half = STUDENT * statistics.stdev(means) * math.sqrt(1 / 5 + 1 / 4)  # Nadeau and Bengio: 1/J + n_test/n_train
    digits = max(0, 1 - math.floor(math.log10(half)))
    assert f"{statistics.mean(means):.{digits}f} ± {half:.{digits}f}" in page
    for fold, mean in enumerate(means):
        assert f"in 5 folds: fold {fold}" in page and f"{mean:.4f}" in page


def test_lines_elsewhere_are_noticed(tmp_path: Path, project: Project) -> None:
    """The control of the count."""
    made = fresh(project, tmp_path)
    (made.path / "Makefile").write_text("all:\n")
    changed = lay_over("regression", made.path)
    assert changed.elsewhere == ["Makefile"]
