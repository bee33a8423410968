"""Trainings that are killed end as if they had not been: ten runs here, a hundred runs in `make soak`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import Project
from .kills import kill_runs, trainings

pytestmark = pytest.mark.project


def test_killed_runs_end_as_if_nothing_had_happened(project: Project, tmp_path: Path) -> None:
    outcomes = kill_runs(project.path, runs=10, seed=random.randrange(2**32), folder=tmp_path, most=2)
    assert [outcome.different for outcome in outcomes] == [[]] * 10
    assert all(outcome.kills for outcome in outcomes)


def test_sigterm_saves_and_the_next_start_goes_on(project: Project, tmp_path: Path) -> None:
    kills = trainings(project.path, tmp_path)
    process = kills.start("terminated", "data.module.num_workers=2")
    while not kills.find("terminated", "checkpoints/*.ckpt"):
        time.sleep(0.02)
    refused = kills.run("terminated", status=2)  # two processes on one run: the second is refused
    assert f"is being trained by process {process.pid} on " in refused
    assert "Traceback" not in refused
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 75, output
    assert "Asked to stop: saved step" in output and "Traceback" not in output
    assert "going on from step" in kills.run("terminated")
    assert kills.different("terminated") == []


def test_make_train_goes_on_where_it_was_killed(project: Project) -> None:
    """The main run, through the pipeline: what was published before stays, byte for byte."""
    before = (project.path / "models/main/record.json").read_bytes()
    name = (project.path / "models/main/config.yaml").read_text().splitlines()[0].removeprefix("# ")
    run = project.path / "models" / name
    aside = run.with_name("aside")
    run.rename(aside)
    process = subprocess.Popen(
        [".venv/bin/python", "-m", "dvc", "repro", "--force", "--single-item", "train"],
        cwd=project.path,
        env=os.environ | {"PATH": f"{project.path / '.venv/bin'}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not list(run.glob("checkpoints/*.ckpt")):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)  # DVC and the training
    assert process.wait() == -signal.SIGKILL
    assert (project.path / "models/main/record.json").read_bytes() == before
    output = project.make("train", "ARGS=publish=models/main")
    assert "going on from step" in output
    assert (project.path / "models/main/record.json").read_bytes() == before
    assert (run / "history.csv").read_bytes() == (aside / "history.csv").read_bytes()
