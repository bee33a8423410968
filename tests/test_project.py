"""One generated project, trained once and worked with as its user would: changed, measured, swept, shared."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from .conftest import IDENTITY, Project

pytestmark = pytest.mark.project


def digest(run: Path) -> str:
    return str(json.loads((run / "record.json").read_text())["outputs"]["weights"])


def main_run(project: Project) -> Path:
    """Find the main run's own directory, by the first line of the published config."""
    name = (project.path / "models/main/config.yaml").read_text().splitlines()[0].removeprefix("# ")
    return project.path / "models" / name


def test_make_train_alone_gives_a_good_model_and_says_where(project: Project) -> None:
    output = (project.path.parent / "train.log").read_text()
    metrics = json.loads((project.path / "models/main/metrics.json").read_text())
    assert metrics["test/accuracy"] >= 0.97
    assert f"test/accuracy {metrics['test/accuracy']:.4f}" in output
    assert f"models/{main_run(project).name}" in output
    names = {path.name for path in main_run(project).iterdir()}
    assert names >= {"config.yaml", "metrics.json", "model.safetensors", "checkpoints", "record.json", "history.csv"}


def test_a_second_make_train_does_nothing(project: Project) -> None:
    before = project.state()
    output = project.make("train")
    assert "up to date" in output and "Running" not in output and "Installing" not in output
    assert project.state() == before


def test_git_sees_only_the_results_that_belong_to_it(project: Project) -> None:
    changed = project.run("git", "status", "--porcelain", "--untracked-files=all").split("\n")
    assert {line[3:] for line in changed if line} <= {
        "dvc.lock",
        *(f"models/main/{name}" for name in ("config.yaml", "metrics.json", "record.json", ".gitignore")),
        *(f"models/main/{name}" for name in ("trace.jsonl", "history.csv", "predictions.csv")),
        "reports/metrics.json",
    }
    assert str(project.path) not in (project.path / "models/main/config.yaml").read_text()


def test_lint_and_tests_pass(project: Project) -> None:
    project.make("lint")
    output = project.make("test")
    assert re.search(r"\d+ passed", output) and "skipped" not in output and "failed" not in output


def test_lint_looks_at_every_python_file(project: Project) -> None:
    unused = project.path.glob("src/*/data/prepare.py")
    for path in (*unused, project.path / "tests/conftest.py", project.path / "notebooks/1.0-explore-data.ipynb"):
        content = path.read_text()
        broken = content.replace("from pathlib import Path", "from pathlib import Path, PurePath", 1)
        assert broken != content
        path.write_text(broken)
        output = project.make("lint", status=2)
        path.write_text(content)
        assert path.name in output


def test_evaluate_repeats_the_metrics(project: Project) -> None:
    project.make("evaluate")
    trained = json.loads((project.path / "models/main/metrics.json").read_text())
    assert json.loads((project.path / "reports/metrics.json").read_text()) == trained
    assert main_run(project).name in project.make("evaluate", f"RUN=models/{main_run(project).name}")


def test_predict_reads_a_row(project: Project) -> None:
    zero = [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0]
    zero += [0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0]
    (project.path.parent / "zero.csv").write_text(",".join(map(str, zero)) + "\n")
    output = project.python("-m", "handwritten_digits.predict", "../zero.csv")
    assert "\n1,0," in output


def test_seeds_differ_and_the_same_seed_repeats(project: Project) -> None:
    sweep = "ARGS=-m seed=0,1,2 trainer.max_epochs=2 model.optimizer.lr=0.01"
    project.make("train", sweep)
    runs = [next((project.path / "models").glob(f"cnn-lr=0.01-seed={seed}-*")) for seed in range(3)]
    assert len({digest(run) for run in runs}) == 3
    shutil.rmtree(runs[2])
    assert project.make("train", sweep).count("was finished") == 2  # only what is missing
    assert len({digest(run) for run in runs}) == 3
    project.make("train", "ARGS=seed=1 trainer.max_epochs=2 model.optimizer.lr=0.01 force=true")
    assert digest(runs[1].with_name(runs[1].name + "-2")) == digest(runs[1])


def test_an_overridden_setting_makes_a_run_beside_the_main_one(project: Project) -> None:
    before = (project.path / "models/main/metrics.json").read_bytes()
    output = project.make("train", "ARGS=trainer.max_epochs=2 model.optimizer.lr=1e-3")
    (run,) = (project.path / "models").glob("cnn-lr=0.001-seed=0-*")
    assert f"models/{run.name}" in output and "max_epochs: 2" in (run / "config.yaml").read_text()
    assert (project.path / "models/main/metrics.json").read_bytes() == before
    for preset in ("debug=overfit trainer.max_epochs=2", "experiment=wide debug=fast", "model=mlp debug=fast"):
        project.make("train", f"ARGS={preset}")


def test_a_saved_config_runs_again_as_it_is(project: Project) -> None:
    (run,) = (project.path / "models").glob("cnn-lr=0.01-seed=2-*")
    settings = f"models/{run.name}/config.yaml"
    output = project.make("train", f"ARGS={settings}")
    assert "trained already" in output and run.name in output
    project.make("train", f"ARGS={settings} force=true")
    assert digest(run.with_name(run.name + "-2")) == digest(run)
    assert "is run as it is" in project.make("train", f"ARGS={settings} seed=4", status=2)
    assert not list(project.path.glob("*.log"))


def test_an_edit_of_the_model_is_noticed(project: Project) -> None:
    (code,) = project.path.glob("src/*/models/network.py")
    content = code.read_text()
    code.write_text(content.replace("kernel_size=3", "kernel_size=3, bias=True", 1))
    status = project.run(".venv/bin/python", "-m", "dvc", "status", "train")
    code.write_text(content)
    assert "src/handwritten_digits/models" in status
    assert "up to date" in project.run(".venv/bin/python", "-m", "dvc", "status", "train")


@pytest.mark.parametrize("logger", ["tensorboard", "mlflow", "wandb"])
def test_optional_loggers(project: Project, logger: str) -> None:
    def runs() -> set[Path]:
        return set((project.path / "models").iterdir())

    arguments = f"ARGS=logger={logger} debug=fast force=true"
    before = runs()
    output = project.make("train", arguments, status=2)
    assert f"run `make setup EXTRAS={logger}`" in output and "Traceback" not in output
    assert runs() == before
    project.make("setup", f"EXTRAS={logger}")
    project.make("train", arguments)
    files = {path.name for new in runs() - before for path in (new, *new.rglob("*"))}
    assert any(name.startswith(("events.out", "mlflow.db", "offline-run")) for name in files)
    assert "Installing" not in project.make("setup")
    project.python("-c", f"import {logger}")  # a setup that names no extras keeps them


def test_notebooks_run_and_stay_stripped(project: Project) -> None:
    notebooks = sorted((project.path / "notebooks").glob("*.ipynb"))
    before = [path.read_bytes() for path in notebooks]
    project.make("notebook")
    assert [path.read_bytes() for path in notebooks] == before and len(notebooks) == 2


@pytest.mark.parametrize("name", ["1.0-explore-data", "2.0-look-at-a-run"])
def test_an_error_in_a_notebook_is_noticed(project: Project, name: str) -> None:
    path = project.path / f"notebooks/{name}.ipynb"
    content = path.read_text()
    path.write_text(content.replace("import numpy as np", "import numpy as np; 1 / 0", 1))
    output = project.make("notebook", status=2)
    path.write_text(content)
    assert "ZeroDivisionError" in output


def test_a_commit_is_checked(project: Project) -> None:
    before = project.run("git", "status", "--porcelain")
    assert "Failed" not in project.python("-m", "pre_commit", "run", "--all-files")
    assert project.run("git", "status", "--porcelain") == before  # nothing of a fresh project is changed by it
    bad = project.path / "src/handwritten_digits/bad.py"
    bad.write_text("import os\n")
    project.run("git", "add", str(bad))
    output = project.run("git", *IDENTITY, "commit", "--message", "bad", status=1)
    project.run("git", "rm", "--force", "--quiet", str(bad))
    assert "ruff" in output


def test_a_setting_outside_of_args_is_refused(project: Project) -> None:
    output = project.make("train", "seed=3", status=2)
    assert "there is no variable seed" in output and 'make train ARGS="seed=3"' in output


def test_a_run_beside_needs_no_lock_of_the_pipeline(project: Project) -> None:
    """While the main run trains, DVC holds a lock on the data; runs beside it go on."""
    lock = project.path / ".dvc/tmp/rwlock"
    reader = {"pid": os.getpid(), "cmd": "dvc repro train"}
    lock.write_text(json.dumps({"read": {str(project.path / "data/processed/digits"): [reader]}, "write": {}}))
    try:
        repro = ("-m", "dvc", "repro", "--force", "--single-item", "prepare")
        assert "is busy" in project.python(*repro, status=255)  # the lock is real
        project.make("train", "ARGS=debug=fast")
    finally:
        lock.unlink()


def test_wrong_choices_of_the_environment_are_refused(project: Project) -> None:
    choices = {"ACCELERATOR=tpu": "cpu or cuda", "INSTALLER=conda": "uv or pip", "EXTRAS=main": "wandb"}
    for choice, wanted in choices.items():
        output = project.make("setup", choice, status=2)
        assert wanted in output and "error:" in output


def test_a_missing_python_is_named(project: Project, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "make", "dirname", "cat", "sed", "id", "cksum", "awk", "rm"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    output = project.make("setup", "VENV=.venv-new", status=2, PATH=str(tmp_path / "bin"))
    assert (
        "Python {}.{} was not found".format(*sys.version_info) in output and not (project.path / ".venv-new").exists()
    )


def test_plain_pip_installs_the_same(project: Project) -> None:
    project.make("setup", "INSTALLER=pip", "VENV=.venv-pip", "EXTRAS=", "ACCELERATOR=cpu")
    listed = project.run(".venv-pip/bin/python", "-m", "pip", "list", "--format=freeze").splitlines()
    packages = {line.split("==")[0].lower().replace("_", "-") for line in listed if "==" in line}
    lock = (project.path / "requirements/main.txt").read_text()
    for line in re.findall(r"^[a-z0-9._-]+==.*", lock, re.MULTILINE):
        if ";" not in line:
            assert line.split("==")[0].replace(".", "-") in {name.replace(".", "-") for name in packages}, line
    assert not any(name.startswith("nvidia-") for name in packages)
    version = project.run(".venv-pip/bin/python", "-c", "import torch; print(torch.__version__)")
    assert version.strip().endswith("+cpu")
    shutil.rmtree(project.path / ".venv-pip")


def test_clean_keeps_results(project: Project) -> None:
    environment = project.path / ".venv"
    environment.rename(project.path.parent / "venv-kept")
    before = project.state()
    project.make("clean")
    assert project.state() == before
    (project.path.parent / "venv-kept").rename(environment)
