"""What shards cost, and what several processes gain, as ratios within one run.

`python bench/processes.py PROJECT` works in a generated project that has been set up. For each network two ways to
train take turns, each time as a command of its own; what is compared is the time of a step, as the run's record has it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from turns import medians, ratio, take_turns

NETWORKS = {
    "CNN, 0.04 M weights, batch 32": ("model=cnn", "data.module.batch_size=32"),
    "CNN, 1.1 M weights, batch 32": ("model.network.channels=[256,256]", "model.network.hidden=512"),
    "CNN, 1.1 M weights, batch 256": (
        "model.network.channels=[256,256]",
        "model.network.hidden=512",
        "data.module.batch_size=256",
    ),
}
ONE, SHARDS, TWO = "whole batches", "4 shards", "4 shards in 2 processes"
WAYS = {ONE: (), SHARDS: ("determinism.shards=4",), TWO: ("determinism.shards=4", "trainer=ddp")}
PAIRS = ((ONE, SHARDS), (SHARDS, TWO))
# A hundred steps of training and nothing else
TRAINING = ("trainer.max_epochs=10000", "+trainer.max_steps=100", "callbacks.trace=null", "snapshot=false")
TRAINING += ("+trainer.check_val_every_n_epoch=10000", "callbacks.best=null")


def milliseconds(project: Path, network: tuple[str, ...], way: str) -> float:
    """Measure a step."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*network, *TRAINING, *WAYS[way], f'paths.models="{folder}"']
        command = [".venv/bin/python", "-m", "handwritten_digits.train", *words]
        subprocess.run(command, cwd=project, stdout=subprocess.DEVNULL, check=True)
        (record,) = Path(folder).glob("*/record.json")
        observed = json.loads(record.read_text())["observed"]
        return float(1000 * observed["wall_seconds"] / observed["steps"])


def main() -> None:
    """Print a line for each network and pair."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("project", type=Path, help="a generated project that has been set up")
    parser.add_argument("--rounds", type=int, default=5, help="how often the two take turns (5)")
    arguments = parser.parse_args()
    for name, network in NETWORKS.items():
        for pair in PAIRS:
            measure = partial(milliseconds, arguments.project.resolve(), network)
            times = take_turns(measure, pair, arguments.rounds)
            first, second = medians(times)
            said = f"{pair[0]} {first:.1f} ms, {pair[1]} {second:.1f} ms: {ratio(times, digits=2)}"
            print(f"{name:<32}{said}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
