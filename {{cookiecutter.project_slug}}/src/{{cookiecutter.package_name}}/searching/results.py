"""What a search has found: its trials, as they are shown and written down."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from .settings import Search
from .states import reason


@dataclass(frozen=True)
class Trial:
    """One trial, for people.

    Attributes:
        number: from 0.
        state: `finished`, `pruned`, `failed`, or `open`: being trained, or cut off.
        value: of the metric; of a pruned trial, its last one; None where there is none.
        settings: that were tried, by name.
        words: of its training, those of the space alone.
        run: directory's name under models/.
        weights: sha256 of the finished run's weights.
        validations: that were looked at.
        reason: why it failed.
    """

    number: int
    state: str
    value: float | None
    settings: dict[str, Any]
    words: list[str]
    run: str
    weights: str = ""
    validations: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Results:
    """All trials of a search.

    Attributes:
        search: its settings.
        trials: by number.
        timing: whether workers took part at the same time, so that the choice of trials depended on timing.
        stored: the trials as Optuna has them.
    """

    search: Search
    trials: list[Trial]
    timing: bool
    stored: Sequence[FrozenTrial] = field(repr=False)

    @property
    def finished(self) -> list[Trial]:
        """The trials whose training came to its end."""
        return [trial for trial in self.trials if trial.state == "finished"]

    @property
    def best(self) -> Trial | None:
        """The best of them; of equals, the first."""
        sign = -1 if self.search.maximize else 1
        return min(self.finished, key=lambda each: (sign * (each.value or 0.0), each.number), default=None)

    def count(self, state: str) -> int:
        """Count the trials in a state."""
        return sum(trial.state == state for trial in self.trials)

    def command(self, trial: Trial, target: str = "train") -> str:
        """Say what trains with a trial's settings."""
        return f"make {target} ARGS={shlex.quote(' '.join([*self.search.words, *trial.words]))}"

    @property
    def said(self) -> str:
        """Count all, in words."""
        kinds = ("finished", "pruned", "failed", "open")
        counted = ", ".join(f"{self.count(kind)} {kind}" for kind in kinds if self.count(kind))
        return f"{len(self.trials)} of {self.search.options.trials} trials" + (f": {counted}" if counted else "")


def results(search: Search, trials: Sequence[FrozenTrial]) -> Results:
    """Read the trials of a study."""
    found = [_trial(search, each) for each in trials]
    timing = any(each.user_attrs.get("beside") for each in trials)
    return Results(search, found, timing, trials)


def _trial(search: Search, stored: FrozenTrial) -> Trial:
    states = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned"}
    seen = stored.intermediate_values
    value = seen[max(seen)] if seen and stored.state is TrialState.PRUNED else stored.value
    return Trial(
        stored.number,
        states.get(stored.state) or ("failed" if reason(stored) or stored.state is TrialState.FAIL else "open"),
        value,
        {key: stored.params[key] for key in search.space if key in stored.params},
        [each.word(key, stored.params[key]) for key, each in search.space.items() if key in stored.params],
        str(stored.user_attrs.get("run", "")),
        str(stored.user_attrs.get("weights", "")),
        len(seen),
        reason(stored),
    )
