"""Trainings in several processes: started, one of them killed, started again in another number of processes.

`python -m tests.process_kills --runs 10`; `make soak` calls it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .trainings import PLENTY, Trainings, prepare

# What shards have to put together: batch statistics, metrics, numbers that are logged, noise drawn in hooks
TRAINING = (
    "model._target_=tests.busy.Shared",
    "data.module._target_=tests.busy.BusyDataModule",
    "run_name=shared",
    "trainer.max_epochs=4",
    "trainer.limit_train_batches=20",
    "trainer.val_check_interval=0.5",
    "trainer.log_every_n_steps=1",
    "model.optimizer.lr=0.01",
    "callbacks.resume.every_n_steps=4",
    "+trainer.accumulate_grad_batches=2",
)
RESULTS = ("model.safetensors", "metrics.json", "history.csv", "trace.jsonl", "predictions.csv")


def trainings(workspace: Path, folder: Path) -> Trainings:
    """Prepare trainings in several processes."""
    return Trainings(workspace, folder, TRAINING, RESULTS)


def wait(trainings: Trainings, process: subprocess.Popen[str], name: str, size: int) -> None:
    """Wait until a training has written so many bytes of its history."""
    while process.poll() is None:
        found = trainings.find(name, "history.csv")
        if found and found[0].stat().st_size >= size:
            return
        time.sleep(0.002)


def members(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """Find the processes of a training by their rank."""
    found = {}
    for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        names = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found.update({int(name[5:]): int(pid) for name in names if name.startswith(b"RANK=")})
    return found


@dataclass
class Death:
    """What came of killing one process.

    Attributes:
        rank: of the one that was killed.
        world: processes then.
        afterwards: processes of the start that went on.
        said: what the training printed.
        status: its exit status.
        seconds: until all were gone.
        resumed: whether the next start went on from a checkpoint; it begins anew where the kill came before the first.
        different: results that are not those of one process left alone.
    """

    rank: int
    world: int
    afterwards: int
    said: str
    status: int
    seconds: float
    resumed: bool
    different: list[str]


def kill_one(trainings: Trainings, name: str, draw: random.Random) -> Death:
    """Kill one process of a training at a random step, and let the run go on in another number of processes.

    Args:
        trainings: of the project.
        name: of this one.
        draw: decides which process, when, and how many there are.
    """
    world, afterwards = draw.choice([2, 2, 4]), draw.choice([1, 1, 2, 4])
    process = trainings.start(name, "trainer=ddp", f"trainer.devices={world}", "determinism.shards=4")
    whole = len(trainings.results("alone")["history.csv"])
    wait(trainings, process, name, int(draw.uniform(0.02, 0.9) * whole))
    rank = draw.randrange(world)
    os.kill(members(process)[rank], signal.SIGKILL)
    begin = time.monotonic()
    said, _ = process.communicate(timeout=PLENTY)
    seconds = time.monotonic() - begin
    output = trainings.run(name, "trainer=ddp", f"trainer.devices={afterwards}", "determinism.shards=4")
    resumed = "going on from step" in output
    return Death(rank, world, afterwards, said, process.returncode, seconds, resumed, trainings.different(name))


def kill_runs(trainings: Trainings, runs: int, seed: int) -> list[Death]:
    """Do so with `runs` trainings, at instants that follow from `seed`; `alone` must have been trained."""
    draw = random.Random(seed)
    print(f"seed {seed}", flush=True)
    deaths = []
    for number in range(runs):
        death = kill_one(trainings, f"killed-{number}", draw)
        begun = "went on" if death.resumed else "began anew"
        said = f"DIFFERENT: {', '.join(death.different)}" if death.different else "identical"
        print(
            f"{number + 1:>4} process {death.rank} of {death.world} killed, all gone after {death.seconds:.1f} s,"
            f" {begun} in {death.afterwards}: {said}",
            flush=True,
        )
        deaths.append(death)
    return deaths


def main() -> int:
    """Return 1 where a run ends differently."""
    parser = argparse.ArgumentParser(prog="python -m tests.process_kills", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=10, help="how many to kill (10)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the instants (random)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = trainings(prepare(Path(folder) / "workspace"), Path(folder))
        made.run("alone", "determinism.shards=4")
        return int(any(death.different for death in kill_runs(made, arguments.runs, arguments.seed)))


if __name__ == "__main__":
    sys.exit(main())
