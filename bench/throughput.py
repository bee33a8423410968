"""Training: samples a second.

After the first epoch, each way in a process of its own. *Plain* is a loop of PyTorch alone with the same network,
batches, optimiser, determinism and care for memory, which keeps and says nothing: the limit. *Lightning* is its Trainer
with all its defaults (progress bar, summary, logger, a checkpoint each epoch), a data set that reads and augments
sample by sample, and metrics logged at each step. Ours has all of its defaults, among them larger batches for
validation; against the plain loop, which has no validation, it does without one, too. The instruction set and the
number of threads are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .project import Project
from .rows import Row, take_turns

NO_VALIDATION = "+trainer.check_val_every_n_epoch=100000"
SMALL, MEDIUM, LARGE = "0.04 M weights", "1.1 M weights", "10 M weights"
NETWORKS = {
    SMALL: ("trainer.max_epochs=40",),
    MEDIUM: ("trainer.max_epochs=5", "model.network.channels=[256,256]", "model.network.hidden=512"),
    LARGE: (
        "trainer.max_epochs=4",
        "trainer.limit_train_batches=8",
        "model.network.channels=[512,1024]",
        "model.network.hidden=1280",
    ),
}
GOALS = {SMALL: 0.75, MEDIUM: 0.95, LARGE: 0.95}
CLOSE = 0.9  # goals above it are closer to the limit than two processes doing the same are to each other: more rounds


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Compare with the plain loop at each size, and with Lightning at the smallest."""

    def measure(network: str, way: str) -> float:
        script, *more = way.split()
        return project.inside("throughput.py", script, *NETWORKS[network], *more)[0]

    for network, goal in GOALS.items():
        here = f"ours {NO_VALIDATION}"
        enough = rounds * (2 if goal > CLOSE else 1)
        found = take_turns(partial(measure, network), ("plain", here), enough, warm=network == SMALL)
        yield Row(network, "samples/s", found[here], "plain", found["plain"], least=goal)
    found = take_turns(partial(measure, SMALL), ("peers", "ours"), rounds, warm=False)
    yield Row(f"{SMALL}, validation each epoch", "samples/s", found["ours"], "Lightning", found["peers"], least=1.5)
