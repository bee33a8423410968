"""What a search is a function of, kept with its trials, so that one of other settings is not taken for it."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from optuna.distributions import distribution_to_json

from ..repro.inputs import HASHED
from ..repro.redact import redact
from .settings import Search

CHOICE = ("metric", "direction", "seed", "sampler", "pruner")


def describe(search: Search, inputs: dict[str, Any]) -> dict[str, Any]:
    """Describe a search: how it chooses, and what every training of it is a function of.

    Args:
        search: its settings.
        inputs: of the training with each varied setting at its first value, so that defaults of these do not matter.
    """
    options: Any = OmegaConf.to_container(search.options, resolve=True)
    chosen = {key: redact(options[key]) for key in CHOICE}
    space = {key: distribution_to_json(each.distribution) for key, each in search.space.items()}
    return {"search": {**chosen, "space": space}, **{key: inputs[key] for key in HASHED}}


def differing(stored: dict[str, Any], now: dict[str, Any]) -> str:
    """Name some of what differs between two descriptions."""
    mine, theirs = _flat(stored), _flat(now)
    names = sorted(name for name in mine | theirs if mine.get(name) != theirs.get(name))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, each in value.items():
        found |= _flat(each, f"{prefix}.{key}" if prefix else str(key))
    return found
