"""What training costs, measured in one process: `python -m study.costs FILE '{"kinds": [...], ...}' word ...`.

Kinds: `plain`, a loop of PyTorch's own; `lightning`, its Trainer; `bare`, with samebits, but neither trace nor
checkpoints; `trace` and `checkpoints`, with one of them; `samebits`, with both. They take turns, in rounds, every other
backwards, since a machine is now faster, now slower. FILE holds what is known at any time.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import StatisticsError, median
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from pytorch_lightning.callbacks import LambdaCallback

import samebits

OF_TRACE = {
    "on_train_start": "step 0",
    "on_train_batch_start": "batch",
    "on_before_backward": "rng and loss",
    "on_before_optimizer_step": "grad",
    "on_train_batch_end": "weights and operators",
    "state_dict": "last row",
}
OF_CHECKPOINTS = {"save": "checkpoint", "_wait": "wait for the one before"}


class Done(Exception):
    """The last step has been measured."""


def synchronize() -> None:
    """Wait for the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Clock:
    """Notes when each step begins, and how long the parts of trace and checkpoints hold it up.

    Args:
        first: step before which the measured ones begin.
        last: step at which it ends.
        save: steps from the first checkpoint, soon after the start, to the next.
    """

    def __init__(self, first: int, last: int, save: int) -> None:
        self.first, self.last, self.save = first, last, save
        self.begun = time.perf_counter()
        self.times: dict[int, float] = {}
        self.parts: list[tuple[int, str, float]] = []
        self.resume: samebits.ExactResume | None = None

    def tick(self, step: int) -> None:
        """Note the time before a step."""
        if step in self.times:  # gradients are still gathering
            return
        if step in (self.first, self.last):
            synchronize()
        self.times[step] = time.perf_counter()
        if self.resume is not None and step >= self.first // 2:  # the first checkpoint of a process takes longer
            self.resume.every_n_steps = self.save
        if step == self.last:
            raise Done

    def watch(self, callback: pl.Callback) -> None:
        """Measure what a callback does; in the first steps, without what the GPU has still to do."""
        parts: dict[str, str] = {}
        if isinstance(callback, samebits.TraceWriter):
            parts = OF_TRACE
        elif isinstance(callback, samebits.ExactResume):
            parts, self.resume, callback.every_n_steps = OF_CHECKPOINTS, callback, self.first // 2
        for name, part in parts.items():
            if (method := getattr(callback, name, None)) is not None:
                setattr(callback, name, self.timed(part, method))

    def timed(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a method."""

        def call(*arguments: Any, **named: Any) -> Any:
            early = len(self.times) <= self.first // 2
            if early:
                synchronize()
            begun = time.perf_counter()
            result = method(*arguments, **named)
            if early:
                synchronize()
            taken = time.perf_counter() - begun
            if taken > 2e-4:
                self.parts.append((len(self.times), part, round(1000 * taken, 1)))
            return result

        return call

    def found(self) -> dict[str, Any]:
        """Sum it up: times in milliseconds."""
        times = [1000 * self.times[step] for step in range(self.last + 1)]
        steps = [after - before for before, after in pairwise(times)]
        return {
            "step": round((times[self.last] - times[self.first]) / (self.last - self.first), 3),
            "median": round(median(steps[self.first :]), 3),
            "first steps": [round(times[0] - 1000 * self.begun, 1), *(round(each, 1) for each in steps[:7])],
            "slowest": sorted(((round(each, 1), step) for step, each in enumerate(steps)), reverse=True)[:8],
            "parts": self.parts,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
            "MB": round(torch.cuda.max_memory_allocated() / 1e6) if torch.cuda.is_available() else 0,
        }


def plain(cfg: Any, clock: Clock) -> None:
    """Train as a loop of PyTorch's own."""
    device = torch.device("cuda" if cfg.trainer.accelerator == "gpu" else "cpu")
    datamodule = instantiate(cfg.data)
    datamodule.setup()
    model = instantiate(cfg.model).to(device).train()
    optimizer = model.configure_optimizers()
    print(f"weights {sum(each.numel() for each in model.parameters())}", flush=True)
    step, clock.begun = 0, time.perf_counter()
    while True:
        for images, labels in datamodule.train_dataloader():
            clock.tick(step)
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=cfg.trainer.precision == "bf16-mixed"):
                loss = model.training_step((images, labels), step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


def ticking(clock: Clock) -> pl.Callback:
    """Make a callback of the clock, one without a state that would come into checkpoints."""

    def setup(trainer: pl.Trainer, model: pl.LightningModule, stage: str) -> None:
        for each in trainer.callbacks:
            clock.watch(each)

    def start(trainer: pl.Trainer, model: pl.LightningModule) -> None:
        clock.begun = time.perf_counter()

    return LambdaCallback(
        setup=setup,
        on_train_start=start,
        on_train_batch_start=lambda trainer, *rest: clock.tick(trainer.global_step),
    )


def lightning(cfg: Any, clock: Clock) -> None:
    """Train by Lightning alone, which would switch deterministic algorithms off by itself."""
    options = {"callbacks": [ticking(clock)], "logger": False, "enable_checkpointing": False, "deterministic": True}
    instantiate(cfg.trainer, **options).fit(instantiate(cfg.model), instantiate(cfg.data))


CLOCKS: list[Clock] = []


@samebits.main(version_base="1.3", config_path="../configs", config_name="train")
def recorded(run: samebits.Run) -> None:
    """Train with samebits."""
    trainer = instantiate(run.cfg.trainer, callbacks=[ticking(CLOCKS[-1])], logger=False)
    run.fit(trainer, instantiate(run.cfg.model), instantiate(run.cfg.data))


def summary(found: dict[str, list[Any]]) -> dict[str, Any]:
    """Compare the kinds: medians over the rounds, of times and of ratios within a round."""
    step = {kind: [each["step"] for each in rounds] for kind, rounds in found.items()}

    def ratio(kind: str, other: str) -> float:
        return round(median(one / two for one, two in zip(step[kind], step.get(other, ()), strict=False)), 3)

    with suppress(StatisticsError):  # in the first round, the other one is not there yet
        return {
            "device": found["plain"][0]["device"],
            "rounds": len(step[list(step)[-1]]),
            "ms a step": {kind: round(median(times), 2) for kind, times in step.items()},
            "from to": {kind: (min(times), max(times)) for kind, times in step.items()},
            "throughput of plain": {kind: ratio("plain", kind) for kind in step if kind != "plain"},
            "times bare": {kind: ratio(kind, "bare") for kind in step if kind not in ("plain", "lightning", "bare")},
            "first steps (ms)": {kind: rounds[-1]["first steps"] for kind, rounds in found.items()},
            "details": found,
        }
    return {}


WITHOUT = {"bare": ("trace", "resume"), "trace": ("resume",), "checkpoints": ("trace",), "samebits": ()}


def main() -> None:
    """Measure the kinds in their order."""
    path, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.use_deterministic_algorithms(True)  # what the environment has to say is set by who calls
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(1)
    found: dict[str, list[Any]] = {}
    kinds = settings["kinds"]
    turns = [kind for number in range(settings["rounds"]) for kind in kinds[:: -1 if number % 2 else 1]]
    for number, kind in enumerate(turns):
        words = [*sys.argv[3:], f"samebits.models=runs-{number}", "snapshot=false"]
        words += [f"++callbacks.{name}=null" for name in WITHOUT.get(kind, ())]
        CLOCKS.append(Clock(settings["first"], settings["last"], settings["save"]))
        cfg = samebits.compose(words)
        for name, value in cfg.determinism.env.items():
            if value is None:  # else samebits would refuse to train in a process that has loaded PyTorch
                os.environ.pop(name, None)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        begun = time.perf_counter()
        with suppress(Done):
            if kind in WITHOUT:
                recorded(cfg)
            else:
                (lightning if kind == "lightning" else plain)(cfg, CLOCKS[-1])
        measured = CLOCKS[-1].found() | {"seconds": round(time.perf_counter() - begun, 1)}
        found.setdefault(kind, []).append(measured)
        path.write_text(json.dumps(summary(found)))
        CLOCKS.clear()  # which know the model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
