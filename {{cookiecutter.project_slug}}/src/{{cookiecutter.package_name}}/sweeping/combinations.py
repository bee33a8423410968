"""From settings with several values to runs with one value each, by Hydra's own grammar."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ..cli import explain
from ..config import CONFIGS, ROOT, compose, quote
from ..errors import UserError


@dataclass(frozen=True)
class Combination:
    """The settings of one run: the words of its command, and those among them that tell it from the others."""

    words: list[str]
    label: str


def seeds(text: str) -> str:
    """Turn `0..4`, `1,5,7` or `0..4,10` into the setting that makes a run for each seed.

    Raises:
        UserError: it is not of this form.
    """
    found: list[int] = []
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"SEEDS={text} is not a list of seeds: write SEEDS=0..4, or SEEDS=1,5,7.")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return f"seed={','.join(map(str, dict.fromkeys(found)))}"


def composed(words: Sequence[str]) -> DictConfig:
    """Compose the settings of one run.

    Raises:
        UserError: a word is not a setting.
    """
    from hydra.errors import HydraException

    try:
        return compose(words)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


def combine(words: Sequence[str]) -> list[Combination]:
    """List the runs that the words ask for, in Hydra's order: the last setting varies fastest.

    Settings that a chosen config varies by itself (`hydra.sweeper.params`) are taken in, too.

    Raises:
        UserError: a word is not a setting.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
            parser = OverridesParser.create(GlobalHydra.instance().config_loader())

            def choices(word: str) -> list[str]:
                (override,) = parser.parse_overrides([word])
                if not override.is_sweep_override():
                    return [word]
                if not override.is_discrete_sweep():
                    raise UserError(f"{word} is a range without steps, for a search: list its values, or use range().")
                return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]

            axes = [choices(word) for word in words]
            names = [axis[0].partition("=")[0].lstrip("+~") for axis in axes]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise UserError(f"{twice} is given twice: leave one of the two out.")
            first = [f"paths.root={quote(str(ROOT))}", *(axis[0] for axis in axes)]
            config = hydra_compose("train", overrides=first, return_hydra_config=True)
            params = config.hydra.sweeper.get("params") or {}
            axes += [choices(f"{key}={value}") for key, value in params.items() if key not in names]
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    varied = [len(axis) > 1 for axis in axes]
    return [
        Combination(
            list(chosen),
            " ".join(word for word, each in zip(chosen, varied, strict=True) if each) or " ".join(chosen) or "main",
        )
        for chosen in itertools.product(*axes)
    ]
