"""Kill trainings at random instants, start them again, and compare what they end with.

`python -m tests.kills PROJECT --runs 100` works in a generated project that has been set up; `make soak` calls it.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

# Everything that could go wrong: several batches a step, several validations an epoch, early stopping, a schedule that
# watches the validation, sums and metrics of an epoch, a checkpoint callback of the user's.
TRAINING = (
    "model._target_=tests.busy.BusyClassifier",
    "data.module._target_=tests.busy.BusyDataModule",
    "run_name=busy",
    "trainer.max_epochs=8",
    "trainer.val_check_interval=0.2",
    "trainer.log_every_n_steps=1",
    "+trainer.accumulate_grad_batches=3",
    "model.optimizer.lr=0.02",
    "callbacks.resume.every_n_steps=3",
    "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/loss,patience:30}",
    "+callbacks.top={_target_:pytorch_lightning.callbacks.ModelCheckpoint,monitor:val/accuracy,mode:max,save_top_k:2,"
    "dirpath:'${paths.run}/top',filename:'{step}',enable_version_counter:false}",
)
RESULTS = ("model.safetensors", "metrics.json", "history.csv", "trace.jsonl")
PLENTY = 120  # seconds in which a training ends, or something hangs


@dataclass
class Outcome:
    """What became of one run."""

    workers: int
    kills: list[float] = field(default_factory=list)  # how much of the history had been written, 0 to 1
    in_write: int = 0  # kills that left a half-written checkpoint behind
    different: list[str] = field(default_factory=list)  # results that are not those of the run left alone


@dataclass
class Kills:
    """Trainings in one project, compared with one that is left alone."""

    project: Path
    folder: Path
    results: dict[str, bytes] = field(default_factory=dict)

    def start(self, name: str, workers: int) -> subprocess.Popen[str]:
        """Start a training in a folder of its own, by the command that a user would give."""
        words = [".venv/bin/python", "-m", "handwritten_digits.train", *TRAINING]
        words += [f"data.module.num_workers={workers}", f'paths.models="{self.folder / name}"']
        return subprocess.Popen(words, cwd=self.project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def directory(self, name: str) -> Path:
        """Find the run's directory."""
        return next((self.folder / name).glob("busy-*"))

    def alone(self) -> None:
        """Train once without a kill."""
        process = self.start("alone", workers=0)
        output, _ = process.communicate(timeout=PLENTY)
        assert process.returncode == 0, output
        self.results = {name: (self.directory("alone") / name).read_bytes() for name in RESULTS}

    def kill(self, process: subprocess.Popen[str], name: str, part: float, pause: float) -> bool:
        """Kill a training once it has written a part of its history, and `pause` seconds later; False if it had ended.

        A start that resumes first cuts the history back to its checkpoint, so it counts from its first change on.
        """

        def state() -> tuple[int, int]:
            found = list((self.folder / name).glob("busy-*/history.csv"))
            return (found[0].stat().st_mtime_ns, found[0].stat().st_size) if found else (0, 0)

        before, _ = state()
        wanted = part * len(self.results["history.csv"])
        while process.poll() is None:
            changed, size = state()
            if changed != before and size >= wanted:
                time.sleep(pause)
                break
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), output
        return process.returncode != 0

    def killed(self, number: int, seed: int, most: int) -> Outcome:
        """Kill a training, once or up to `most` times, each time farther on; let it end, and compare."""
        draw = random.Random(f"{seed}-{number}")
        outcome = Outcome(workers=2 * (number % 2))
        name = f"killed-{number}"
        for part in sorted(draw.uniform(0, 0.9) for _ in range(draw.randint(1, most))):
            if self.kill(self.start(name, outcome.workers), name, part, pause=draw.uniform(0, 0.05)):
                outcome.kills.append(part)
                outcome.in_write += bool(list((self.folder / name).glob("busy-*/checkpoints/*.new")))
        process = self.start(name, outcome.workers)
        output, _ = process.communicate(timeout=PLENTY)
        assert process.returncode == 0, output
        found = {result: (self.directory(name) / result).read_bytes() for result in RESULTS}
        outcome.different = [result for result in RESULTS if found[result] != self.results[result]]
        return outcome


def kill_runs(project: Path, runs: int, seed: int, folder: Path, jobs: int = 2, most: int = 3) -> list[Outcome]:
    """Kill `runs` trainings at instants that follow from `seed`; print a line for each."""
    kills = Kills(project, folder)
    kills.alone()
    print(f"seed {seed}", flush=True)
    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda number: kills.killed(number, seed, most), range(runs))
        for number, outcome in enumerate(found, start=1):
            said = f"DIFFERENT: {', '.join(outcome.different)}" if outcome.different else "identical"
            parts = ", ".join(f"{part:.0%}" for part in outcome.kills)
            print(f"{number:>4} workers {outcome.workers}, killed at {parts or 'NO TIME'}: {said}", flush=True)
            outcomes.append(outcome)
    total, in_write = sum(len(each.kills) for each in outcomes), sum(each.in_write for each in outcomes)
    identical = sum(not each.different for each in outcomes)
    print(
        f"{identical} of {runs} runs identical after {total} kills, {in_write} of them while a checkpoint was written"
    )
    return outcomes


def main() -> int:
    """Return 1 where a run ends differently, or was never killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__.split("\n")[0])
    parser.add_argument("project", type=Path, help="a generated project that has been set up")
    parser.add_argument("--runs", type=int, default=10, help="how many to kill (10)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the instants (random)")
    parser.add_argument("--jobs", type=int, default=2, help="at the same time (2)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = kill_runs(arguments.project.resolve(), arguments.runs, arguments.seed, Path(folder), arguments.jobs)
    return int(any(outcome.different or not outcome.kills for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
