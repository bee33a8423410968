"""What is shown of a search: in a terminal a bar for each trial that runs and one for all, lines elsewhere."""

from __future__ import annotations

import time

from rich.progress import Progress, TaskID

from ..sweeping.jobs import Job, State
from ..sweeping.screen import SECONDS, Bars, said
from .results import Results, Trial, results
from .study import Study
from .worker import Workers


class Screen(Bars):
    """Shows the trials.

    Args:
        study: that is worked on.
        workers: that work on it.
    """

    def __init__(self, study: Study, workers: Workers) -> None:
        super().__init__()
        self.study, self.workers = study, workers
        self.told: dict[int, tuple[State, float]] = {}
        self.over: set[int] = {trial.number for trial in study.ended}  # what an earlier start has told
        self.tasks: dict[int, TaskID] = {}
        self.all: TaskID | None = None

    def begin(self, bars: Progress) -> None:
        """Draw a bar for all trials together."""
        self.all = bars.add_task("search", total=self.study.search.options.trials, said="")

    def update(self) -> None:
        """Show where the trials are."""
        for number, job in list(self.workers.jobs.items()):
            if self.bars:
                self._draw(number, job)
            elif job.state is State.RUNNING:
                self._tell(number, job)
        ended = {number for number, job in self.workers.jobs.items() if job.state is not State.RUNNING} - self.over
        if ended:
            self._conclude(ended)

    def _draw(self, number: int, job: Job) -> None:
        assert self.bars
        if number not in self.over and number not in self.tasks:
            self.tasks[number] = self.bars.add_task(f"trial {number}", total=1.0, said="")
        if number in self.tasks:
            self.bars.update(self.tasks[number], completed=job.done, said=said(job))

    def _tell(self, number: int, job: Job) -> None:
        state, when = self.told.get(number, (State.WAITING, 0.0))
        if state is not State.RUNNING:
            varied = job.words[len(self.study.search.words) :]
            self._print(f"trial {number}: {' '.join(varied)}")
        elif time.monotonic() - when < SECONDS:
            return
        else:
            self._print(f"trial {number}: {said(job)}")
        self.told[number] = (State.RUNNING, time.monotonic())

    def _conclude(self, numbers: set[int]) -> None:
        """Tell of the trials whose training has ended, once it is written down what became of them."""
        found = results(self.study.search, self.study.trials())
        for trial in found.trials:
            if trial.number in numbers and trial.state != "open":
                self.over.add(trial.number)
                self._print(outcome(trial, found))
                if self.bars and trial.number in self.tasks:
                    self.bars.remove_task(self.tasks.pop(trial.number))
        if self.bars and self.all is not None:
            self.bars.update(self.all, completed=len(found.finished) + found.count("pruned"), said=best_so_far(found))

    def _print(self, line: str) -> None:
        if self.bars:
            self.bars.console.print(line, markup=False, highlight=False)
        else:
            print(line, flush=True)


def outcome(trial: Trial, found: Results) -> str:
    """Say in one line what became of a trial."""
    metric = found.search.options.metric
    if trial.state == "failed":
        return f"trial {trial.number}: FAILED: {trial.reason}"
    value = "" if trial.value is None else f" {metric} {trial.value:.4f}"
    how = f"pruned after {trial.validations} validations at" if trial.state == "pruned" else "finished,"
    return f"trial {trial.number}: {how}{value}; {best_so_far(found)}"


def best_so_far(found: Results) -> str:
    """Name the best trial."""
    best = found.best
    return f"best: trial {best.number}, {found.search.options.metric} {best.value:.4f}" if best else "none finished yet"
