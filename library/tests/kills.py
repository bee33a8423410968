"""Kill trainings at random instants, start them again, and compare what they end with.

`python -m tests.kills --runs 100`; `make soak` calls it.
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

from .trainings import Trainings, prepare

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


@dataclass
class Outcome:
    """What became of one run."""

    workers: int
    kills: list[float] = field(default_factory=list)  # how much of the history had been written, 0 to 1
    in_write: int = 0  # kills that left a half-written checkpoint behind
    different: list[str] = field(default_factory=list)  # results that are not those of the run left alone


def trainings(workspace: Path, folder: Path) -> Trainings:
    """Train once without a kill, as `alone`, to compare with."""
    made = Trainings(workspace, folder, TRAINING, RESULTS)
    made.run("alone")
    return made


def kill(all_of_them: Trainings, process: subprocess.Popen[str], name: str, part: float, pause: float) -> bool:
    """Kill a training once it has written a part of its history, and `pause` seconds later; False if it had ended.

    A start that resumes first cuts the history back to its checkpoint, so it counts from its first change on.
    """

    def state() -> tuple[int, int]:
        found = all_of_them.find(name, "history.csv")
        return (found[0].stat().st_mtime_ns, found[0].stat().st_size) if found else (0, 0)

    before, _ = state()
    wanted = part * len(all_of_them.results("alone")["history.csv"])
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


def killed(all_of_them: Trainings, number: int, seed: int, most: int) -> Outcome:
    """Kill a training, once or up to `most` times, each time farther on; let it end, and compare."""
    draw = random.Random(f"{seed}-{number}")
    outcome = Outcome(workers=2 * (number % 2))
    name, workers = f"killed-{number}", f"data.module.num_workers={outcome.workers}"
    for part in sorted(draw.uniform(0, 0.9) for _ in range(draw.randint(1, most))):
        if kill(all_of_them, all_of_them.start(name, workers), name, part, pause=draw.uniform(0, 0.05)):
            outcome.kills.append(part)
            outcome.in_write += bool(all_of_them.find(name, "checkpoints/*.new"))
    all_of_them.run(name, workers)
    outcome.different = all_of_them.different(name)
    return outcome


def kill_runs(workspace: Path, runs: int, seed: int, folder: Path, jobs: int = 2, most: int = 3) -> list[Outcome]:
    """Kill `runs` trainings at instants that follow from `seed`; print a line for each."""
    all_of_them = trainings(workspace, folder)
    print(f"seed {seed}", flush=True)
    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda number: killed(all_of_them, number, seed, most), range(runs))
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
    parser.add_argument("--runs", type=int, default=10, help="how many to kill (10)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the instants (random)")
    parser.add_argument("--jobs", type=int, default=2, help="at the same time (2)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = kill_runs(
            prepare(Path(folder) / "workspace"), arguments.runs, arguments.seed, Path(folder), arguments.jobs
        )
    return int(any(outcome.different or not outcome.kills for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
