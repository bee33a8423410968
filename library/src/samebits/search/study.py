"""The study: the trials of a search in a database, and whose they are.

A trial's number, settings and run are written in one piece when it begins. Who works on it holds the lock of a file in
this project's folder, which the system takes back from the dead: a trial that is not finished, and whose lock is free,
was cut off, and is taken over as it is. One whose training failed stays open in the same way, with its reason, for a
later start of the search.
"""

from __future__ import annotations

import math
import re
import sqlite3
import threading
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner, NopPruner
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from ..engine.errors import UserError
from ..engine.files import json_sha256, only_process, opened
from ..engine.inputs import HASHED, collect, require_prepared, settings_that_count
from ..engine.project import project
from ..engine.record import RunDirectory, find_run
from ..engine.secrets import redact
from ..sweep.plan import compose_run
from ..verify.provenance_diff import differing
from .results import Results, copy_study, failure_reason, read_results
from .search_config import Search, require_metric

CHOICE = ("metric", "direction", "seed", "sampler", "pruner")  # options that decide which trials there are
DESCRIPTION = "settings"  # of the study's attributes: what it was begun with


def failures(trial: FrozenTrial) -> int:
    """Count how often a trial's training failed."""
    return int(trial.user_attrs.get("failures", 0))


# --- the study


@dataclass
class Claim:
    """A trial that this worker holds until `Study.release`."""

    trial: FrozenTrial  # as it was when it was taken
    overrides: list[str]  # of its training
    cfg: DictConfig  # the settings that these make
    run: RunDirectory  # that they lead to
    lock: ExitStack  # that is held


class Study:
    """The trials of one search; several workers, threads of this process or others anywhere, may have it open.

    Making it is a UserError where the storage cannot be opened, or has a search of this name with other settings.
    """

    def __init__(self, search: Search) -> None:
        require_prepared(search.base)
        self.search = search
        # of the training with each varied setting at its first value, so that defaults of these do not matter
        self.inputs = collect(search.base)
        with storage_errors(search.options.storage):
            self.storage, self.exclusive = open_storage(search.options.storage)
            with self.exclusive():
                self.folder = folder_id(search.models)
                self.id = self._open()
        self.failed_before = {trial.number: failures(trial) for trial in self.trials() if failure_reason(trial)}

    def trials(self) -> list[FrozenTrial]:
        """Read all trials, in the order of their numbers."""
        return self.storage.get_all_trials(self.id, deepcopy=False)

    def results(self) -> Results:
        """Read what was found."""
        return read_results(self.search, self.trials())

    def claim(self) -> Claim | None:
        """Take over a trial that was cut off, begin the next one, or try a failed one again; None: nothing is left."""
        with self.exclusive():
            trials = self.trials()
            ours = [trial for trial in trials if self._may_take(trial)]
            for trial in ours:
                if not failure_reason(trial) and (claim := self._take_over(trial)):
                    return claim
            if len(trials) < self.search.options.trials:
                return self._begin(trials)
            for trial in ours:
                again = failure_reason(trial) and failures(trial) == self.failed_before.get(trial.number)
                if again and (claim := self._take_over(trial)):
                    self._note(trial, reason="")
                    return claim
        return None

    def release(self, claim: Claim) -> None:
        """Let others take the trial, where it is not finished."""
        claim.lock.close()

    def report(self, trial: FrozenTrial, step: int, value: float, notes: dict[str, Any]) -> None:
        """Write an intermediate value down, and the pruner's notes."""
        self.storage.set_trial_intermediate_value(trial._trial_id, step, value)
        for key, note in notes.items():
            self.storage.set_trial_system_attr(trial._trial_id, key, note)

    def should_prune(self, trial: FrozenTrial, pruner: BasePruner) -> tuple[bool, dict[str, Any]]:
        """Ask the pruner whether a trial is to end at the last of its intermediate values; return also its notes.

        Args:
            trial: takes the place of the one with its number.
            pruner: of the search.
        """
        if isinstance(pruner, NopPruner):
            return False, trial.system_attrs
        trials = [trial if stored.number == trial.number else stored for stored in self.trials()]
        with warnings.catch_warnings(action="ignore"):  # Optuna's remarks on what is experimental
            study = copy_study(self.search, trials, pruner=pruner)
            ended = pruner.prune(study, study.trials[trial.number])
            return ended, study.trials[trial.number].system_attrs

    def finish(self, trial: FrozenTrial, value: float, weights: str) -> None:
        """Give a trial its value."""
        self._note(trial, weights=weights)
        self.storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [value])

    def finish_trained(self, claim: Claim) -> None:
        """Give a trial the value of its run; a UserError where that has no such metric, or another run was trained."""
        if not claim.run.finished:
            raise UserError(f"code or data were changed while {claim.run.id} was begun: start the same command again.")
        metric, metrics = self.search.options.metric, claim.run.metrics
        require_metric(metric, list(metrics))
        self.finish(claim.trial, float(metrics[metric]), claim.run.weights_digest)

    def prune(self, trial: FrozenTrial, value: float) -> None:
        """End a trial at the last of its intermediate values."""
        values = [value] if math.isfinite(value) else None
        self.storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED, values)

    def fail(self, trial: FrozenTrial, reason: str) -> None:
        """Note that the training failed; the trial stays open."""
        self._note(trial, failures=failures(trial) + 1, reason=redact(reason) or "it failed")

    def run_of(self, overrides: list[str]) -> tuple[DictConfig, RunDirectory]:
        """Find the run that overrides lead to, as `train` does; Hydra can compose for one thread at a time only."""
        cfg = compose_run(overrides)
        inputs = {**self.inputs, "config": settings_that_count(cfg)}
        return cfg, find_run(self.search.models, cfg.run_name, inputs, project().root)

    def _note(self, trial: FrozenTrial, **attributes: Any) -> None:
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(trial._trial_id, key, value)

    def _open(self) -> int:
        """Find the study, or make it."""
        name, directions = self.search.options.name, [StudyDirection[self.search.options.direction.upper()]]
        description = describe(self.search, self.inputs)
        try:
            study = self.storage.create_new_study(directions, name)
        except optuna.exceptions.DuplicatedStudyError:
            study = self.storage.get_study_id_from_name(name)
            stored = self.storage.get_study_user_attrs(study).get(DESCRIPTION)
            if stored == description:
                return study
            trials = self.storage.get_all_trials(study, deepcopy=False)
            if stored is None and trials:
                raise UserError(
                    f"the study {name!r} was not made by make search: give search.name=<another>."
                ) from None
            if any(trial.state.is_finished() for trial in trials) or not all(map(self._is_left, trials)):
                names = sorted(key for key, _, _ in differing(stored or {}, description))
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                raise UserError(
                    f"the search {name!r} in {redact(self.search.options.storage)} was begun with other settings"
                    f" ({', '.join(names[:3])}{more}): give search.name=<another> for a new one, or go back to these."
                ) from None
            self.storage.delete_study(study)  # none of its trials was finished yet
            study = self.storage.create_new_study(directions, name)
        self.storage.set_study_user_attr(study, DESCRIPTION, description)
        return study

    def _begin(self, trials: Sequence[FrozenTrial]) -> Claim:
        """Choose the settings of the next trial, by the search's seed and the trials so far; write it in one piece."""
        if collect(self.search.base) != self.inputs:
            raise UserError(
                "code, packages or data were changed while the search ran, so no further trial is begun: go back to"
                " what they were, or begin another search by search.name=<another>."
            )
        search = self.search
        notes: dict[str, Any] = {}
        for stored in trials:
            notes |= stored.user_attrs.get("notes", {})
        with warnings.catch_warnings(action="ignore"):
            study = copy_study(search, trials, notes, sampler=search.sampler(len(trials)), pruner=search.pruner())
            study.ask(fixed_distributions={key: dimension.distribution for key, dimension in search.space.items()})
        asked = study.trials[-1]
        new_notes = study._storage.get_study_system_attrs(study._study_id)
        params = {key: search.space[key].round(value) for key, value in asked.params.items()}
        overrides = search.training(params)
        cfg, run = self.run_of(overrides)
        attributes = {
            "run": run.id,
            "overrides": redact(overrides),
            "folder": self.folder,
            "beside": [other.number for other in trials if not other.state.is_finished() and not failure_reason(other)],
            "given": sorted(asked.system_attrs),  # the sampler's notes on it; others are the pruner's
            "notes": {key: value for key, value in new_notes.items() if notes.get(key) != value},  # on the study
            "reason": "",
        }
        trial = create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=asked.distributions,
            user_attrs=attributes,
            system_attrs=asked.system_attrs,
        )
        lock = self._lock(len(trials))
        assert lock, "nobody else can hold a trial that is not there yet"
        written = self.storage.create_new_trial(self.id, template_trial=trial)
        return Claim(self.storage.get_trial(written), overrides, cfg, run, lock)

    def _take_over(self, trial: FrozenTrial) -> Claim | None:
        """Hold a trial that is not finished; None where another worker does, or did until a moment ago."""
        if (lock := self._lock(trial.number)) is None:
            return None
        now = self.storage.get_trial(trial._trial_id)
        if now.state.is_finished() or failures(now) != failures(trial):
            lock.close()
            return None
        overrides = self.search.training(now.params)
        return Claim(now, overrides, *self.run_of(overrides), lock)

    def _may_take(self, trial: FrozenTrial) -> bool:
        folder = trial.user_attrs.get("folder")  # None where another program has put it into the storage
        ours = folder == self.folder or (self.search.options.adopt and folder is not None)
        return not trial.state.is_finished() and ours

    def _is_left(self, trial: FrozenTrial) -> bool:
        """Whether nobody works on a trial."""
        lock = self._lock(trial.number) if self._may_take(trial) else None
        if lock:
            lock.close()
        return lock is not None

    def _lock(self, number: int) -> ExitStack | None:
        """Hold a trial; None where another worker does."""
        options = self.search.options
        name = f"search-{options.name}-{json_sha256(redact(options.storage))[:8]}-{number}"
        lock = ExitStack()
        with suppress(UserError):
            lock.enter_context(only_process(self.search.models / ".locks" / name, self.search.models / name))
            return lock
        return None


def describe(search: Search, inputs: dict[str, Any]) -> dict[str, Any]:
    """Describe a search: how it chooses, and the inputs of its trainings; another search needs another name."""
    options: Any = OmegaConf.to_container(search.options, resolve=True)
    space = {key: distribution_to_json(dimension.distribution) for key, dimension in search.space.items()}
    chosen = {"search": {**{key: redact(options[key]) for key in CHOICE}, "space": space}}
    return chosen | {key: inputs[key] for key in HASHED if key in inputs}


# --- the database

UNAVAILABLE = (optuna.exceptions.OptunaError, SQLAlchemyError)  # what may be wrong with a database, at any time
PATIENCE = 60  # seconds for another process to finish writing
DATABASES = ("sqlite", "postgresql", "mysql")  # those whose locks let one worker after the other choose
Exclusive = Callable[[], AbstractContextManager[Any]]


def open_storage(address: str) -> tuple[BaseStorage, Exclusive]:
    """Open the database of an address, or raise a UserError.

    Returns:
        Optuna's storage, and what makes a context in which no other worker, here or elsewhere, is in such a one.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    setting = f"search.storage is {redact(address)}"
    try:
        url = make_url(address)
        kind = url.get_backend_name()
        if kind not in DATABASES:
            raise UserError(f"{setting}, but may be of {', '.join(DATABASES)} only: choose one of these.")
        if kind == "sqlite" and url.database in (None, "", ":memory:"):
            raise UserError(f"{setting}, which names no file: write sqlite:///models/search.db.")
        if kind == "sqlite":
            if Path(str(url.database)).exists():
                opened(Path(str(url.database))).close()  # SQLite would read a device to its end
            more: dict[str, Any] = {"connect_args": {"timeout": PATIENCE}}
            exclusive: Exclusive = partial(_file_lock, Path(str(url.database)))
        else:
            more = {"pool_pre_ping": True}
            exclusive = partial(_database_lock, sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool), kind)
        with exclusive():  # tables are made once
            storage = RDBStorage(address, engine_kwargs=more)
            if kind == "sqlite":
                with storage.engine.connect() as connection:
                    if (found := connection.execute(sqlalchemy.text("PRAGMA quick_check(1)")).scalar()) != "ok":
                        raise sqlite3.DatabaseError(f"malformed: {found}")
            return get_storage(storage), exclusive
    except (ImportError, NoSuchModuleError) as error:
        raise UserError(
            f"{setting}, whose driver is not installed ({error}): the one for PostgreSQL comes by"
            " `make setup EXTRAS=mlflow`, as postgresql+psycopg2://..."
        ) from error
    except (OSError, ArgumentError, RuntimeError) as error:
        raise UserError(f"{setting}, which cannot be opened ({_why(error)}): see to address and server.") from None


# what SQLite says of a file of its own, and what mends it
MENDS = {
    "malformed|not a database|no such (table|column)|no column|decode|constraint": "is damaged: restore it, or move it"
    " away, and the same command begins the search anew, in which what is trained already counts as it is",
    "locked": "is in use by another program: close that, or wait until it has ended, then start this again",
    "readonly|unable to open|denied|Read-only": "may not be written: see whose it and its folder are (ls -ld)",
    "full|No space": "has no room: make some (df -h), then the same command goes on",
}


@contextmanager
def storage_errors(address: str) -> Iterator[None]:
    """Turn what may be wrong with a database, at any time, into a sentence that says what it is, and the way out."""
    try:
        yield
    except (*UNAVAILABLE, sqlite3.Error) as error:
        why, shown = _why(error), redact(address)
        mends = (mend for words, mend in MENDS.items() if shown.startswith("sqlite") and re.search(words, why))
        mend = next(mends, "does not answer: see to address and server, then the same command goes on")
        raise UserError(f"search.storage, {shown}, {mend} ({why}).") from None


def _why(error: BaseException) -> str:
    """Return in a few words what is wrong with a database, without passwords."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(redact(" ".join(str(error).split())))[:200]


def folder_id(models: Path) -> str:
    """Name a folder of runs: the same for all who share it, another one for a copy."""
    path = models / ".locks" / "folder"
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), path.open("x") as file:
        file.write(uuid.uuid4().hex)
    return f"{path.read_text()}-{path.stat().st_ino}"


def _file_lock(database: Path) -> AbstractContextManager[Any]:
    """Lock a file beside the database's; the system takes the lock back when a process ends."""
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{database}.lock", poll_interval=0.01)


_threads = threading.Lock()  # a lock of a database is its connection's


@contextmanager
def _database_lock(engine: sqlalchemy.Engine, kind: str) -> Iterator[None]:
    """Take a lock of the database's, which it takes back when a connection ends."""
    take, give = "SELECT pg_advisory_xact_lock(:name)", ""  # at the end of the transaction it is given back
    name: int | str = zlib.crc32(b"search")
    if kind == "mysql":
        take, give, name = f"SELECT GET_LOCK(:name, {60 * PATIENCE})", "SELECT RELEASE_LOCK(:name)", "search"
    with _threads, engine.begin() as connection:
        connection.execute(sqlalchemy.text(take), {"name": name})
        try:
            yield
        finally:
            if give:
                connection.execute(sqlalchemy.text(give), {"name": name})
