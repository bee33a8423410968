"""Programs as people write them: exact after kills, with any number of workers, or refused before the first step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import pytest
import pytorch_lightning as pl
from pytorch_lightning import callbacks

from .conftest import Compose
from .cutting import BUSY, Killer, Train, exact, outcome
from .programs import LOADERS, Averaged, Counting, Growing, Unfreezing
from .project import module

UserError = module("samebits.engine.errors").UserError

DATA = "data.module._target_=tests.programs.AnyDataModule"
KILLS = (("on_train_batch_start", 14), ("on_train_batch_end", 9))
CALLBACKS: dict[str, tuple[Callable[[], pl.Callback], ...]] = {
    "counting": (Counting,),
    "averaged": (Averaged,),
    "unfreezing": (Unfreezing,),
    "all": (Averaged, Counting, Unfreezing),
    "growing": (Growing,),
}


def with_loader(name: str, *more: str) -> tuple[str, ...]:
    kept = [each for each in BUSY if not each.startswith("data.module._target_")]
    steps = ["trainer.val_check_interval=1.0"] if "stream" in name or name == "least of two" else []
    return (*kept, DATA, f"+data.module.loader={name}", "~data.module.shift", *steps, *more)


def with_model(name: str) -> tuple[str, ...]:
    kept = [each for each in with_loader("shuffled") if not each.startswith("model._target_")]
    return (*kept, f"model._target_=tests.programs.{name}")


def require_exact(train: Train, name: str, overrides: tuple[str, ...], *kinds: Callable[[], pl.Callback]) -> None:
    """Train, and train again with two kills, workers in between: both have to end with the same bits."""
    expected, state = train(f"{name} alone", *(kind() for kind in kinds), overrides=overrides)
    assert state is not None and len((expected / "trace.jsonl").read_text().splitlines()) > 5
    workers = 0
    for hook, after in KILLS:
        changed = (*overrides, f"data.module.num_workers={workers}")
        run, _ = train(name, *(kind() for kind in kinds), Killer(hook, after), overrides=changed)
        assert not (run / "metrics.json").exists()
        workers = 2
    run, resumed = train(name, *(kind() for kind in kinds), overrides=overrides)
    assert (outcome(run), exact(resumed)) == (outcome(expected), exact(state))


@pytest.mark.parametrize("loader", LOADERS)
def test_ordinary_loaders_are_exact(train: Train, loader: str) -> None:
    require_exact(train, f"loader {loader}", with_loader(loader))


@pytest.mark.slow
def test_workers_that_are_spawned_change_nothing(train: Train) -> None:
    expected, _ = train("forked", overrides=with_loader("shuffled"))
    run, _ = train(
        "spawned", overrides=with_loader("shuffled", "data.module.num_workers=1", "+data.module.start=spawn")
    )
    assert outcome(run)[1:] == outcome(expected)[1:]


@pytest.mark.parametrize("name", CALLBACKS)
def test_state_in_plain_attributes_is_saved(train: Train, name: str) -> None:
    overrides = with_loader("shuffled")
    if name == "growing":
        overrides = (
            *(each for each in overrides if "model._target_" not in each),
            "model._target_=tests.programs.Late",
        )
    require_exact(train, f"callback {name}", overrides, *CALLBACKS[name])


def test_so_is_that_of_the_model(train: Train) -> None:
    require_exact(train, "model", with_model("Forgetful"))


SHIPPED: dict[str, Callable[[], pl.Callback]] = {  # callbacks of Lightning's with which a run is exact
    "BackboneFinetuning": lambda: callbacks.BackboneFinetuning(1, lambda epoch: 1.5, backbone_initial_lr=0.01),
    "EMAWeightAveraging": lambda: callbacks.EMAWeightAveraging(decay=0.9),
    "EarlyStopping": lambda: callbacks.EarlyStopping("val/f1", mode="max", patience=2),
    "GradientAccumulationScheduler": lambda: callbacks.GradientAccumulationScheduler({1: 2, 2: 4}),
    "LambdaCallback": lambda: callbacks.LambdaCallback(),
    "LearningRateMonitor": lambda: callbacks.LearningRateMonitor("step"),
    "ModelCheckpoint": lambda: callbacks.ModelCheckpoint(every_n_train_steps=2, dirpath=mkdtemp()),
    "ModelSummary": lambda: callbacks.ModelSummary(),
    "OnExceptionCheckpoint": lambda: callbacks.OnExceptionCheckpoint(mkdtemp()),
    "RichModelSummary": lambda: callbacks.RichModelSummary(),
    "RichProgressBar": lambda: callbacks.RichProgressBar(),
    "SpikeDetection": lambda: callbacks.SpikeDetection(atol=1000.0, finite_only=False),
    "TQDMProgressBar": lambda: callbacks.TQDMProgressBar(),
    "WeightAveraging": lambda: callbacks.WeightAveraging(),
}
MEASURING = {"DeviceStatsMonitor", "ThroughputMonitor"}  # log what a machine does; they change nothing else
BASES = {"BaseFinetuning", "BasePredictionWriter", "Callback", "Checkpoint", "ProgressBar"}
REFUSED: dict[str, Callable[[], pl.Callback]] = {
    "BatchSizeFinder": lambda: callbacks.BatchSizeFinder(),
    "LearningRateFinder": lambda: callbacks.LearningRateFinder(),
    "ModelPruning": lambda: callbacks.ModelPruning("l1_unstructured", amount=0.2),
    "StochasticWeightAveraging": lambda: callbacks.StochasticWeightAveraging(0.01),
    "Timer": lambda: callbacks.Timer("00:01:00:00"),
}


def test_each_callback_of_lightning_has_its_place() -> None:
    assert {*SHIPPED, *MEASURING, *BASES, *REFUSED} == set(callbacks.__all__)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_run_with_a_callback_of_lightning_is_exact(train: Train, name: str) -> None:
    overrides = with_loader("shuffled")
    if name == "GradientAccumulationScheduler":
        overrides = tuple(each for each in overrides if "accumulate" not in each)
    if name == "EarlyStopping":
        overrides = tuple(each for each in overrides if "EarlyStopping" not in each)
    if name == "BackboneFinetuning":
        overrides = with_model("WithBackbone")
    require_exact(train, f"shipped {name}", overrides, SHIPPED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_one_that_cannot_be_is_refused_before_the_first_step(train: Train, name: str) -> None:
    with pytest.raises(UserError, match=rf"^the callback {name} .*: .*\.$"):
        train(f"refused {name}", REFUSED[name](), overrides=with_loader("shuffled"))


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
        require_exact(train, f"without {what}", with_loader("own sampler"), Counting)


@pytest.mark.parametrize("averaged", [False, True], ids=["plain", "averaged"])
@pytest.mark.parametrize("kept", ["best", "last"])
@pytest.mark.parametrize("model", ["Forgetful", "Compiled", "Configured", "OtherName"])
def test_the_metrics_are_those_of_the_weights_that_are_saved(
    train: Train, settings: Compose, model: str, kept: str, averaged: bool
) -> None:
    more = ("~callbacks.best",) if kept == "last" else ()
    average = [SHIPPED["EMAWeightAveraging"]()] if averaged else []
    run, _ = train(f"{model} {kept} {averaged}", *average, overrides=(*with_model(model), *more))
    saved = module("samebits.engine.run_loader").load(run, Path(settings().paths.root))
    measured = json.loads((run / "metrics.json").read_text())
    again = saved.evaluate()
    assert {name: again[name] for name in measured} == measured


SIMPLE = ("~callbacks.stop", "~callbacks.top")


def test_the_metrics_of_several_loaders_are_all_kept(train: Train) -> None:
    overrides = [each.replace("AnyDataModule", "ManyLoaders") for each in with_model("ByLoader")]
    run, _ = train("several", overrides=(*overrides, *SIMPLE, "callbacks.best.monitor=val/loss/dataloader_idx_1"))
    names = [f"{kind}/loss/dataloader_idx_{place}" for kind in ("val", "test") for place in (0, 1)]
    assert list(json.loads((run / "metrics.json").read_text())) == names


def test_a_run_without_a_validation_keeps_its_last_weights(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = train("unvalidated", overrides=(*with_model("Unvalidated"), *SIMPLE, "~callbacks.best"))
    assert capsys.readouterr().out.count("There is no predictions.csv, since test_step() returned nothing") == 1
    assert json.loads((run / "record.json").read_text())["outputs"]["predictions"] is None
    assert list(json.loads((run / "metrics.json").read_text())) == ["test/loss"]


MISSING = {
    "Untested has no test_step": with_model("Untested"),
    "there is none: give Unvalidated": with_model("Unvalidated"),
    "keeps the weights that are best in validation, and there is none": with_loader(
        "shuffled", "trainer.limit_val_batches=0"
    ),
    "limit_test_batches is 0": with_loader("shuffled", "trainer.limit_test_batches=0"),
    "val_dataloader.. returns no loader": tuple(
        each.replace("AnyDataModule", "NoLoaders") for each in with_loader("shuffled")
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
    run, _ = train("fast", overrides=with_loader("shuffled", "+trainer.fast_dev_run=true"))
    assert (run / "metrics.json").exists()
