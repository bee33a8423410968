"""A search that is killed: the same trials with one worker, none lost or doubled with three."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project, fresh

pytestmark = pytest.mark.project

TRIALS = 6
SHORT = "trainer.max_epochs=4 trainer.limit_train_batches=5 callbacks.resume.every_n_steps=3"
PRUNED = "search.pruner.n_startup_trials=2 search.pruner.n_warmup_steps=1 search.sampler.n_startup_trials=3"
WORDS = f"search.trials={TRIALS} {SHORT} {PRUNED}"
FACTS = """
import json, optuna, sys
study = optuna.load_study(study_name=sys.argv[1], storage="sqlite:///models/search.db")
print(json.dumps([
    {"number": each.number, "state": each.state.name, "value": each.value, "params": each.params,
     "seen": each.intermediate_values, "run": each.user_attrs["run"], "overrides": each.user_attrs["overrides"]}
    for each in study.trials
]))
"""


@pytest.fixture
def draw() -> random.Random:
    """Make the instants of kills; the seed is printed, so that a failure can be repeated."""
    seed = random.randrange(2**32)
    print(f"seed of the kills: {seed}")
    return random.Random(seed)


@pytest.fixture(scope="module")
def searched(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Search with one worker, left alone."""
    made = fresh(project, tmp_path_factory.mktemp("searched"))
    made.make("data")
    output = made.make("search", f"ARGS={WORDS}")
    assert f"{TRIALS} of {TRIALS} trials" in output and "Reproducible: one worker" in output
    return made


def start(project: Project, words: str) -> subprocess.Popen[bytes]:
    """Start a search in a group of its own, by the command that a user would give."""
    return subprocess.Popen(
        ["make", "search", f"ARGS={words}"],
        cwd=project.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a search and its trainings at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def facts(project: Project, name: str = "search") -> list[dict[str, Any]]:
    """Read all trials from the storage, by Optuna alone."""
    return list(json.loads(project.python("-c", FACTS, name).splitlines()[-1]))


def require_sound(project: Project, trials: list[dict[str, Any]]) -> None:
    """Require that each trial is there once, has an answer, and belongs to the run of its settings."""
    assert [each["number"] for each in trials] == list(range(TRIALS))
    for each in trials:
        run = project.path / "models" / each["run"]
        record = json.loads((run / "record.json").read_text())
        assert record["source"]["overrides"] == each["overrides"]
        assert all(f"{key}={value}" in each["overrides"] for key, value in each["params"].items())
        if each["state"] == "COMPLETE":
            assert json.loads((run / "metrics.json").read_text())["val/loss"] == each["value"]
        else:
            assert each["state"] == "PRUNED" and each["value"] == list(each["seen"].values())[-1]


def test_a_killed_search_makes_the_same_trials(searched: Project, tmp_path: Path, draw: random.Random) -> None:
    again = fresh(searched, tmp_path)
    again.make("data")
    for _ in range(2):
        process = start(again, WORDS)
        time.sleep(draw.uniform(6, 20))
        kill(process)
    again.make("search", f"ARGS={WORDS}")
    trials = facts(again)
    require_sound(again, trials)
    assert trials == facts(searched) and {each["state"] for each in trials} == {"COMPLETE", "PRUNED"}
    for name in ("search.html", "search.csv", "search/history.svg"):
        assert (again.path / "reports" / name).read_bytes() == (searched.path / "reports" / name).read_bytes()
    before = again.state()
    assert "6 of 6 trials" in again.make("search", f"ARGS={WORDS}")  # nothing is left: only the page is written again
    now = again.state()
    assert before.keys() == now.keys()
    assert all(path.startswith("reports/") for path in before if before[path] != now[path])


def test_three_workers_that_are_killed_lose_and_double_none(
    searched: Project, tmp_path: Path, draw: random.Random
) -> None:
    words = f"{WORDS} search.name=three search.seed=7"
    for kills in (1, 3):  # one of three, while the others go on; then all
        workers = [start(searched, words) for _ in range(3)]
        time.sleep(draw.uniform(6, 20))
        for process in workers[:kills]:
            kill(process)
        for process in workers[kills:]:
            process.wait(120)
        if kills == 1:
            assert all(process.returncode == 0 for process in workers[1:])
    last = searched.make("search", f"ARGS={words}", "JOBS=3")
    assert "Not reproducible as a whole" in last
    trials = facts(searched, "three")
    require_sound(searched, trials)
    assert len({each["run"] for each in trials}) == len({json.dumps(each["params"]) for each in trials})
    others = {each["run"] for each in facts(searched)}
    runs = {path.parent.name for path in (searched.path / "models").glob("*/record.json")}
    assert runs == others | {each["run"] for each in trials}  # nothing was trained that is no trial's
    page = (searched.path / "reports/search-three.html").read_text()
    assert "several workers have chosen" in page and all(each["run"] in page for each in trials)
