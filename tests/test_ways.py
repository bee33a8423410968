"""People's own ways into a project: uv, pip, an editor's test runner. The record says what is not as the locks say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .baking import bake
from .conftest import Project

PROGRAM = "handwritten_digits.train"


def recorded(project: Project, run: str) -> dict[str, str]:
    """Return what a run's record says of packages that were not as locked."""
    (path,) = project.path.glob(f"models/{run}/record.json")
    return dict(json.loads(path.read_text())["observed"]["unlocked"])


def lend_results(project: Project, other: Project) -> None:
    """Give a project the prepared data of another one."""
    shutil.copytree(project.path / "data/processed", other.path / "data/processed", dirs_exist_ok=True)


def locked(project: Project, name: str) -> str:
    lines = (project.path / "requirements/main.txt").read_text().splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{name}=="))


def test_a_training_needs_no_more_than_trainings_need(project: Project) -> None:
    first = set((project.path.parent / "packages.txt").read_text().split())
    assert {"torch", "dvc", "hydra_core", "samebits", "handwritten_digits"} <= first
    assert not first & {"jupyterlab", "matplotlib", "mypy", "optuna", "pre_commit", "pytest", "ruff", "rocrate"}
    assert recorded(project, "main") == {}
    log = (project.path.parent / "train.log").read_text()
    assert "Installing the locked packages (cpu) into .venv with uv.\n" in log and " + " not in log
    assert "extras=dev\n" in (project.path / ".venv/.choices").read_text()


def test_what_a_command_needs_besides_is_one_sentence(project: Project) -> None:
    hide = "import sys; sys.modules['matplotlib'] = None; from samebits.cli import main; main(['report'])"
    said = project.python("-c", hide, status=2)
    assert said.startswith("error: this needs matplotlib, not installed here: run `make setup EXTRAS=dev`,"), said


def test_an_editor_runs_tests_from_where_it_likes(project: Project, tmp_path: Path) -> None:
    words = [f"{project.path}/.venv/bin/python", "-m", "pytest", "-q", f"{project.path}/tests/test_data.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr


def test_uv_sync_and_uv_run(project: Project, uv: str, tmp_path: Path) -> None:
    made = Project(bake(tmp_path / "out").project)
    lend_results(project, made)
    # PyTorch's CPU build, where there is a folder of wheels that has it: the index has the one for CUDA
    sync = '. requirements/torch-source.sh; exec "$0" sync --quiet --python "$1" --no-group dev'
    made.run("sh", "-c", sync, uv, sys.executable)
    said = made.run(uv, "run", "--no-sync", "python", "-m", PROGRAM, "debug=fast")
    assert "weights       sha256" in said
    for name, difference in recorded(made, "debug-*").items():  # versions are the newest, or those that are locked
        assert "locked: " in difference or "in no lock" in difference, name

    made.run(uv, "pip", "install", "--quiet", "--python", ".venv/bin/python", "packaging==25.0")
    said = made.run(uv, "run", "--no-sync", "python", "-m", PROGRAM, "debug=fast", "seed=1")
    assert "warning: the environment is not what the locks in requirements/ say (" in said
    run = "debug-*seed=1-*"
    assert recorded(made, run)["packaging"] == f"25, locked: {locked(made, 'packaging')}"
    (folder,) = made.path.glob(f"models/{run}")
    assert f"packaging 25, locked: {locked(made, 'packaging')}" in made.run(
        uv, "run", "--no-sync", "samebits", "show", str(folder)
    )
    assert made.run("git", "status", "--porcelain") == ""  # no uv.lock beside the locks

    assert "Installing the locked packages" in made.make("setup")
    made.python("-m", PROGRAM, "debug=fast", "seed=2")
    assert recorded(made, "debug-*seed=2-*") == {}


def test_pip_installs_the_project_into_an_environment_of_ones_own(project: Project, tmp_path: Path) -> None:
    made = Project(bake(tmp_path / "out").project)
    lend_results(project, made)
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", own], check=True)
    (packages,) = own.glob("lib/python*/site-packages")
    theirs = tmp_path / "theirs"  # what need not be fetched again
    theirs.mkdir()
    for path in project.path.glob(".venv/lib/python*/site-packages/*"):
        if not path.name.startswith(("samebits", "handwritten")) and path.suffix != ".pth":
            (theirs / path.name).symlink_to(path)
    (packages / "theirs.pth").write_text(f"{theirs}\n")
    said = made.run(str(own / "bin/pip"), "install", "--editable", ".")
    assert re.search(r"Successfully installed .*samebits-\d", said), said
    said = made.run(str(own / "bin/python"), "-m", PROGRAM, "debug=fast")
    assert "weights       sha256" in said and recorded(made, "debug-*") == {}
    code = "import samebits, handwritten_digits as h; print(samebits.__file__, h.__file__)"
    for loaded in made.run(str(own / "bin/python"), "-c", code).split():
        assert loaded.startswith((str(own), str(made.path))), loaded


def test_what_a_command_brings_leaves_a_training_alone(project: Project) -> None:
    """Neither the library nor the project, which a training may be importing just then, is installed again."""
    notes = project.path / ".venv/.installed"

    def install() -> set[str]:
        """Have the tools installed as if they were not there; name what was written that was there."""
        before = {path: path.stat().st_ino for path in project.path.glob(".venv/lib/*/site-packages/*/RECORD")}
        (project.path / ".venv/.choices").write_text("accelerator=cpu\nextras=\n")
        notes.write_text(f"0 0 {project.path}\n" + notes.read_text().partition("\n")[2])
        assert "Installing the locked packages (cpu, dev)" in project.make("setup", NEEDS="dev")
        return {path.parent.name.partition("-")[0] for path in before if path.stat().st_ino != before[path]}

    assert install() == set()
    (project.path / "pyproject.toml").touch()
    assert install() == {"handwritten_digits"}
