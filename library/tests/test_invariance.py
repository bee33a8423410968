"""What does not count as an input does not change the result, and what does, does. `make invariance` does more."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from samebits.verify.invariance import TRAINING, Case, result

from .conftest import Compose
from .project import UserError, module

FOUR_STEPS = ("trainer.limit_train_batches=4", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")
CSV = "+logger.csv={_target_:pytorch_lightning.loggers.CSVLogger,save_dir:'${paths.run}'}"

# For each setting that is not hashed: other values of it
OTHERWISE: dict[str, tuple[str, ...]] = {
    "paths": ("paths.models='${paths.root}/elsewhere'",),
    "run_name": ("run_name=another",),
    "cluster": ("cluster=slurm", "cluster.cpus=2"),
    "force": ("force=true",),
    "publish": ("publish=published",),
    "logger": (CSV,),
    "snapshot": ("snapshot=true",),
    "callbacks.trace": ("callbacks.trace=null",),
    "data.card": ("data.card=elsewhere.md",),
    "callbacks.predictions": ("callbacks.predictions=null",),
    "callbacks.probe": ("+callbacks.probe={_target_:samebits.engine.callbacks.Probe,directory:x,steps:1000}",),
    "callbacks.resume": ("callbacks.resume.every_n_steps=1",),
    "callbacks.progress_bar": ("callbacks.progress_bar=null",),
    "callbacks.learning_rate": ("callbacks.learning_rate=null",),
    "trainer.default_root_dir": ("trainer.default_root_dir='${paths.root}/root'",),
    "trainer.enable_progress_bar": ("trainer.enable_progress_bar=false",),
    "trainer.enable_model_summary": ("trainer.enable_model_summary=true",),
    "trainer.log_every_n_steps": ("trainer.log_every_n_steps=3",),
    "trainer.num_sanity_val_steps": ("trainer.num_sanity_val_steps=2",),
    "tags": ("+tags=[baseline,paper]",),
    "data.files": ("data.files.0.uri=file:///elsewhere/digits.csv.gz",),
    "data.module.directory": ("data.module.directory='${paths.root}/copy'",),
    "data.module.num_workers": ("data.module.num_workers=2",),
    "data.module.persistent_workers": ("data.module.num_workers=1", "data.module.persistent_workers=false"),
    "data.module.prefetch_factor": ("data.module.num_workers=1", "data.module.prefetch_factor=5"),
}


def trained(settings: Compose, *overrides: str) -> tuple[str, Any]:
    """Train, and return the hash of the inputs and the outputs."""
    cfg = settings(*FOUR_STEPS, *overrides)
    torch.rand(3)
    models = Path(cfg.paths.models)
    before = set(models.glob("*/record.json"))
    module("dummy.train").train(cfg)
    (record,) = set(models.glob("*/record.json")) - before
    content = json.loads(record.read_text())
    return module("samebits.engine.inputs").inputs_id(content["inputs"]), content["outputs"]


@pytest.fixture(scope="module")
def baseline(settings: Compose, workspace: Path) -> tuple[str, Any]:
    """Train with nothing changed."""
    shutil.copytree(workspace / "data/processed", workspace / "copy")
    return trained(settings, "paths.models='${paths.root}/invariance/alone'")


def test_every_setting_that_is_not_hashed_is_tried() -> None:
    by_commands = {"trainer.devices", "trainer.num_nodes"}  # in test_shards.py, and in the template's tests
    assert set(OTHERWISE) | by_commands == set(module("samebits.engine.inputs").NOT_INPUTS)


@pytest.mark.parametrize("key", OTHERWISE)
def test_it_does_not_change_the_result(
    settings: Compose, baseline: tuple[str, Any], key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if key == "snapshot":  # in a repository of its own
        monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
        words = ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--allow-empty"]
        for command in (["init", "--quiet"], [*words, "--message=first"]):
            subprocess.run(["git", *command], check=True, cwd=tmp_path)
    elsewhere = () if key == "paths" else (f"paths.models='${{paths.root}}/invariance/{key}'",)
    inputs, outputs = trained(settings, *elsewhere, *OTHERWISE[key])
    if key in ("callbacks.trace", "callbacks.predictions"):
        name = key.rpartition(".")[2]
        assert outputs[name] is None
        outputs[name] = baseline[1][name]
    assert (inputs, outputs) == baseline


CONTROLS = ("seed=1", "data.module.batch_size=31", "data.module.shift=0", "model.network.dropout=0.3")


@pytest.mark.parametrize("override", CONTROLS)
def test_what_is_hashed_changes_the_result(settings: Compose, baseline: tuple[str, Any], override: str) -> None:
    inputs, outputs = trained(settings, override, f"paths.models='${{paths.root}}/invariance/{override}'")
    assert inputs != baseline[0] and outputs["weights"] != baseline[1]["weights"]


def test_samples_read_one_by_one_are_covered_too(settings: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets and transforms as they are elsewhere: the engine sets the global generators for each sample."""

    def weights(target: str, workers: int) -> str:
        models = f"paths.models='${{paths.root}}/invariance/{target}-{workers}'"
        overrides = (f"data.module._target_=tests.busy.{target}", f"data.module.num_workers={workers}", models)
        return str(trained(settings, *overrides)[1]["weights"])

    assert weights("SeededPlainDataModule", 0) == weights("SeededPlainDataModule", 2)
    assert weights("PlainDataModule", 0) == weights("PlainDataModule", 2)
    ordinary = module("samebits.engine.exact_loaders").ExactLoaders
    monkeypatch.setattr(ordinary, "setup", lambda *given, **named: None)  # the control
    assert weights("PlainDataModule", 1) != weights("PlainDataModule", 3)


def test_hooks_that_draw_are_covered_too(settings: Compose) -> None:
    """Between loading and step, in validations, at an epoch's end: neither workers nor validations shift them."""

    def weights(name: str, *overrides: str) -> str:
        busy = ["model._target_=tests.busy.StepwiseClassifier", "data.module._target_=tests.busy.BusyDataModule"]
        busy += ["trainer.max_epochs=2", "callbacks.best=null", "+trainer.check_val_every_n_epoch=1"]
        models = f"paths.models='${{paths.root}}/invariance/{name}'"
        return str(trained(settings, *busy, "model.optimizer.lr=0.01", *overrides, models)[1]["weights"])

    assert weights("once") == weights("twice", "trainer.val_check_interval=0.5")
    assert weights("once, 2", "data.module.num_workers=2") == weights("never", "trainer.check_val_every_n_epoch=9")


def test_a_subset_is_read_sample_by_sample(workspace: Path) -> None:
    dataset = module("dummy.data.datamodule").ArrayDataset(workspace / "data/processed", "train")
    loader = module("samebits.engine.data_loading").make_loader(
        torch.utils.data.Subset(dataset, range(5)), batch_size=2, seed=0, trainer=None, drop_last=True
    )
    batches = list(loader)
    assert len(batches) == len(loader) == 2 and batches[0][0].shape == (2, 1, 8, 8)


def test_the_surroundings_do_not_change_the_result(settings: Compose, workspace: Path) -> None:
    """A command of its own, with all of them changed at once."""
    case = Case(
        "surroundings",
        (f'paths.root="{workspace}"', "debug=fast", *FOUR_STEPS),
        environment={"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "5", "OMP_NUM_THREADS": "3"},
        folder=Path("/"),
        umask=0o077,
        cores=1,
    )
    _, here = trained(settings, *TRAINING, *FOUR_STEPS, "paths.models='${paths.root}/invariance/here'")
    assert result(case, workspace / "invariance/surroundings") == here


def test_the_order_of_samples_is_a_function_of_seed_and_epoch() -> None:
    loading = module("samebits.engine.data_loading")

    class Trainer:
        overfit_batches = 0
        current_epoch = 3

        class fit_loop:
            batch_idx = -1

    def batches(seed: int) -> list[list[int]]:
        return [draw.indices.tolist() for draw in loading.BatchOrder(10, 4, seed, Trainer)]

    epoch = batches(seed=0)
    assert [len(batch) for batch in epoch] == [4, 4, 2] and sorted(chain(*epoch)) == list(range(10))
    Trainer.fit_loop.batch_idx = 0
    assert batches(seed=0) == epoch[1:]  # begun where the trainer stands
    Trainer.current_epoch = 4
    assert batches(seed=0) != epoch[1:]


def test_a_samples_random_numbers_do_not_depend_on_its_batch() -> None:
    randomness = module("samebits.engine.randomness")

    def numbers(epoch: int, *indices: int) -> tuple[torch.Tensor, torch.Tensor]:
        random = randomness.SampleRandom(7, epoch, torch.tensor(indices).numpy())
        return torch.from_numpy(random.uniform()), torch.from_numpy(random.integers(-1, 2))

    together, alone = numbers(0, 5, 6, 7), numbers(0, 6)
    assert together[0][1] == alone[0][0] and together[1][1] == alone[1][0]
    assert numbers(1, 6)[0] != alone[0]
    many = numbers(0, *range(30_000))
    assert many[0].min() >= 0 and many[0].max() < 1 and abs(many[0].mean() - 0.5) < 0.01
    assert torch.bincount(many[1] + 1).tolist() == pytest.approx([10_000] * 3, rel=0.03)
    assert abs(torch.corrcoef(torch.stack((many[0][:-1], many[0][1:])))[0, 1]) < 0.02


def test_the_environment_is_set_before_pytorch_is_loaded() -> None:
    require_untouched = module("samebits.engine.determinism").require_untouched
    require_untouched(module("samebits.engine.config").compose().determinism)
    for override, name in (
        ("determinism.threads=5", "OMP_NUM_THREADS=5"),
        ("determinism=native", "CAPABILITY could be removed"),
    ):
        with pytest.raises(UserError, match=f"PyTorch was loaded before .*{name}"):
            require_untouched(module("samebits.engine.config").compose([override]).determinism)


def test_an_operation_without_a_deterministic_implementation_stops_the_run(settings: Compose) -> None:
    cfg = settings("model._target_=tests.busy.Indeterministic", "paths.models='${paths.root}/stopped'")
    with pytest.raises(UserError, match=r"operation \S+ has no deterministic implementation"):
        module("dummy.train").train(cfg)
    assert not list(Path(cfg.paths.models).glob("*/metrics.json"))


def test_an_optimiser_that_is_not_portable_is_refused(settings: Compose) -> None:
    models = "paths.models='${paths.root}/refused'"
    with pytest.raises(UserError, match=r"this Adam is not: say model\.optimizer\.fused=true"):
        module("dummy.train").train(settings("model.optimizer.fused=false", models))


def test_a_validation_by_the_clock_is_refused(settings: Compose) -> None:
    with pytest.raises(UserError, match="clock"):
        module("samebits.engine.config").check(settings("trainer.val_check_interval=00:00:01:00"))
