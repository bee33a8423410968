"""A container that is stopped saves its training, and one that is killed is no hindrance to the next."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import Project

pytestmark = pytest.mark.container

NAME = "stopped-by-a-test"
SAVED = "Asked to stop: saved step"


@pytest.fixture
def longer(served: tuple[Project, int], tmp_path: Path) -> Project:
    """Copy the project, with its owner, and make its training longer."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "--archive", str(served[0].path), str(copy)], check=True)
    subprocess.run(["rm", "-rf", *map(str, (copy / "models").glob("[!.]*"))], check=True)
    trainer = copy / "configs/trainer/cpu.yaml"
    trainer.write_text(trainer.read_text().replace("max_epochs: 40 ", "max_epochs: 80 "))
    return Project(copy)


def cut_off(project: Project, verb: str) -> str:
    """Start the main run as `docker compose up` does; once it trains, stop or kill it; return what it printed."""
    before = rows(project)
    project.run("docker", "compose", "run", "--detach", "--name", NAME, "train")
    try:
        deadline = time.monotonic() + 60
        while rows(project) <= before and time.monotonic() < deadline:
            time.sleep(0.1)
        project.run("docker", verb, NAME)
        return project.run("docker", "logs", NAME)
    finally:
        project.run("docker", "rm", "--force", NAME)


def rows(project: Project) -> int:
    """Count the traced steps."""
    return sum(len(path.read_text().splitlines()) for path in project.path.glob("models/cnn-*/trace.jsonl"))


def test_docker_stop_saves_and_the_next_start_goes_on(longer: Project) -> None:
    assert SAVED in cut_off(longer, "stop")
    assert list(longer.path.glob("models/cnn-*/checkpoints/resume-*.ckpt"))
    assert SAVED not in cut_off(longer, "kill")
    longer.run("docker", "compose", "run", "--rm", "train", "make", "train")
    record = json.loads((longer.path / "models/main/record.json").read_text())
    assert record["observed"]["status"] == "finished"
    assert record["observed"]["starts"] >= 2  # one that saves nothing before it is killed is not counted


def test_without_waiting_for_it_the_training_is_lost(longer: Project) -> None:
    """The control: DVC heeds the signal at once, make ends with it, and with make the container."""
    makefile = longer.path / "Makefile"
    makefile.write_text(makefile.read_text().replace("trap '' TERM;", ""))
    assert SAVED not in cut_off(longer, "stop")
