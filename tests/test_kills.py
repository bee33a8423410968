"""A killed `make train` goes on, through the pipeline; a run of two processes is reproduced.

The kills of the engine are in library/tests.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from .conftest import Project

pytestmark = pytest.mark.project


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


def test_a_run_of_two_processes_is_reproduced(project: Project) -> None:
    words = ("trainer=ddp", "determinism.shards=4", "trainer.max_epochs=2", "run_name=two-processes")
    project.make("train", f"ARGS={' '.join(words)}")
    (run,) = project.path.glob("models/two-processes-*")
    assert json.loads((run / "record.json").read_text())["observed"]["processes"] == 2
    assert "IDENTICAL" in project.make("reproduce", f"RUN={run.relative_to(project.path)}")
    assert "IDENTICAL" in project.make("probe", f"RUN={run.relative_to(project.path)}")
    shutil.rmtree(run)  # other tests look at what is there
    (project.path / "reports/reproduction.md").unlink()
