"""Asking Optuna, on a copy of the study in memory: what to try, and whether to end a training.

Its samplers and pruners write down notes while they think. In a copy, a kill in between leaves nothing half done: what
they said is written to the storage in one piece, and whoever asks again with the same trials is told the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from .settings import Search


def copied(
    search: Search,
    trials: Sequence[FrozenTrial],
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
    notes: dict[str, Any] | None = None,
) -> tuple[optuna.Study, Callable[[], dict[str, Any]]]:
    """Make a study in memory.

    Args:
        search: its settings.
        trials: in the order of their numbers.
        sampler: to be asked.
        pruner: to be asked; samplers look at it, too.
        notes: of samplers, on the study as a whole.

    Returns:
        The study, and what reads these notes again.
    """
    storage = InMemoryStorage()
    direction = StudyDirection.MAXIMIZE if search.maximize else StudyDirection.MINIMIZE
    study = storage.create_new_study([direction], search.options.name)
    for key, value in (notes or {}).items():
        storage.set_study_system_attr(study, key, value)
    for trial in trials:
        storage.create_new_trial(study, template_trial=trial)
    loaded = optuna.load_study(
        study_name=search.options.name, storage=storage, sampler=sampler, pruner=pruner or NopPruner()
    )
    return loaded, lambda: storage.get_study_system_attrs(study)


def suggest(search: Search, trials: Sequence[FrozenTrial], notes: dict[str, Any]) -> tuple[FrozenTrial, dict[str, Any]]:
    """Choose the settings of the next trial: a function of the search's seed, the trial's number and the trials so far.

    Returns:
        A trial that runs, to be put into the storage, and the notes on the study that have changed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's remarks on what is experimental
        study, read_notes = copied(search, trials, search.sampler(len(trials)), search.pruner(), notes)
        distributions = {key: each.distribution for key, each in search.space.items()}
        asked = study.ask(fixed_distributions=distributions)
        found = study.trials[asked.number]
    trial = create_trial(
        state=TrialState.RUNNING,
        params={key: search.space[key].rounded(value) for key, value in found.params.items()},
        distributions=found.distributions,
        system_attrs=found.system_attrs,
    )
    new = {key: value for key, value in read_notes().items() if notes.get(key) != value}
    return trial, new


def decide(
    search: Search, trials: Sequence[FrozenTrial], trial: FrozenTrial, pruner: BasePruner
) -> tuple[bool, dict[str, Any]]:
    """Ask the pruner whether a trial is to end at the last of its intermediate values.

    Args:
        search: its settings.
        trials: all of the study.
        trial: as far as it has been looked at, in place of the one among `trials`.
        pruner: to be asked.

    Returns:
        The decision, and the notes on this trial.
    """
    seen = [trial if each.number == trial.number else each for each in trials]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study, _ = copied(search, seen, pruner=pruner)
        mine = study.trials[trial.number]
        ended = pruner.prune(study, mine)
        return ended, study.trials[trial.number].system_attrs
