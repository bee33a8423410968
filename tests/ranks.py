"""Trainings in several processes: started, one of them killed, started again in another number of processes.

`python -m tests.ranks PROJECT --runs 10` works in a generated project that has been set up; `make soak` calls it.
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
PLENTY = 180  # seconds in which a training ends, or something hangs


@dataclass
class Trainings:
    """Trainings of one project, each in a folder of its own."""

    project: Path
    folder: Path

    def words(self, name: str, *more: str) -> list[str]:
        """Return the arguments of `python -m handwritten_digits.train`."""
        return [*TRAINING, f'paths.models="{self.folder / name}"', *more]

    def start(self, name: str, *more: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start one as a user would, or by a launcher."""
        command = [*(launcher or (".venv/bin/python",)), "-m", "handwritten_digits.train", *self.words(name, *more)]
        environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
        return subprocess.Popen(
            command, cwd=self.project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, name: str, *more: str, launcher: tuple[str, ...] = (), status: int = 0) -> str:
        """Train, and return what was printed."""
        process = self.start(name, *more, launcher=launcher)
        output, _ = process.communicate(timeout=PLENTY)
        assert process.returncode == status, output
        return output

    def results(self, name: str) -> dict[str, bytes]:
        """Read all that has to be the same."""
        (run,) = (self.folder / name).glob("shared-*")
        return {each: (run / each).read_bytes() for each in RESULTS}

    def wait(self, process: subprocess.Popen[str], name: str, size: int) -> None:
        """Wait until the training has written so many bytes of its history."""
        while process.poll() is None:
            found = list((self.folder / name).glob("shared-*/history.csv"))
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


def kill_one(trainings: Trainings, name: str, alone: dict[str, bytes], draw: random.Random) -> Death:
    """Kill one process of a training at a random step, and let the run go on in another number of processes.

    Args:
        trainings: of the project.
        name: of this one.
        alone: results of one process left alone.
        draw: decides which process, when, and how many there are.
    """
    world, afterwards = draw.choice([2, 2, 4]), draw.choice([1, 1, 2, 4])
    process = trainings.start(name, "trainer=ddp", f"trainer.devices={world}", "determinism.shards=4")
    trainings.wait(process, name, int(draw.uniform(0.02, 0.9) * len(alone["history.csv"])))
    rank = draw.randrange(world)
    os.kill(members(process)[rank], signal.SIGKILL)
    begin = time.monotonic()
    said, _ = process.communicate(timeout=PLENTY)
    seconds = time.monotonic() - begin
    output = trainings.run(name, "trainer=ddp", f"trainer.devices={afterwards}", "determinism.shards=4")
    found = trainings.results(name)
    different = [each for each in RESULTS if found[each] != alone[each]]
    resumed = "going on from step" in output
    return Death(rank, world, afterwards, said, process.returncode, seconds, resumed, different)


def kill_runs(trainings: Trainings, runs: int, seed: int) -> list[Death]:
    """Do so with `runs` trainings, at instants that follow from `seed`; `alone` must have been trained."""
    alone, draw = trainings.results("alone"), random.Random(seed)
    print(f"seed {seed}", flush=True)
    deaths = []
    for number in range(runs):
        death = kill_one(trainings, f"killed-{number}", alone, draw)
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
    parser = argparse.ArgumentParser(prog="python -m tests.ranks", description=__doc__.split("\n")[0])
    parser.add_argument("project", type=Path, help="a generated project that has been set up")
    parser.add_argument("--runs", type=int, default=10, help="how many to kill (10)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the instants (random)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trainings = Trainings(arguments.project.resolve(), Path(folder))
        trainings.run("alone", "determinism.shards=4")
        return int(any(death.different for death in kill_runs(trainings, arguments.runs, arguments.seed)))


if __name__ == "__main__":
    sys.exit(main())
