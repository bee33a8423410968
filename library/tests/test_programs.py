"""Programs as people write them: exact after kills, with any number of workers, or refused before the first step."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning import callbacks

from .combinations import ONLY_WITH, OWN, SHIPPED, TASKS, Combination, require_exact, settings_of
from .conftest import Compose
from .cutting import Train, outcome
from .programs import LOADERS, Counting
from .project import module

traces = module("samebits.engine.trace_reader")
UserError = module("samebits.engine.errors").UserError


@pytest.mark.parametrize("loader", LOADERS)
def test_ordinary_loaders_are_exact(train: Train, loader: str) -> None:
    require_exact(train, f"loader {loader}", settings_of(loader), list)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])  # on macOS; on Linux from Python 3.14 on
def test_workers_that_are_not_forked_change_nothing(start: str, train: Train) -> None:
    expected, _ = train("forked", overrides=settings_of())
    more = ("data.module.num_workers=1", f"+data.module.start={start}")
    run, _ = train(f"by_{start}", overrides=(*settings_of(), *more))
    assert outcome(run)[:3] == outcome(expected)[:3]  # the trace names the inputs, of which the way to start is one
    one, other = (traces.read_trace(each / "trace.jsonl") for each in (run, expected))
    assert traces.first_divergence(one, other) is None and len(one) == len(other)


@pytest.mark.parametrize("name", [*OWN, *SHIPPED])
def test_state_is_saved_wherever_a_callback_keeps_it(train: Train, name: str) -> None:
    each = Combination("shuffled", name, ONLY_WITH.get(name, "busy"))
    require_exact(train, f"callback {name}", each.settings(), each.callbacks)


@pytest.mark.parametrize("task", TASKS)
def test_so_it_is_where_the_model_keeps_it(train: Train, task: str) -> None:
    require_exact(train, f"task {task}", settings_of(task=task), list)


MEASURING = {"DeviceStatsMonitor", "ThroughputMonitor"}  # log what a machine does; they change nothing else
BASES = {"BaseFinetuning", "BasePredictionWriter", "Callback", "Checkpoint", "ProgressBar"}
REFUSED: dict[str, Callable[[], pl.Callback]] = {
    "BatchSizeFinder": lambda: callbacks.BatchSizeFinder(),
    "LearningRateFinder": lambda: callbacks.LearningRateFinder(),
    "ModelPruning": lambda: callbacks.ModelPruning("l1_unstructured", amount=0.2),
    "SpikeDetection": lambda: callbacks.SpikeDetection(),
    "StochasticWeightAveraging": lambda: callbacks.StochasticWeightAveraging(0.01),
    "Timer": lambda: callbacks.Timer("00:01:00:00"),
}


def test_each_callback_of_lightning_has_its_place() -> None:
    assert {*SHIPPED, *MEASURING, *BASES, *REFUSED} == set(callbacks.__all__)
    section = (Path(__file__).parents[2] / "docs/programs.md").read_text().partition("## Callbacks of Lightning")[2]
    rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in section.splitlines() if row.startswith("| `")]
    assert sorted(name for row in rows for name in row) == sorted(callbacks.__all__)
    refused = [
        name for row in section.splitlines() if "| refused" in row for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert sorted(refused) == sorted(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_one_that_cannot_be_is_refused_before_the_first_step(train: Train, name: str) -> None:
    with pytest.raises(UserError, match=rf"^the callback {name} .*: .*\.$"):
        train(f"refused {name}", REFUSED[name](), overrides=settings_of())


@pytest.mark.parametrize("what", ["loaders", "attributes", "generators"])
def test_each_of_these_is_needed(train: Train, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without it, the comparison finds a difference."""
    if what == "loaders":
        monkeypatch.setattr(module("samebits.engine.exact_loaders").ExactLoaders, "setup", lambda *given, **named: None)
    elif what == "attributes":
        monkeypatch.setattr(module("samebits.engine.attributes").ChangedAttributes, "restore", lambda *given: None)
    else:
        monkeypatch.setattr(module("samebits.engine.randomness"), "seed_generators", lambda *given: None)
    with pytest.raises(AssertionError):
        require_exact(train, f"without {what}", settings_of("own sampler"), lambda: [Counting()])


@pytest.mark.parametrize("averaged", [False, True], ids=["plain", "averaged"])
@pytest.mark.parametrize("kept", ["best", "last"])
@pytest.mark.parametrize("model", ["forgetful", "compiled", "configured", "all its state"])
def test_the_metrics_are_those_of_the_weights_that_are_saved(
    train: Train, settings: Compose, model: str, kept: str, averaged: bool
) -> None:
    more = ("~callbacks.best",) if kept == "last" else ()
    average = [SHIPPED["EMAWeightAveraging"]()] if averaged else []
    run, _ = train(f"{model} {kept} {averaged}", *average, overrides=(*settings_of(task=model), *more))
    saved = module("samebits.engine.run_loader").load(run, Path(settings().paths.root))
    measured = json.loads((run / "metrics.json").read_text())
    again = saved.evaluate()
    assert {name: again[name] for name in measured} == measured


SIMPLE = ("~callbacks.stop", "~callbacks.top")


def test_the_metrics_of_several_loaders_are_all_kept(train: Train) -> None:
    several = ("programs.AnyDataModule", "measured.ManyLoaders")
    overrides = [each.replace(*several) for each in settings_of(task="by loader")]
    run, _ = train("several", overrides=(*overrides, *SIMPLE, "callbacks.best.monitor=val/loss/dataloader_idx_1"))
    names = [f"{kind}/loss/dataloader_idx_{place}" for kind in ("val", "test") for place in (0, 1)]
    assert list(json.loads((run / "metrics.json").read_text())) == names


def test_a_run_without_a_validation_keeps_its_last_weights(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = train("unvalidated", overrides=(*settings_of(task="unvalidated"), *SIMPLE, "~callbacks.best"))
    assert capsys.readouterr().out.count("There is no predictions.csv, since test_step() returned nothing") == 1
    assert json.loads((run / "record.json").read_text())["outputs"]["predictions"] is None
    assert list(json.loads((run / "metrics.json").read_text())) == ["test/loss"]


MISSING = {
    "Untested has no test_step": settings_of(task="untested"),
    "there is none: give Unvalidated": settings_of(task="unvalidated"),
    "keeps the weights that are best in validation, and there is none": (
        *settings_of(),
        "trainer.limit_val_batches=0",
    ),
    "limit_test_batches is 0": (*settings_of(), "trainer.limit_test_batches=0"),
    "leave out trainer.gradient_clip_val": (*settings_of(task="adversarial"), "+trainer.gradient_clip_val=0.5"),
    "and trainer.accumulate_grad_batches": (*settings_of(task="adversarial"), "+trainer.accumulate_grad_batches=2"),
    "val_dataloader.. returns no loader": tuple(
        each.replace("programs.AnyDataModule", "measured.NoLoaders") for each in settings_of()
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_could_not_be_measured_is_said_before_the_first_step(train: Train, what: str) -> None:
    class Stepless(pl.Callback):
        def on_train_batch_start(self, *arguments: object) -> None:
            raise AssertionError("a step was made")

    with pytest.raises(UserError, match=what):
        train(f"missing {what[:12]}", Stepless(), overrides=MISSING[what])


def test_a_fast_run_of_lightning_works(train: Train) -> None:
    run, _ = train("fast", overrides=(*settings_of(), "+trainer.fast_dev_run=true"))
    assert (run / "metrics.json").exists()
