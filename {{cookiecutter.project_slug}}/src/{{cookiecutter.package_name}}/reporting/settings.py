"""configs/report.yaml: what the report shows, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..errors import UserError
from .experiments import Experiment

NAME = "configs/report.yaml"


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "metric": (lambda value: isinstance(value, str), "the name of a metric"),
    "metrics": (_texts, "a list of metrics, in brackets"),
    "curves": (_texts, "a list of metrics, in brackets"),
    "exclude": (_texts, "a list of patterns, in brackets"),
    "baseline": (lambda value: value is None or isinstance(value, str), "the name of an experiment, or null"),
    "classes": (lambda value: value is None or isinstance(value, list), "a list of names in brackets, or null"),
    "errors": (lambda value: type(value) is int and value >= 0, "a whole number of at least 0"),
}


def read_settings(path: Path, words: Sequence[str]) -> DictConfig:
    """Read the file, with changes from the command line.

    Raises:
        UserError: a setting is unknown, missing or of the wrong kind, or the file is damaged.
    """
    try:
        settings = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(list(words)))
        assert isinstance(settings, DictConfig)
        values: Any = OmegaConf.to_container(settings, resolve=True)
    except (YAMLError, OmegaConfBaseException, AssertionError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason}): mend it, or take it from Git.") from error
    unknown, missing = sorted(values.keys() - RULES.keys()), sorted(RULES.keys() - values.keys())
    if unknown or missing:
        wrong = f"does not know {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise UserError(f"{NAME} {wrong}: its settings are {', '.join(RULES)}.")
    for key, (accepts, wanted) in RULES.items():
        if not accepts(values[key]):
            raise UserError(f"{NAME}: {key} is {values[key]!r}, but must be {wanted}: mend that line.")
    return settings


def check_metrics(settings: DictConfig, experiments: Sequence[Experiment]) -> None:
    """Refuse metrics that no run has.

    Raises:
        UserError: names it, and those that there are.
    """
    first = experiments[0].first
    if settings.metric not in first.metrics:
        raise UserError(
            f"{NAME}: metric is {settings.metric!r}, which {first.id} does not have: choose from"
            f" {', '.join(first.metrics)}."
        )
    runs = [run for each in experiments for run in each.runs]
    there = {"metrics": {name for run in runs for name in run.metrics}}
    histories = {name for run in runs for name in run.curves}
    there |= {"curves": histories} if histories else {}  # where no history is here, there are no curves to choose from
    for key, known in there.items():
        strange = [name for name in settings[key] if name not in known]
        if strange:
            raise UserError(
                f"{NAME}: {key} has {strange[0]!r}, which no run has: choose from {', '.join(sorted(known))}."
            )


def find_baseline(experiments: Sequence[Experiment], name: str | None) -> Experiment:
    """Find the experiment that others are compared with: the named one, or the main run's.

    Raises:
        UserError: there is none of this name.
    """
    found = [each for each in experiments if name is None or each.name == name]
    if not found:
        names = ", ".join(repr(each.name) for each in experiments)
        raise UserError(f"{NAME}: baseline is {name!r}, but the experiments are {names}: choose one of them.")
    return found[0]
