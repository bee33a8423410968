"""Shards and processes: what they cost, and gain.

A step of a training without validation and trace, as the run's record has it: batches in four shards against whole
ones, then the four in two processes against one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .project import Project
from .rows import Row, take_turns

WIDE = ("model.network.channels=[256,256]", "model.network.hidden=512")
NETWORKS = {
    "1.1 M weights, batch 256": ("data.module.batch_size=256", *WIDE),
}
WHOLE, SHARDS, TWO = "whole batches", "4 shards", "4 shards in 2 processes"
WAYS = {WHOLE: (), SHARDS: ("determinism.shards=4",), TWO: ("determinism.shards=4", "trainer=ddp")}
STEPS = 50
TRAINING = (
    "trainer.max_epochs=10000",
    f"+trainer.max_steps={STEPS}",
    "+trainer.check_val_every_n_epoch=10000",
    "snapshot=false",
    "callbacks.trace=null",
    "callbacks.best=null",
)


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Compare."""

    def milliseconds(network: str, way: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            words = (*NETWORKS[network], *TRAINING, *WAYS[way], f'paths.models="{folder}"')
            project.run(project.interpreter, "-m", "handwritten_digits.train", *words)
            (record,) = Path(folder).glob("*/record.json")
            observed = json.loads(record.read_text())["observed"]
            return float(1000 * observed["wall_seconds"] / observed["steps"])

    for network in NETWORKS:
        found = take_turns(partial(milliseconds, network), tuple(WAYS), rounds, warm=False)
        for way, versus in ((SHARDS, WHOLE), (TWO, SHARDS)):
            yield Row(f"{network}: {way}", "ms", found[way], versus, found[versus])
