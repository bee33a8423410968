"""A run leaves what it should, the same inputs give the same weights, and weights are used with their own settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import samebits

from .conftest import Compose
from .project import ROOT, UserError, module


def weights(run: Path) -> str:
    return str(json.loads((run / "record.json").read_text())["outputs"]["weights"])


def test_the_directory_is_complete(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {"config.yaml", "record.json", "metrics.json", "model.safetensors", "history.csv"}
    assert set(json.loads((trained / "metrics.json").read_text())) >= {"test/accuracy", "test/loss", "val/loss"}
    assert (trained / "history.csv").read_text().startswith("step,epoch,metric,value\n")
    assert "\n1,0,train/loss," in (trained / "history.csv").read_text()


def test_the_saved_config_names_no_folder_of_this_computer(trained: Path, workspace: Path) -> None:
    assert str(workspace) not in (trained / "config.yaml").read_text()


def test_the_same_inputs_give_the_same_weights_and_another_seed_others(settings: Compose, trained: Path) -> None:
    torch.rand(7)  # what happened before in this process must not matter
    module("dummy.train").train(settings("force=true"))
    again = trained.with_name(trained.name + "-2")
    assert weights(again) == weights(trained)
    assert (again / "metrics.json").read_bytes() == (trained / "metrics.json").read_bytes()
    assert (again / "model.safetensors").read_bytes() != (trained / "model.safetensors").read_bytes()  # the run's id

    cfg = settings("seed=1")  # negative control
    module("dummy.train").train(cfg)
    (other,) = Path(cfg.paths.models).glob("debug-fast-cnn-seed=1-*")
    assert weights(other) != weights(trained)


def test_a_finished_run_is_not_touched(settings: Compose, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    module("dummy.train").train(settings("trainer.log_every_n_steps=7", "data.module.num_workers=1"))
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
    assert "trained already" in capsys.readouterr().out


def test_a_run_without_a_checkpoint_is_trained_anew(settings: Compose, trained: Path) -> None:
    expected = weights(trained)
    (trained / "metrics.json").unlink()
    module("dummy.train").train(settings())
    assert weights(trained) == expected


def test_the_inputs_decide_the_name(settings: Compose, workspace: Path) -> None:
    inputs = module("samebits.engine.inputs")

    def name(*overrides: str) -> str:
        cfg = settings(*overrides)
        return str(inputs.inputs_id(inputs.collect(cfg)))

    same = name()
    for override in (
        "callbacks.resume.every_n_steps=7",
        "data.module.num_workers=2",
        "force=true",
        "run_name=x",
        "publish=x",
    ):
        assert name(override) == same, override
    for override in ("seed=1", "model=mlp", "model.optimizer.lr=0.1", "trainer.max_epochs=2", "determinism.threads=2"):
        assert name(override) != same, override
    labels = workspace / "data/processed/train_labels.npy"
    content = labels.read_bytes()
    labels.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    changed = name()
    labels.write_bytes(content)
    assert changed != same == name()


def test_evaluation_repeats_the_metrics_exactly(trained: Path, workspace: Path) -> None:
    assert samebits.load(trained, workspace).evaluate() == json.loads((trained / "metrics.json").read_text())


def test_weights_lead_back_to_their_run(trained: Path) -> None:
    saved = module("samebits.engine.run_loader")
    _, run_id = saved.load_model(trained, saved.read_config(trained))
    assert run_id == trained.name


def test_damaged_or_foreign_weights_are_refused(trained: Path, tmp_path: Path) -> None:
    saved = module("samebits.engine.run_loader")
    run = tmp_path / "run"
    with pytest.raises(UserError, match="missing"):
        saved.read_config(run)
    shutil.copytree(trained, run)
    cfg = saved.read_config(run)
    cfg.model.network.hidden = 65
    with pytest.raises(UserError, match=r"does not fit the model .* has changed since"):
        saved.load_model(run, cfg)
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged"):
        saved.load_model(run, saved.read_config(run))
    (run / "config.yaml").write_text("seed: 0")
    with pytest.raises(UserError, match="must be a group of settings"):
        saved.read_config(run)
    (run / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match="damaged"):
        saved.read_config(run)


def test_weights_are_used_with_other_code_or_data_with_a_warning(
    trained: Path, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samebits.load(trained, workspace).evaluate()
    assert "warning" not in capsys.readouterr().err
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    record = json.loads((run / "record.json").read_text())
    record["inputs"]["code"]["dummy/models/network.py"] = record["inputs"]["data"]["test_labels.npy"] = "0" * 64
    (run / "record.json").write_text(json.dumps(record))
    samebits.load(run, workspace).evaluate()
    said = capsys.readouterr().err
    assert "code has changed" in said and "models/network.py" in said
    assert "data has changed" in said and "test_labels.npy" in said
    (run / "record.json").unlink()
    samebits.load(run, workspace).evaluate()
    assert "record.json is missing" in capsys.readouterr().err


def test_the_same_inputs_are_found_under_another_name(settings: Compose, trained: Path) -> None:
    find = module("samebits.engine.record").find_run
    inputs = json.loads((trained / "record.json").read_text())["inputs"]
    assert find(trained.parent, "another name", inputs, ROOT).directory == trained
    assert find(trained.parent, "another/name", {"config": {}}, ROOT).id.startswith("another_name-")


def test_a_training_that_diverges_is_no_result(settings: Compose) -> None:
    cfg = settings("model.optimizer.lr=1e30", "trainer.limit_train_batches=6", "run_name=diverging")
    with pytest.raises(UserError, match="diverged"):
        module("dummy.train").train(cfg)
    (run,) = Path(cfg.paths.models).glob("diverging-*")
    assert not (run / "metrics.json").exists()
