"""Train several runs, some of them at once: `make sweep SEEDS=0..4`, or `python -m <package>.sweep seed=0,1,2`.

Every run is a process of its own, the same as `python -m <package>.train` with one value of each setting; so what is
finished is skipped, what was cut off goes on, and one that fails does not touch the others.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys

from omegaconf import DictConfig

from .cli import run_with_arguments
from .config import ROOT, check, get
from .errors import UserError
from .repro.leaving import INTERRUPTED
from .sweeping.combinations import combine, composed, seeds
from .sweeping.jobs import Job, Jobs
from .sweeping.screen import Screen

LOGS = ROOT / ".cache" / "sweep"


def sweep(words: list[str], most: int | None = None) -> int:
    """Train every combination of the settings, and return the exit status: 0, or 1 where a run failed.

    Args:
        words: settings as for `train`; one with several values, as `seed=0,1,2` or `range(0,5)`, makes several runs.
        most: runs at once; None for as many as the processor has cores for.

    Raises:
        UserError: a setting is misspelt.
    """
    combinations = combine(words)
    settings = [composed(each.words) for each in combinations]
    for cfg in settings:  # before anything is trained
        check(cfg)
    jobs = Jobs([Job(each.label, each.words, LOGS) for each in combinations], most or cores(settings[0]))
    with Screen(jobs) as screen:
        for number in (signal.SIGTERM, signal.SIGHUP):  # asked to stop, or the terminal was closed
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
        try:
            jobs.run(screen.update)
        except (KeyboardInterrupt, SystemExit):
            screen.close()
            print("\nInterrupted: the same command goes on with what is missing.", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
    failed = [job for job in jobs.all if job.failed]
    runs = "1 run" if len(jobs.all) == 1 else f"{len(jobs.all)} runs"
    print(f"{len(jobs.all) - len(failed)} of {runs} finished.", end="\n" if failed else " ")
    for job in failed:
        print(f"FAILED  {job.label}: {job.reason} (the whole output is in {os.path.relpath(job.log)})", file=sys.stderr)
    if failed:
        print("What failed is tried again by the same command.", file=sys.stderr)
    else:
        print("`make report` shows them side by side.")
    return 1 if failed else 0


def cores(cfg: DictConfig) -> int:
    """Say how many runs fit the processor at once: its cores that are ours, by the threads of one run; one on a GPU."""
    threads = get(cfg, "determinism.threads")
    if threads is None or get(cfg, "trainer.accelerator") != "cpu":
        return 1
    workers = get(cfg, "data.module.num_workers") or 0
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, ours // (threads + workers))


def main(arguments: argparse.Namespace) -> None:
    """Train, and leave with the exit status."""
    words = [*arguments.settings, *([seeds(arguments.seeds)] if arguments.seeds else [])]
    if not words:
        raise UserError('there is nothing to vary: make sweep SEEDS=0..4, or make sweep ARGS="model=cnn,mlp".')
    os.chdir(ROOT)
    raise SystemExit(sweep(words, jobs_at_once(arguments.jobs)))


def jobs_at_once(text: str | None) -> int | None:
    """Read JOBS; None where it is not given.

    Raises:
        UserError: it is no number of runs.
    """
    if text is not None and not re.fullmatch("[1-9][0-9]*", text):
        raise UserError(f"JOBS={text} runs nothing: give a whole number of at least 1, or leave it out.")
    return int(text) if text else None


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        prog="python -m <package>.sweep",
        description="Train every combination of settings; what is finished is skipped, what was cut off goes on.",
        epilog="Exit status: 0 all runs are finished, 1 a run failed, 2 a setting is wrong, 130 interrupted.",
    )
    described.add_argument("settings", nargs="*", help="as for train; several values make several runs: model=cnn,mlp")
    described.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)  # as typed to train
    described.add_argument("--seeds", metavar="0..4", help="a run for each seed: 0..4, or 1,5,7")
    described.add_argument("--jobs", metavar="N", help="runs at once (default: as many as cores)")
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
