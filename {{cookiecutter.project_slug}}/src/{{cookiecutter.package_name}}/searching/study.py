"""The study: the trials of a search in the storage, and whose they are.

A trial's number, settings and run are written in one piece when it begins. Who works on it holds the lock of a file in
this project's folder, which the system takes back from the dead: a trial that is not finished, and whose lock is free,
was cut off, and is taken over as it is. One whose training failed stays open in the same way, with its reason, for a
later start of the search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig
from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..config import PACKAGE, ROOT
from ..data.prepared import require_prepared
from ..errors import UserError
from ..repro.hashing import json_sha256
from ..repro.inputs import collect, settings_that_count
from ..repro.lock import only_process
from ..repro.redact import redact
from ..repro.run import Run, find_run
from ..sweeping.combinations import composed
from .description import describe, differing
from .memory import suggest
from .settings import Search
from .states import failures, is_open, reason
from .storage import folder_id, open_storage

DESCRIPTION = "settings"  # of the study's attributes: what it was begun with


@dataclass
class Claim:
    """A trial that this worker holds until `release`.

    Attributes:
        trial: as it was when it was taken.
        words: of its training.
        cfg: the settings that these make.
        run: the run that they lead to.
        lock: that is held.
    """

    trial: FrozenTrial
    words: list[str]
    cfg: DictConfig
    run: Run
    lock: ExitStack = field(default_factory=ExitStack)


class Study:
    """The trials of one search; several workers, threads of this process or others anywhere, may have it open.

    Args:
        search: its settings.

    Raises:
        UserError: the storage cannot be opened, or has a search of this name with other settings.
    """

    def __init__(self, search: Search) -> None:
        require_prepared(search.base)
        self.search = search
        self.inputs = self._collect()
        self.storage, self.turn = open_storage(search.options.storage)
        self.held: set[int] = set()  # by this process
        with self.turn():
            self.folder = folder_id(search.models)
            self.id = self._open(describe(search, self.inputs))
        self.failed_before = {each.number: failures(each) for each in self.trials() if reason(each)}

    def trials(self) -> list[FrozenTrial]:
        """Read all trials, in the order of their numbers."""
        return self.storage.get_all_trials(self.id, deepcopy=False)

    @property
    def ended(self) -> list[FrozenTrial]:
        """The trials that have an answer."""
        return [trial for trial in self.trials() if trial.state.is_finished()]

    def claim(self) -> Claim | None:
        """Take over a trial that was cut off, or begin the next one, or try a failed one again; None: nothing is left.

        Raises:
            UserError: code or data are not what they were when the search began.
        """
        with self.turn():
            trials = self.trials()
            ours = [trial for trial in trials if self._may_take(trial)]
            for trial in ours:
                if not reason(trial) and (claim := self._take_over(trial)):
                    return claim
            if len(trials) < self.search.options.trials:
                return self._begin(trials)
            for trial in ours:
                again = reason(trial) and failures(trial) == self.failed_before.get(trial.number)
                if again and (claim := self._take_over(trial)):
                    self.note(trial, reason="")
                    return claim
        return None

    def release(self, claim: Claim) -> None:
        """Let others take the trial, where it has no answer."""
        claim.lock.close()
        self.held.discard(claim.trial.number)

    def note(self, trial: FrozenTrial, **attributes: Any) -> None:
        """Write something down with a trial."""
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(trial._trial_id, key, value)

    def report(self, trial: FrozenTrial, step: int, value: float, notes: dict[str, Any]) -> None:
        """Write an intermediate value down, and what the pruner notes."""
        self.storage.set_trial_intermediate_value(trial._trial_id, step, value)
        for key, each in notes.items():
            self.storage.set_trial_system_attr(trial._trial_id, key, each)

    def finish(self, trial: FrozenTrial, value: float, weights: str) -> None:
        """Give a trial its value."""
        self.note(trial, weights=weights)
        self.storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [value])

    def prune(self, trial: FrozenTrial, value: float) -> None:
        """End a trial with what it had come to."""
        values = [value] if math.isfinite(value) else None
        self.storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED, values)

    def fail(self, trial: FrozenTrial, why: str) -> None:
        """Note that the training failed; the trial stays open."""
        self.note(trial, failures=failures(trial) + 1, reason=redact(why) or "it failed")

    def _open(self, description: dict[str, Any]) -> int:
        """Find or make the study."""
        name = self.search.options.name
        directions = [StudyDirection.MAXIMIZE if self.search.maximize else StudyDirection.MINIMIZE]
        try:
            study = self.storage.create_new_study(directions, name)
        except DuplicatedStudyError:
            study = self.storage.get_study_id_from_name(name)
            stored = self.storage.get_study_user_attrs(study).get(DESCRIPTION)
            if stored == description:
                return study
            trials = self.storage.get_all_trials(study, deepcopy=False)
            if stored is None and trials:
                raise UserError(
                    f"the study {name!r} was not made by make search: give search.name=<another>."
                ) from None
            if any(each.state.is_finished() for each in trials) or not self._all_left(trials):
                where = redact(self.search.options.storage)
                names = differing(stored or {}, description)
                raise UserError(
                    f"the search {name!r} in {where} was begun with other settings ({names}): give"
                    " search.name=<another> for a new one, or go back to these."
                ) from None
            self.storage.delete_study(study)  # nothing of it was answered yet
            study = self.storage.create_new_study(directions, name)
        self.storage.set_study_user_attr(study, DESCRIPTION, description)
        return study

    def _begin(self, trials: Sequence[FrozenTrial]) -> Claim:
        """Choose the settings of the next trial, and write it down in one piece."""
        if self._collect() != self.inputs:
            raise UserError(
                "code, packages or data were changed while the search ran, so no further trial is begun: go back to"
                " what they were, or begin another search by search.name=<another>."
            )
        notes: dict[str, Any] = {}
        for each in trials:
            notes |= each.user_attrs.get("notes", {})
        trial, new_notes = suggest(self.search, trials, notes)
        words = self.search.training(trial.params)
        cfg, run = self.run_of(words)
        trial.user_attrs = {
            "run": run.id,
            "words": redact(words),
            "folder": self.folder,
            "beside": [each.number for each in trials if is_open(each) and not reason(each)],
            "given": sorted(trial.system_attrs),  # notes of the sampler on it; others are the pruner's
            "notes": new_notes,  # of the sampler on the study
            "reason": "",
        }
        lock = self._lock(len(trials))
        assert lock, "nobody else can hold a trial that is not there yet"
        written = self.storage.create_new_trial(self.id, template_trial=trial)
        return Claim(self.storage.get_trial(written), words, cfg, run, lock)

    def _take_over(self, trial: FrozenTrial) -> Claim | None:
        """Hold a trial that is not finished; None where another worker does, or did until a moment ago."""
        if (lock := self._lock(trial.number)) is None:
            return None
        now = self.storage.get_trial(trial._trial_id)
        if now.state.is_finished() or failures(now) != failures(trial):
            lock.close()
            self.held.discard(trial.number)
            return None
        words = self.search.training(now.params)
        return Claim(now, words, *self.run_of(words), lock)

    def run_of(self, words: list[str]) -> tuple[DictConfig, Run]:
        """Find the run that words lead to, as `train` does; Hydra can compose for one thread at a time only."""
        cfg = composed(words)
        inputs = {**self.inputs, "config": settings_that_count(cfg)}
        return cfg, find_run(self.search.models, cfg.run_name, inputs, ROOT)

    def _collect(self) -> dict[str, Any]:
        base = self.search.base
        return collect(base, root=ROOT, package=PACKAGE, data=self.search.processed)

    def _may_take(self, trial: FrozenTrial) -> bool:
        folder = trial.user_attrs.get("folder")  # None for what others than we have put into the storage
        ours = folder == self.folder or (self.search.options.adopt and folder is not None)
        return is_open(trial) and ours and trial.number not in self.held

    def _all_left(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether nobody works on any of these."""
        for trial in trials:
            lock = self._lock(trial.number) if self._may_take(trial) else None
            if not lock:
                return False
            lock.close()
            self.held.discard(trial.number)
        return True

    def _lock(self, number: int) -> ExitStack | None:
        """Hold a trial; None where another worker does."""
        options = self.search.options
        name = f"search-{options.name}-{json_sha256(redact(options.storage))[:8]}-{number}"
        stack = ExitStack()
        try:
            stack.enter_context(only_process(self.search.models / ".locks" / name, self.search.models / name))
        except UserError:
            return None
        self.held.add(number)
        return stack
