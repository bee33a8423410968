"""What the trace and the record cost, as a ratio within one run.

`python bench/record.py PROJECT` works in a generated project that has been set up and has its data. For each network,
trainings with and without them take turns, each in a process of its own; imports are not counted. Where the machine is
not quiet, the ratio says little; the last column is the time that was spent in them, as a part of the rest.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from turns import medians, ratio, take_turns

NETWORKS = {
    "CNN, 0.04 M weights": ("trainer.max_epochs=40",),
    "CNN, 1.1 M weights": ("trainer.max_epochs=20", "model.network.channels=[256,256]", "model.network.hidden=512"),
    "CNN, 10 M weights": ("trainer.max_epochs=8", "model.network.channels=[512,1024]", "model.network.hidden=1280"),
    "MLP, 1.1 M weights": ("trainer.max_epochs=40", "model=mlp", "model.network.hidden=[1024,1024]"),
    "MLP, 10 M weights": ("trainer.max_epochs=10", "model=mlp", "model.network.hidden=[3072,3200]"),
}

# Runs in the project's own Python
TRAINING = """
import sys, time
from handwritten_digits.config import compose
from handwritten_digits.repro import determinism
on, *overrides = sys.argv[1:]
cfg = compose(overrides)
determinism.before_torch(cfg.determinism)
from handwritten_digits import recording, train, trainer
from handwritten_digits.repro.trace import Trace
if on == "without":
    cfg.callbacks.trace = None
    recording.begin_record = lambda run, cfg: run.directory.mkdir(parents=True)
    recording.finish_record = lambda *arguments: None
spent = 0.0
def counted(function):
    def count(*arguments, **named):
        global spent
        begin = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            spent += time.perf_counter() - begin
    return count
for name in [name for name in vars(Trace) if name.startswith("on_")]:
    setattr(Trace, name, counted(getattr(Trace, name)))
for name in ("begin_record", "finish_record"):
    setattr(recording, name, counted(getattr(recording, name)))
train.show = lambda *arguments: None
train.Run.metrics = {}
begin = time.perf_counter()
train.train(cfg)
print("seconds", time.perf_counter() - begin, spent)
"""


def seconds(project: Path, overrides: tuple[str, ...], shares: list[float], which: str) -> float:
    """Time a training; with trace and record, append the time spent in them to `shares`, as a part of the rest."""
    with tempfile.TemporaryDirectory() as folder:
        models = f'paths.models="{folder}"'
        words = [".venv/bin/python", "-c", TRAINING, which, *overrides, models, "trainer.enable_progress_bar=false"]
        done = subprocess.run(words, cwd=project, stdout=subprocess.PIPE, text=True, check=True)
    whole, spent = map(float, done.stdout.split()[-2:])
    if which == "with":
        shares.append(spent / (whole - spent))
    return whole


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("project", type=Path, help="a generated project that has been set up and has its data")
    parser.add_argument("--rounds", type=int, default=5, help="how often the two take turns (5)")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    arguments = parser.parse_args()
    print(f"{'a training, one thread':<24}{'without':>10}{'with':>10}   ratio (least to most)      counted")
    for name, overrides in NETWORKS.items():
        if arguments.only not in name:
            continue
        shares: list[float] = []
        measure = partial(seconds, arguments.project.resolve(), overrides, shares)
        times = take_turns(measure, ("without", "with"), arguments.rounds)
        off, on = medians(times)
        share = statistics.median(shares)
        print(f"{name:<24}{off:>8.1f} s{on:>8.1f} s   {ratio(times, digits=3)}   {share:+.1%}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
