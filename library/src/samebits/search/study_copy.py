"""A copy of a study in memory, in which Optuna is asked what to try, and whether to end a training.

Optuna's samplers and pruners write down notes while they choose. In a copy, a kill in between leaves nothing half done:
their answer is written to the storage in one piece, and the same trials lead to the same answer.
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

from .search_config import Search


def direction(search: Search) -> StudyDirection:
    """Return whether more is better, in Optuna's terms."""
    return StudyDirection.MAXIMIZE if search.maximize else StudyDirection.MINIMIZE


def copy_study(
    search: Search,
    trials: Sequence[FrozenTrial],
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
    notes: dict[str, Any] | None = None,
) -> tuple[optuna.Study, Callable[[], dict[str, Any]]]:
    """Make a study in memory, with the sampler's notes on it; return it and a function that reads these again."""
    storage, name = InMemoryStorage(), search.options.name
    study = storage.create_new_study([direction(search)], name)
    for key, value in (notes or {}).items():
        storage.set_study_system_attr(study, key, value)
    for trial in trials:
        storage.create_new_trial(study, template_trial=trial)
    loaded = optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner or NopPruner())
    return loaded, lambda: storage.get_study_system_attrs(study)


def suggest(search: Search, trials: Sequence[FrozenTrial], notes: dict[str, Any]) -> tuple[FrozenTrial, dict[str, Any]]:
    """Choose the settings of the next trial, as a function of the search's seed and the trials so far.

    Returns:
        A running trial for the storage, and those of the sampler's notes on the study that have changed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's remarks on what is experimental
        study, read_notes = copy_study(search, trials, search.sampler(len(trials)), search.pruner(), notes)
        asked = study.ask(fixed_distributions={key: each.distribution for key, each in search.space.items()})
        found = study.trials[asked.number]
    trial = create_trial(
        state=TrialState.RUNNING,
        params={key: search.space[key].round(value) for key, value in found.params.items()},
        distributions=found.distributions,
        system_attrs=found.system_attrs,
    )
    return trial, {key: value for key, value in read_notes().items() if notes.get(key) != value}


def should_prune(
    search: Search, trials: Sequence[FrozenTrial], trial: FrozenTrial, pruner: BasePruner
) -> tuple[bool, dict[str, Any]]:
    """Ask whether a trial, in the place of the one with its number, is to end at the last of its intermediate values.

    Returns:
        The decision, and the pruner's and sampler's notes on this trial.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study, _ = copy_study(
            search, [trial if each.number == trial.number else each for each in trials], pruner=pruner
        )
        ended = pruner.prune(study, study.trials[trial.number])
        return ended, study.trials[trial.number].system_attrs
