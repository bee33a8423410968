"""How far a training is, in lines that people and programs can read."""

from __future__ import annotations

import re

EVERY = "PROGRESS_SECONDS"  # environment variable: the least time between two lines
FORM = "epoch {epoch} of {epochs}, batch {batch} of {batches}: {metrics}"
LINE = re.compile(r"epoch (?P<epoch>\d+) of (?P<epochs>\d+), batch (?P<batch>\d+) of (?P<batches>\d+): (?P<metrics>.*)")


def part_done(line: re.Match[str]) -> float:
    """Say how much of a training is done, from 0 to 1, by a match of LINE."""
    epoch, epochs, batch, batches = (int(line[name]) for name in ("epoch", "epochs", "batch", "batches"))
    return (epoch - 1 + batch / max(1, batches)) / max(1, epochs)
