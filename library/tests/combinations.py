"""Loaders, callbacks and tasks together: each combination is trained, killed twice, and compared, bit for bit.

`python -m tests.combinations --sample 100` tries as many of them, drawn at random; `make soak` calls it. Without
`--sample` it tries all, which takes hours; `--part 0/4` is one of four parts of that. The control comes first: a
callback that hides its state has to be found by the comparison.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import product
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from weakref import WeakKeyDictionary

import pytorch_lightning as pl
from pytorch_lightning import callbacks

from .cutting import BUSY, Killer, Train, exact, outcome, trainings
from .programs import LOADERS, Averaged, Counting, Growing, Unfreezing
from .project import compose, module
from .trainings import prepare

HIDDEN: WeakKeyDictionary[pl.Callback, int] = WeakKeyDictionary()


class Secretive(pl.Callback):
    """Counts the batches where nothing finds it, and trains by the count: the control."""

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Shrink a weight every third time."""
        HIDDEN[self] = HIDDEN.get(self, 0) + 1
        if HIDDEN[self] % 3 == 0:
            next(pl_module.parameters()).data.mul_(0.9)


Make = Callable[[], pl.Callback]
OWN: dict[str, Sequence[Make]] = {
    "none": (),
    "counting": (Counting,),
    "averaged": (Averaged,),
    "unfreezing": (Unfreezing,),
    "all": (Averaged, Counting, Unfreezing),
    "growing": (Growing,),
}
SHIPPED: dict[str, Make] = {  # callbacks of Lightning's with which a run is exact
    "BackboneFinetuning": lambda: callbacks.BackboneFinetuning(1, lambda epoch: 1.5, backbone_initial_lr=0.01),
    "EMAWeightAveraging": lambda: callbacks.EMAWeightAveraging(decay=0.9),
    "EarlyStopping": lambda: callbacks.EarlyStopping("val/loss", patience=6),
    "GradientAccumulationScheduler": lambda: callbacks.GradientAccumulationScheduler({1: 2, 2: 4}),
    "LambdaCallback": lambda: callbacks.LambdaCallback(),
    "LearningRateMonitor": lambda: callbacks.LearningRateMonitor("step"),
    "ModelCheckpoint": lambda: callbacks.ModelCheckpoint(every_n_train_steps=2, dirpath=mkdtemp()),
    "ModelSummary": lambda: callbacks.ModelSummary(),
    "OnExceptionCheckpoint": lambda: callbacks.OnExceptionCheckpoint(mkdtemp()),
    "RichModelSummary": lambda: callbacks.RichModelSummary(),
    "RichProgressBar": lambda: callbacks.RichProgressBar(),
    "TQDMProgressBar": lambda: callbacks.TQDMProgressBar(),
    "WeightAveraging": lambda: callbacks.WeightAveraging(),
}
TASKS = {  # the models of the training, and what they cannot be trained with
    "busy": ("tests.busy.BusyClassifier", ()),
    "forgetful": ("tests.programs.Forgetful", ()),
    "by hand": ("tests.busy.ManualClassifier", ("accumulate",)),
    "adversarial": ("tests.measured.Adversarial", ("accumulate", "optimizer.lr")),
    "a step's schedule": ("tests.busy.StepwiseClassifier", ()),
    "late": ("tests.programs.Late", ()),
    "backbone": ("tests.programs.WithBackbone", ()),
    "compiled": ("tests.measured.Compiled", ()),
    "all its state": ("tests.measured.OtherName", ()),
}
# models of single tests
OTHERS = {"configured": "Configured", "by loader": "ByLoader", "unvalidated": "Unvalidated", "untested": "Untested"}
ONLY_WITH = {"growing": "late", "BackboneFinetuning": "backbone"}  # a callback, and the task that it is made for
KILLS = (("on_train_batch_start", 14), ("on_train_batch_end", 9))
REFUSED = (  # what may be said before the first step, by Lightning or by us
    r"^Automatic gradient accumulation and the `GradientAccumulationScheduler` is not supported for",
)
HOOKS = ("on_train_batch_start", "on_train_batch_end", "on_validation_batch_start", "on_train_epoch_end")


@dataclass(frozen=True)
class Combination:
    """A loader, a callback and a task, each by its name."""

    loader: str
    callback: str
    task: str

    def __str__(self) -> str:
        return f"{self.loader}, {self.callback}, {self.task}"

    def callbacks(self) -> list[pl.Callback]:
        """Make the callbacks."""
        known = {**SHIPPED, "secretive": Secretive}
        return [make() for make in OWN.get(self.callback, [known.get(self.callback, pl.Callback)])]

    def settings(self) -> tuple[str, ...]:
        """List the settings that train with it."""
        return settings_of(self.loader, self.task, self.callback)


def settings_of(loader: str = "shuffled", task: str = "busy", callback: str = "none") -> tuple[str, ...]:
    """List the settings that train with a loader, a task and a callback."""
    model, unfit = TASKS.get(task) or (f"tests.measured.{OTHERS[task]}", ())
    left_out = {
        "model._target_",
        "data.module._target_",
        *unfit,
        *(["accumulate"] if callback == "GradientAccumulationScheduler" else []),
        *(["EarlyStopping"] if callback == "EarlyStopping" else []),
    }
    kept = [setting for setting in BUSY if not any(name in setting for name in left_out)]
    unsized = "stream" in loader or loader == "least of two"
    return (
        *kept,
        f"model._target_={model}",
        "data.module._target_=tests.programs.AnyDataModule",
        f"+data.module.loader={loader}",
        "~data.module.shift",
        *(["trainer.val_check_interval=1.0"] if unsized else []),
        *(["~callbacks.predictions"] if task == "adversarial" else []),
    )


def require_exact(
    train: Train, name: str, overrides: tuple[str, ...], make: Callable[[], list[pl.Callback]], kills: object = KILLS
) -> None:
    """Train, and train again with kills, and workers in between: both have to end with the same bits."""
    expected, state = train(f"{name} alone", *make(), overrides=overrides)
    assert state is not None and len((expected / "trace.jsonl").read_text().splitlines()) > 3
    resumed = None
    for place, (hook, after) in enumerate(kills):  # type: ignore[arg-type, var-annotated]
        if resumed is None:  # else it had come to its end before the kill
            workers = f"data.module.num_workers={2 * (place % 2)}"
            run, resumed = train(name, *make(), Killer(hook, after), overrides=(*overrides, workers))
    if resumed is None or not (run / "metrics.json").exists():  # or it was killed while its weights were measured
        run, again = train(name, *make(), overrides=overrides)
        resumed = again or resumed
    assert (outcome(run), exact(resumed)) == (outcome(expected), exact(state))


def every_combination() -> list[Combination]:
    """List the combinations that make sense."""
    found = [Combination(*names) for names in product(LOADERS, [*OWN, *SHIPPED], TASKS)]
    return [each for each in found if ONLY_WITH.get(each.callback, each.task) == each.task]


def main() -> None:
    """Try them, and say what became of each that is not exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="how many of them, drawn at random; all without it")
    parser.add_argument("--seed", type=int, default=0, help="of the draw and of the kills")
    parser.add_argument("--part", default="0/1", help="0/4 is the first of four parts")
    parser.add_argument("--first", type=int, default=1, help="the number to start from, where another try ended")
    arguments = parser.parse_args()
    before = dict(os.environ)
    module("samebits.engine.determinism").before_torch(compose().determinism)
    if os.environ != before:  # PyTorch, which is loaded, has to find it so
        os.execv(sys.executable, [sys.executable, "-m", "tests.combinations", *sys.argv[1:]])
    draw = random.Random(arguments.seed)
    chosen = every_combination()
    if arguments.sample:
        chosen = draw.sample(chosen, min(arguments.sample, len(chosen)))
    part, parts = map(int, arguments.part.split("/"))
    chosen = chosen[part::parts]
    counts = {"exact": 0, "refused": 0, "different": 0, "failed": 0}
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(Path(folder))
        few = ["debug=fast", "trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0", "snapshot=false"]
        train = trainings(lambda *more: compose([f'paths.root="{workspace}"', *few, *more]), Path(folder) / "runs")
        for hook, after in KILLS:
            control = Combination("shuffled", "secretive", "busy")
            if attempt(train, control, f"control-{after}", [(hook, after)])[0] != "different":
                sys.exit("the control was not found: this cannot tell a run that is not exact")
        for number, each in enumerate(chosen, 1):
            kills = [(hook, draw.randint(1, 2 if "epoch" in hook else 8)) for hook in draw.choices(HOOKS, k=2)]
            if number < arguments.first:  # its kills are drawn all the same, so that the others keep theirs
                continue
            result, why = attempt(train, each, f"{number}", kills)
            counts[result] += 1
            if result != "exact":
                print(f"{each}, killed in {kills}: {result}{f', {why}' if why else ''}", flush=True)
            if number % 10 == 0 or number == len(chosen):
                print(
                    f"{number} of {len(chosen)}: {', '.join(f'{n} {name}' for name, n in counts.items())}", flush=True
                )
    sys.exit(1 if counts["different"] or counts["failed"] else 0)


def attempt(train: Train, each: Combination, name: str, kills: list[tuple[str, int]]) -> tuple[str, str]:
    """Try one; what is refused has to be so before its first step."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            require_exact(train, name, each.settings(), each.callbacks, kills)
        except AssertionError as error:
            return "different", str(error).partition("\n")[0][:200]
        except Exception as error:  # whatever a program may raise
            said = str(error).partition("\n")[0][:200]
            refused = any(re.search(why, said) for why in REFUSED)
            return "refused" if refused else "failed", f"{type(error).__name__}: {said}"
    return "exact", ""


if __name__ == "__main__":
    main()
