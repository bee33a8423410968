"""Trainings that are killed end as if they had not been: ten runs here, a hundred runs in `make soak`."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from .kills import kill_runs, trainings

pytestmark = pytest.mark.slow


def test_killed_runs_end_as_if_nothing_had_happened(workspace: Path, tmp_path: Path) -> None:
    outcomes = kill_runs(workspace, runs=10, seed=random.randrange(2**32), folder=tmp_path, most=2)
    assert [outcome.different for outcome in outcomes] == [[]] * 10
    assert all(outcome.kills for outcome in outcomes)


def test_sigterm_saves_and_the_next_start_goes_on(workspace: Path, tmp_path: Path) -> None:
    kills = trainings(workspace, tmp_path)
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
