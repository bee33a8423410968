"""The verb `search`: find good settings, as configs/search/ says; `make search`.

Every trial is an ordinary run with a record: what is trained already is taken as it is, and what was cut off goes on.
With one worker, the same search makes the same trials, however often it was killed.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from ..engine.config import get
from ..engine.errors import UserError, require_packages
from ..engine.files import json_sha256
from ..engine.project import project
from ..engine.record import HISTORY, RESTORE
from ..sweep.jobs import RESUME_HINT, Job, JobStatus, LocalProcess
from ..sweep.plan import TrainingCommand, file_name
from ..sweep.sweep import LINE_SECONDS, JobPool, ProgressDisplay, describe, jobs_at_once

if TYPE_CHECKING:  # Optuna takes a while to load, and --help does not need it
    from .study import Claim, Study

LOGS = Path(".cache/search")  # in the project's folder
PACKAGES = ("optuna", "sqlalchemy", "sklearn", "matplotlib", "jinja2")  # of the extra `search`
LOOK_SECONDS = 0.3  # between two looks at a training
ASK_AGAIN = 15.0  # seconds after which a training that was asked to stop is asked again


def search(overrides: list[str], workers: int = 1) -> int:
    """Try settings until all trials are finished, and write the page; return the exit status: 0, or 1 if any failed.

    Args:
        overrides: those that begin with `search` are the search's, the others every training's.
        workers: trials at once.

    Raises:
        UserError: a setting is wrong, a package is missing, or the storage has a search of this name with others.
    """
    require_packages("search", *PACKAGES)
    from .search_config import read_search
    from .study import Study, storage_errors

    settings = read_search(overrides)
    with storage_errors(settings.options.storage):
        return follow(Study(settings), workers)


def follow(study: Study, workers: int) -> int:
    """Work on a search until all trials are finished, and write the page; return the exit status."""
    from ..report.documents import read_project
    from .results import conclusion, introduction, write_search_page, write_table

    metadata = read_project(project().root)
    root = Path(study.search.base.paths.root)

    def announce() -> None:
        with study.exclusive():
            write_table(root / "reports", study.results())

    pool = Workers(study, workers, root / LOGS, announce)
    print(introduction(study.results(), workers), flush=True)
    SearchDisplay(pool).follow(pool.run, lambda: RESUME_HINT)
    with study.exclusive():  # one page at a time, and the last one has all
        results = study.results()
        page = write_search_page(root, results, metadata)
    print(conclusion(results))
    print(f"{os.path.relpath(page)}: open it in a browser; beside it {page.stem}.csv, and figures in {page.stem}/")
    return 1 if results.count("failed") else 0


def main(arguments: argparse.Namespace) -> None:
    """Search, and leave with the exit status."""
    os.chdir(project().root)
    raise SystemExit(search(arguments.settings, jobs_at_once(arguments.jobs) or 1))


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    options = argparse.ArgumentParser(
        description="Search for good settings; every trial is a run, what is trained is not trained again.",
        epilog="Exit status: 0 all trials are finished, 1 a training failed, 2 a setting is wrong, 130 interrupted.",
    )
    options.add_argument(
        "settings", nargs="*", help="search=<name> search.trials=50: the search's; model=mlp: every training's"
    )
    options.add_argument("--jobs", metavar="N", help="workers (default: 1, with which the search is reproducible)")
    return options


# --- one training


def learning_curve(path: Path, metric: str, cfg: DictConfig) -> list[float]:
    """Read a metric's value at each validation from a history.csv, also while that grows: only whole lines count.

    What is measured after the training, of the weights that were kept, stands in the history, too, and is left out: it
    is logged one step after the last validation, or beyond the last epoch or step. So the values are the same whether
    they are read one by one or all at the end.
    """
    epochs, steps = int(cfg.trainer.max_epochs), get(cfg, "trainer.max_steps")
    unlimited = steps is None or steps < 0
    found, last = [], -2
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])):
            if row["metric"] == metric:
                step, epoch = int(row["step"]), int(float(row["epoch"] or 0))
                if epoch < epochs and (unlimited or step < steps) and step > last + 1:
                    found.append(float(row["value"]))
                    last = step
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}): {RESTORE.format(path)}") from error
    return found


class PruningWatch:
    """Follows the learning curve of one training, and asks the pruner after each validation, in their order.

    So the decision is a function of the values, and not of when they were read: a training that was over before anybody
    looked is pruned at the same validation as one that was watched.
    """

    def __init__(self, study: Study, claim: Claim) -> None:
        self.study, self.claim, self.trial = study, claim, claim.trial
        self.pruner = study.search.pruner()
        self.values: list[float] = []
        self.notes = {key: claim.trial.system_attrs[key] for key in claim.trial.user_attrs.get("given", [])}
        self.known = len(claim.trial.intermediate_values)  # validations that an earlier start has written down
        self.pruned = False

    def look(self) -> bool:
        """Read what is new; return whether the training is to end."""
        path = self.claim.run.directory / HISTORY
        for value in learning_curve(path, self.study.search.options.metric, self.claim.cfg)[len(self.values) :]:
            if self.pruned:
                break
            self.values.append(value)
            seen = copy.deepcopy(self.trial)  # as if nothing more were known, whatever an earlier start has written
            seen.intermediate_values = dict(enumerate(self.values))  # Optuna counts from 0
            seen.system_attrs = dict(self.notes)
            ended, self.notes = self.study.should_prune(seen, self.pruner)
            # an earlier start has gone on from those before its last: what others found since does not count there
            self.pruned = ended and len(self.values) >= self.known
            self.study.report(self.trial, len(self.values) - 1, value, self.notes)
        return self.pruned


# --- workers


class Workers(JobPool):
    """The workers of this process: each takes one trial after the other, and trains it in a process of its own.

    `announce` is called before a trial is trained, so that nobody takes its run for a result.
    """

    def __init__(self, study: Study, count: int, logs: Path, announce: Callable[[], None] = lambda: None) -> None:
        super().__init__([], count)
        self.study, self.logs, self.announce = study, logs, announce
        self.trials: dict[int, Job] = {}  # by their numbers, those that have ended, too

    def work(self) -> list[Callable[[], None]]:
        """List the workers."""
        return [self._work] * self.at_once

    def _work(self) -> None:
        while not self.stopped and (claim := self.study.claim()):
            try:
                self.announce()
                self._train(claim)
            finally:
                self.study.release(claim)

    def _train(self, claim: Claim) -> None:
        """Train, and write down how it ended; a trial that was interrupted stays open."""
        number, watch = claim.trial.number, PruningWatch(self.study, claim)
        label = f"trial {number}"
        name = file_name(label, json_sha256(claim.overrides)[:8])
        command = TrainingCommand(name, claim.overrides, self.logs / f"{name}.log")
        job = self.trials[number] = Job(label, command, LocalProcess())
        self.jobs.append(job)
        asked = float("-inf")
        with ThreadPoolExecutor(1) as pool:
            training = pool.submit(job.run, lambda: self.stopped or watch.pruned)
            try:
                while not wait([training], LOOK_SECONDS).done:
                    if watch.look() and not self.stopped and time.monotonic() - asked >= ASK_AGAIN:
                        asked = time.monotonic()
                        job.stop()
            except BaseException:
                job.stop()
                raise
        training.result()  # raises an error of ours
        if watch.look():  # at what came last
            self.study.prune(claim.trial, watch.values[-1])
        elif job.status is JobStatus.FAILED:
            self.study.fail(claim.trial, job.reason)
        elif job.status is JobStatus.FINISHED:
            self.study.finish_trained(claim)


# --- progress: a bar for each trial that is trained and one for all in a terminal, lines elsewhere


class SearchDisplay(ProgressDisplay):
    """Shows the trials of a search."""

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self.workers, self.study = workers, workers.study
        self.printed: dict[int, float] = {}  # when, by the trial's number
        self.over = {trial.number for trial in self.study.trials() if trial.state.is_finished()}  # at an earlier start
        if self.bars:
            self.all = self.bars.add_task("search", total=self.study.search.options.trials, message="")

    def update(self) -> None:
        """Show where the trials are."""
        ended = set()
        for number, job in list(self.workers.trials.items()):
            if number in self.over:
                continue
            if job.status is not JobStatus.RUNNING:
                ended.add(number)
            if self.bars:
                self.draw(self.bars, job)
            elif job.status is JobStatus.RUNNING:
                self._print_progress(number, job)
        if ended:
            self._conclude(ended)

    def _print_progress(self, number: int, job: Job) -> None:
        if number not in self.printed:
            print(f"{job.label}: {' '.join(job.overrides[len(self.study.search.overrides) :])}", flush=True)
        elif time.monotonic() - self.printed[number] >= LINE_SECONDS:
            print(f"{job.label}: {describe(job)}", flush=True)
        else:
            return
        self.printed[number] = time.monotonic()

    def _conclude(self, numbers: set[int]) -> None:
        """Show how trials ended, once it is written down."""
        results = self.study.results()
        for trial in results.trials:
            if trial.number not in numbers or trial.status == "open":
                continue
            self.over.add(trial.number)
            if self.bars:
                self.bars.console.print(results.outcome(trial), markup=False, highlight=False)
                self.bars.remove_task(self.tasks.pop(f"trial {trial.number}"))
            else:
                print(results.outcome(trial), flush=True)
        if self.bars:
            done = len(results.finished) + results.count("pruned")
            self.bars.update(self.all, completed=done, message=results.best_so_far)
