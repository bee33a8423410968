"""People's own ways into a project: uv, pip, an editor's test runner. The record says what is not as the locks say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .baking import bake
from .conftest import Project, fresh

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
    assert (project.path / ".venv/.with-dev").exists()


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


def files(project: Project) -> dict[Path, int]:
    """List when each installed package was written."""
    return {path: path.stat().st_ino for path in project.path.glob(".venv/lib/*/site-packages/*/RECORD")}


def written(project: Project, before: dict[Path, int]) -> set[str]:
    """Name the packages that were written since."""
    return {path.parent.name.partition("-")[0] for path, number in files(project).items() if before.get(path) != number}


def test_what_was_installed_is_left_alone(project: Project) -> None:
    """A training may be importing the library or the project just then, as others of its packages."""
    before, notes = files(project), project.path / ".venv/.installed"
    for name, touched in (("", set()), ("pyproject.toml", {"handwritten_digits"})):
        notes.write_text(f"0 0 {project.path}\n" + notes.read_text().partition("\n")[2])
        if name:  # newer than what was installed
            os.utime(project.path / name, (time.time() + 1, time.time() + 1))
        assert "Installing the locked packages (cpu) into .venv" in project.make("setup")
        assert written(project, before) == touched
    before = files(project)
    (project.path / ".venv/.with-dev").unlink()
    assert "Adding the locked packages of dev to .venv" in project.make("setup", "EXTRAS=dev")
    tools = written(project, before)
    assert {"ruff", "jupyterlab"} <= tools and not tools & {"samebits", "handwritten_digits", "torch", "dvc", "numpy"}
    assert project.make("setup", "EXTRAS=dev") == ""


def test_an_addition_that_cannot_be_had_keeps_nobody_from_training(project: Project) -> None:
    lock, mark = project.path / "requirements/dev.txt", project.path / ".venv/.with-dev"
    text = lock.read_text()
    at = text.index("--hash=sha256:", text.index("\nruff==")) + len("--hash=sha256:")
    end = text.index("\nsend2trash==")
    wrong = re.sub("sha256:[0-9a-f]{60}", f"sha256:{'0' * 60}", text[at - 14 : end])
    for first in (False, True):  # where it is there, of another lock, and where it never was
        if first:
            mark.unlink(missing_ok=True)
        lock.write_text(text[: at - 14] + wrong + text[end:])
        said = project.make("lint", status=2)
        assert "error: the packages of dev could not be installed, as it says above" in said and "Hash mismatch" in said
        lock.unlink()
        assert "error: requirements/dev.txt is missing: git checkout" in project.make("lint", status=2)
        said = project.make("train", "ARGS=debug=fast force=true")
        assert "weights       sha256" in said and "Installing" not in said and "Adding" not in said
        lock.write_text(text)
        assert "Adding the locked packages of dev" in project.make("lint")


def test_an_addition_that_was_cut_off_is_brought_to_its_end(project: Project) -> None:
    (package,) = project.path.glob(".venv/lib/*/site-packages/iniconfig")
    (about,) = package.parent.glob("iniconfig-*.dist-info")
    for name in ("METADATA", "RECORD"):
        (about / name).unlink()
    shutil.rmtree(package)
    (project.path / ".venv/.with-dev").unlink()
    project.make("setup", "EXTRAS=dev")
    project.python("-c", "import iniconfig")
    project.make("lint")


def test_what_was_added_stays_until_no_lock_has_it(project: Project, tmp_path: Path) -> None:
    made = fresh(project, tmp_path)
    for name in ("s3", "azure"):
        assert f"Adding the locked packages of {name} to .venv" in made.make("setup", f"EXTRAS={name}")
    made.python("-c", "import dvc_s3, dvc_azure, ruff")
    assert "s3 azure\n" in (made.path / ".venv/.choices").read_text()
    (packages,) = made.path.glob(".venv/lib/*/site-packages")
    (packages / "mine-1.0.dist-info").mkdir()
    (packages / "mine-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (packages / "mine-1.0.dist-info/RECORD").write_text("mine-1.0.dist-info/METADATA,,\nmine-1.0.dist-info/RECORD,,\n")
    assert made.make("setup") == ""  # by somebody's own pip: it may stay as long as nothing has to be installed
    (made.path / "pyproject.toml").touch()
    notes = made.path / ".venv/.installed"
    notes.write_text(f"0 0 {made.path}\n" + notes.read_text().partition("\n")[2])
    assert "Removed, as no lock in use has it: mine (to keep one, write it into pyproject.toml" in made.make("setup")
    made.python("-c", "import dvc_s3, dvc_azure, ruff")
