"""Workers: each takes one trial after the other, trains it in a process of its own, and writes down what came of it."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial

from ..errors import UserError
from ..repro.record import HISTORY, METRICS
from ..sweeping.jobs import GRACE, Job, State
from .course import Course
from .memory import decide
from .settings import Search, unknown_metric
from .storage import UNAVAILABLE, why
from .study import Claim, Study

LOOK = 0.3  # seconds between two looks at a training
ASK_AGAIN = 15.0  # seconds after which a training that was asked to stop is asked again


class Watch:
    """Follows the course of one training, and asks the pruner after each validation, in their order.

    So the decision is a function of the values, and not of when they were read: a training that was over before anybody
    looked is pruned at the same validation as one that was watched.

    Args:
        study: with all trials.
        claim: the trial.
    """

    def __init__(self, study: Study, claim: Claim) -> None:
        self.study, self.trial = study, claim.trial
        self.pruner = study.search.pruner()
        self.course = Course(claim.run.directory / HISTORY, study.search.options.metric, claim.cfg)
        self.values: list[float] = []
        self.notes = {key: claim.trial.system_attrs[key] for key in claim.trial.user_attrs.get("given", [])}
        self.known = len(claim.trial.intermediate_values)  # validations that an earlier start has written down
        self.pruned = False

    def look(self) -> bool:
        """Read what is new; return whether the training is to end."""
        for value in self.course.values()[len(self.values) :]:
            if self.pruned:
                break
            self.values.append(value)
            if not isinstance(self.pruner, NopPruner):
                ended, self.notes = decide(self.study.search, self.study.trials(), self._seen(), self.pruner)
                # an earlier start has gone on from those before its last: what others found since does not count there
                self.pruned = ended and len(self.values) >= self.known
            self.study.report(self.trial, len(self.values) - 1, value, self.notes)  # Optuna counts from 0
        return self.pruned

    def _seen(self) -> FrozenTrial:
        """The trial as if nothing more were known, whatever an earlier start has written down."""
        seen = copy.deepcopy(self.trial)
        seen.intermediate_values = dict(enumerate(self.values))
        seen.system_attrs = dict(self.notes)
        return seen


class Workers:
    """All workers of this process.

    Args:
        study: that they work on.
        count: how many.
        logs: folder for what the trainings print.
        announce: called before a trial is trained, so that nobody takes its run for a result.
    """

    def __init__(self, study: Study, count: int, logs: Path, announce: Callable[[], None] = lambda: None) -> None:
        self.study, self.count, self.logs, self.announce = study, count, logs, announce
        self.jobs: dict[int, Job] = {}  # by the trial's number, those that have ended, too
        self.stopped = False
        self.error: BaseException | None = None

    def run(self, update: Callable[[], None]) -> None:
        """Work until nothing is left; `update` is called some times a second.

        Raises:
            UserError: there is no use in going on.
        """
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.count)]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                time.sleep(0.1)
                update()
        except BaseException:
            self.stopped = True  # the workers ask their trainings to save their state
            until = time.monotonic() + GRACE
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
            raise
        if isinstance(self.error, UNAVAILABLE):
            raise UserError(
                f"search.storage no longer answers ({why(self.error)}): see to it, then the same command goes on."
            ) from self.error
        if self.error:
            raise self.error

    def _work(self) -> None:
        try:
            while not self.stopped and (claim := self.study.claim()):
                try:
                    self.announce()
                    self._train(claim)
                finally:
                    self.study.release(claim)
        except BaseException as error:
            self.error = self.error or error
            self.stopped = True

    def _train(self, claim: Claim) -> None:
        number = claim.trial.number
        watch = Watch(self.study, claim)
        job = self.jobs[number] = Job(f"trial {number}", claim.words, self.logs)
        thread = threading.Thread(target=self._guarded, args=(job, watch), daemon=True)
        thread.start()
        asked = 0.0
        while thread.is_alive():
            thread.join(LOOK)
            if (watch.look() or self.stopped) and (not asked or time.monotonic() - asked >= ASK_AGAIN):
                asked = time.monotonic()
                job.stop()
        watch.look()  # at what came last
        self._conclude(claim, watch, job)

    def _guarded(self, job: Job, watch: Watch) -> None:
        try:
            job.run(lambda: self.stopped or watch.pruned)
        except BaseException as error:  # of ours, not of the training's
            self.error, self.stopped = self.error or error, True

    def _conclude(self, claim: Claim, watch: Watch, job: Job) -> None:
        """Write down what became of a training; one that was interrupted stays open."""
        if watch.pruned:
            self.study.prune(claim.trial, watch.values[-1])
        elif job.state is State.FAILED:
            self.study.fail(claim.trial, job.reason)
        elif job.state is State.FINISHED:
            self.study.finish(claim.trial, value_of(claim, self.study.search), claim.run.weights_digest)


def value_of(claim: Claim, search: Search) -> float:
    """Read the value of a trial from the metrics of its run.

    Raises:
        UserError: they have no such metric, or the training went to another run.
    """
    if not claim.run.finished:
        raise UserError(f"code or data were changed while {claim.run.id} was begun: start the same command again.")
    metrics = json.loads((claim.run.directory / METRICS).read_text())
    name = search.options.metric
    if name not in metrics:
        raise UserError(unknown_metric(name, list(metrics)))
    return float(metrics[name])
