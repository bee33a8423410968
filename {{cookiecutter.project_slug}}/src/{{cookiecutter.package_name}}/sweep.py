"""Train several runs, some of them at once: `make sweep SEEDS=0..4`, or `python -m <package>.sweep seed=0,1,2`.

Every run is a process of its own, the same as `python -m <package>.train` with one value of each setting, on this
computer or on those of a cluster; so what is finished is skipped, what was cut off goes on, and one that fails does not
touch the others.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from .cli import is_of_cluster, run_with_arguments
from .config import ROOT
from .errors import UserError
from .sweeping.clusters import open_cluster
from .sweeping.combinations import combine, seeds
from .sweeping.jobs import Job, Jobs
from .sweeping.local import Local
from .sweeping.notes import LOGS
from .sweeping.plan import plan, require_one_cluster
from .sweeping.screen import Screen


def sweep(words: list[str], most: int | None = None) -> int:
    """Train every combination of the settings, and return the exit status: 0, or 1 where a run failed.

    Args:
        words: settings as for `train`; one with several values, as `seed=0,1,2` or `range(0,5)`, makes several runs;
            those of the group `cluster` say where.
        most: runs at once; None for as many as the cluster takes.

    Raises:
        UserError: a setting is wrong, data are missing, or the cluster is.
    """
    of_cluster = [word for word in words if is_of_cluster(word)]
    require_one_cluster(of_cluster)
    plans = plan(combine([word for word in words if word not in of_cluster]), of_cluster)
    cluster = open_cluster(plans[0].cfg)
    try:
        # What is finished is looked at here: there is nothing to be submitted
        places = [Local() if each.finished else cluster.place(each) for each in plans]
        logs = Path(plans[0].cfg.paths.root) / LOGS
        trainings = [each.training(logs) for each in plans]
        jobs = [
            Job(each.label, each.words, logs, place, training)
            for each, place, training in zip(plans, places, trainings, strict=True)
        ]
        for job in jobs:
            job.remember()
        all_jobs = Jobs(jobs, most or cluster.at_once(plans))
        Screen(all_jobs).follow(all_jobs.run, lambda: cluster.interrupted(jobs))
    finally:
        cluster.close()
    return summary(jobs)


def summary(jobs: list[Job]) -> int:
    """Say how many runs are finished, and which ones failed; return the exit status."""
    failed = [job for job in jobs if job.failed]
    runs = "1 run" if len(jobs) == 1 else f"{len(jobs)} runs"
    print(f"{len(jobs) - len(failed)} of {runs} finished.", end="\n" if failed else " ")
    for job in failed:
        print(f"FAILED  {job.label}: {job.reason} (the whole output is in {os.path.relpath(job.log)})", file=sys.stderr)
    if failed:
        print("What failed is tried again by the same command.", file=sys.stderr)
    else:
        print("`make report` shows them side by side.")
    return 1 if failed else 0


def main(arguments: argparse.Namespace) -> None:
    """Train, and leave with the exit status."""
    words = [*arguments.settings, *([seeds(arguments.seeds)] if arguments.seeds else [])]
    if all(is_of_cluster(word) for word in words):
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
        description="Train every combination of settings, here or on a cluster (cluster=slurm, cluster=ray); what is"
        " finished is skipped, what was cut off goes on.",
        epilog="Exit status: 0 all runs are finished, 1 a run failed, 2 a setting is wrong, 130 interrupted.",
    )
    described.add_argument("settings", nargs="*", help="as for train; several values make several runs: model=cnn,mlp")
    described.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)  # as typed to train
    described.add_argument("--seeds", metavar="0..4", help="a run for each seed: 0..4, or 1,5,7")
    described.add_argument("--jobs", metavar="N", help="runs at once (default: as many as cores)")
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
