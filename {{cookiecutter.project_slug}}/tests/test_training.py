"""The model learns, and its training is a function of its inputs: the same bits again, also after a kill."""

from __future__ import annotations

import json
import signal
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import samebits
import torch
from omegaconf import DictConfig, OmegaConf

from .conftest import train

RESULTS = ("metrics.json", "predictions.csv", "trace.jsonl", "history.csv")


def results(run: Path) -> list[str]:
    """Read what a training has come to, all of which must be the same bit for bit: the weights' digest first."""
    weights: str = json.loads((run / "record.json").read_text())["outputs"]["weights"]
    return [weights, *((run / name).read_text() for name in RESULTS if (run / name).exists())]


def test_the_model_learns_two_batches_by_heart(tmp_path: Path) -> None:
    fast = ("callbacks.resume.every_n_steps=500", "+trainer.check_val_every_n_epoch=100")
    run = train(tmp_path, "debug=overfit", "trainer.max_epochs=100", *fast)
    name = OmegaConf.load("configs/report.yaml").curves[0]
    losses = list(samebits.read_run(run).curves[name].values())
    assert losses[-1] < 0.5 * losses[0], "a model that cannot learn two batches has a bug, or an unfit learning rate"


def test_training_again_gives_the_same_bits(cfg: DictConfig, trained: Path, tmp_path: Path) -> None:
    workers = ["data.module.num_workers=2"] if "num_workers" in cfg.data.module else []
    again = train(tmp_path, *workers)  # nor does it matter who loads the data
    assert again.name == trained.name and results(again) == results(trained)


def test_another_seed_gives_other_bits(trained: Path, tmp_path: Path) -> None:
    other = train(tmp_path, "seed=12345")
    assert other.name != trained.name and results(other)[0] != results(trained)[0]


def test_a_killed_training_goes_on_to_the_same_bits(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # fork is faster, as PyTorch is imported already; not every system and no GPU can do it
    fork = sys.platform == "linux" and not torch.cuda.is_initialized()
    context: Any = get_context("fork" if fork else "spawn")
    process = context.Process(target=train, args=(tmp_path,))
    process.start()
    while process.is_alive() and not list(tmp_path.glob("*/checkpoints/*.ckpt")):
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not list(tmp_path.glob("*/metrics.json"))
    resumed = train(tmp_path)
    assert "cut off; going on from step" in capsys.readouterr().out
    assert resumed.name == trained.name and results(resumed) == results(trained)


def test_the_saved_weights_give_the_recorded_metrics(trained: Path) -> None:
    recorded = json.loads((trained / "metrics.json").read_text())
    assert samebits.load(trained).evaluate() == recorded
