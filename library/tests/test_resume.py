"""A run that was cut off ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import pytorch_lightning as pl

from .cutting import BUSY, Killer, Train, exact, outcome
from .project import module

KILLS = [  # hooks in which the training ends at the n-th call, and once more at a later start
    ("on_train_batch_start", (1, 16)),
    ("on_train_batch_end", (14, 3)),
    ("on_validation_batch_start", (17,)),
    ("on_train_epoch_end", (1, 1)),
    ("on_train_end", (1,)),
]


@pytest.fixture(scope="module")
def alone(train: Train) -> tuple[tuple[Any, ...], Any]:
    """Train without an interruption; return what came out, and the state at the end."""
    run, state = train("alone")
    history = (run / "history.csv").read_text()
    assert "random/val" in history and "train/mean_epoch" in history
    assert state["step"][0] < 16 and "lr-Adam,0.005" in history  # it was stopped early, and the learning rate lowered
    return outcome(run), state


@pytest.mark.parametrize(("hook", "times"), KILLS)
def test_a_run_that_was_cut_off_ends_as_if_nothing_had_happened(
    train: Train, alone: Any, capsys: pytest.CaptureFixture[str], hook: str, times: tuple[int, ...]
) -> None:
    for after in times:
        run, _ = train(hook, Killer(hook, after), overrides=(*BUSY, f"data.module.num_workers={2 * (after == 3)}"))
        assert not (run / "metrics.json").exists()
    run, state = train(hook)
    assert "cut off; going on from step" in capsys.readouterr().out
    assert (outcome(run), exact(state)) == (alone[0], exact(alone[1]))


def without(*words: str) -> tuple[str, ...]:
    return tuple(override for override in BUSY if not any(word in override for word in words))


VARIANTS = {
    "by batches": (
        *without("val_check"),
        "+trainer.check_val_every_n_epoch=null",
        "trainer.val_check_interval=7",
        "+trainer.max_steps=13",
    ),
    "manual": (*without("BusyClassifier", "accumulate"), "model._target_=tests.busy.ManualClassifier"),
    "stepwise": (
        *without("BusyClassifier", "val_check"),
        "model._target_=tests.busy.StepwiseClassifier",
        "+trainer.check_val_every_n_epoch=2",
        "trainer.val_check_interval=1.0",
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_ways_to_train_go_on_as_well(train: Train, name: str) -> None:
    expected, state = train(f"{name} alone", overrides=VARIANTS[name])
    for hook, after in (("on_train_batch_end", 13), ("on_train_batch_start", 4)):
        train(name, Killer(hook, after), overrides=VARIANTS[name])
    run, resumed = train(name, overrides=(*VARIANTS[name], "data.module.num_workers=2"))
    assert (outcome(run), exact(resumed)) == (outcome(expected), exact(state))


def test_what_lightning_leaves_out_is_needed(train: Train, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without it, the comparison above fails."""
    train("control", Killer("on_train_batch_start", 16))
    monkeypatch.setattr(module("samebits.engine.checkpoint"), "restore_loop_state", lambda trainer, state: None)
    run, _ = train("control")
    assert outcome(run) != alone[0]


def test_sigterm_saves_and_leaves_with_a_status_of_its_own(train: Train, alone: Any) -> None:
    class Terminate(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
            if trainer.global_step == 5:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as left:
        train("terminated", Terminate(), overrides=(*BUSY, "callbacks.resume.every_n_steps=1000"))
    assert left.value.code == module("samebits.engine.checkpoint").RESUME_LATER
    run, state = train("terminated")
    assert (outcome(run), exact(state)) == (alone[0], exact(alone[1]))


def test_ctrl_c_leaves_at_once(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupt(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
            if trainer.global_step == 5:
                raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        train("interrupted", Interrupt())
    assert left.value.code == 130
    assert "the same command goes on from the last checkpoint" in capsys.readouterr().err


def test_sigterm_ends_a_long_validation(train: Train, alone: Any) -> None:
    class Terminate(pl.Callback):
        def on_validation_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
            if trainer.global_step == 5:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_validation_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
            assert trainer.global_step < 6

    with pytest.raises(SystemExit):
        train("validating", Terminate(), overrides=(*BUSY, "callbacks.resume.grace_seconds=0"))
    assert outcome(train("validating")[0]) == alone[0]
