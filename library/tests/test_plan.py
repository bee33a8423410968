"""What a sweep plans before anything is started: inputs, directories, commands, options; and what it refuses then."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import Compose
from .project import NAME, ROOT, UserError, compose, module

slurm = module("samebits.sweep.slurm")
plan = module("samebits.sweep.plan")
inputs = module("samebits.engine.inputs")


def words(workspace: Path, models: Path, *more: str) -> list[str]:
    return [f"paths.root='{workspace}'", f"paths.models='{models}'", "snapshot=false", *more]


def test_a_plan_knows_where_the_run_will_be(settings: Compose, trained: Path, workspace: Path) -> None:
    said = words(workspace, trained.parent, "debug=fast", "trainer.limit_val_batches=1.0")
    (planned,) = plan.plan_runs(
        plan.combine([*said, "trainer.limit_test_batches=1.0"]), ["cluster=slurm", "cluster.memory=8GB"]
    )
    assert planned.finished and planned.command(ROOT).directory == trained
    overrides = planned.command(ROOT).overrides
    assert planned.cfg.cluster.memory == "8GB" and not [word for word in overrides if "cluster" in word]
    (other,) = plan.plan_runs(plan.combine([*said, "trainer.limit_test_batches=1.0", "seed=1"]), [])
    assert not other.finished and other.run.id != planned.run.id


def test_files_are_hashed_once_for_all_runs(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def count(data: Path) -> dict[str, dict[str, str]]:
        hashed.append(data)
        return {"lock": {}, "data": {}}

    def count_code(settings: dict[str, Any]) -> dict[str, str]:
        hashed.append(ROOT)
        return {}

    monkeypatch.setattr(plan, "shared_inputs", count)
    monkeypatch.setattr(plan, "code_sha256", count_code)
    plan.plan_runs(plan.combine(words(workspace, tmp_path, "seed=0,1,2")), [])
    assert sorted(hashed) == sorted([workspace / "data/processed", ROOT])


def test_a_training_refuses_what_was_not_asked_for(settings: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = settings("paths.models='${paths.root}/expected'")
    found = inputs.collect(cfg)
    monkeypatch.setenv(inputs.EXPECTED, inputs.fingerprint(found))
    inputs.require_expected(found)
    for changed, said in ((("code",), "the code"), (("config", "data"), "the settings and the data")):
        monkeypatch.setenv(inputs.EXPECTED, inputs.fingerprint(found | {key: {} for key in changed}))
        with pytest.raises(UserError, match=f"^{said} changed after this run was asked for"):
            module("dummy.train").train(cfg)
    assert not (Path(cfg.paths.models)).exists()


def test_containers_see_the_folder_and_what_lies_outside_of_it(tmp_path: Path) -> None:
    def line(container: str | None) -> str:
        each = plan.TrainingCommand(
            "a-12345678", ["seed=1"], ROOT / "a.log", "code=1", None, container, folders=[tmp_path], gpus=True
        )
        return " ".join(each.arguments())

    assert line(None).endswith(f"{sys.executable} -m {NAME}.train seed=1")
    docker, apptainer = line("image:1"), line("/x/environment.sif")
    assert f"--volume {ROOT}:{ROOT}" in docker and f"--volume {tmp_path}:{tmp_path}" in docker and "--init" in docker
    assert f"--env PYTHONPATH={ROOT / 'src'}" in docker and "--env EXPECTED_INPUTS=code=1" in docker
    assert f"--user {os.getuid()}:" in docker and "--gpus all" in docker and "image:1 sh -c" in docker
    assert f"--bind {ROOT}" in apptainer and "--nv" in apptainer and "/x/environment.sif sh -c" in apptainer


def test_a_command_is_the_same_in_another_folder(tmp_path: Path) -> None:
    """A worker of Ray, or of SLURM, need not have been started in the project's folder."""
    command = plan.TrainingCommand("a-12345678", ["seed=1"], ROOT / "a.log", container="image")
    (tmp_path / "command").write_bytes(pickle.dumps(command))
    script = "import pickle; print(*pickle.load(open('command', 'rb')).arguments(), end='')"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == " ".join(command.arguments()), done.stderr


@pytest.mark.parametrize(
    ("text", "wanted"), [("0:30:00", 30), ("1:00:01", 61), ("2-00:00:00", 2880), ("100:00:00", 6000)]
)
def test_times(text: str, wanted: int) -> None:
    assert slurm.minutes(text) == wanted


def test_the_settings_become_options_of_sbatch() -> None:
    cfg = compose(["cluster=slurm", "cluster.account=me", "cluster.gpus=2", "data.module.num_workers=3"])
    options = slurm.sbatch_options(cfg, "name")
    assert options["cpus_per_task"] == 4 and options["gpus_per_node"] == 2 and options["account"] == "me"
    assert "partition" not in options and options["additional_parameters"]["requeue"] is True
    more = slurm.sbatch_options(compose(["cluster=slurm", "+cluster.more.constraint=a100"]), "name")
    assert more["additional_parameters"]["constraint"] == "a100"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["cluster.nodes=2"], "are 2 processes, but the training has 1"),
        (["cluster.time='0:03:00'"], "leaves no room for cluster.warning=120"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(more: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        slurm.require_fitting_cluster(compose(["cluster=slurm", *more]))


def test_a_container_that_is_missing_is_named() -> None:
    with pytest.raises(UserError, match=r"no\.sif is not there: apptainer build no\.sif apptainer\.def"):
        plan.require_container("no.sif")
    assert plan.require_container("image") == "image"
