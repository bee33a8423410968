"""What has become of a trial in the storage."""

from __future__ import annotations

from optuna.trial import FrozenTrial


def is_open(trial: FrozenTrial) -> bool:
    """Whether a trial has no answer yet."""
    return not trial.state.is_finished()


def reason(trial: FrozenTrial) -> str:
    """Say why a trial's training failed; empty where it did not, or is being tried again."""
    return str(trial.user_attrs.get("reason", ""))


def failures(trial: FrozenTrial) -> int:
    """Count how often a trial's training failed."""
    return int(trial.user_attrs.get("failures", 0))
