"""Composing the settings of many runs: Hydra reads the files once for each choice of them, not for each run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ..cli import explain
from ..config import CONFIGS, ROOT, quote
from ..errors import UserError


def composed_all(commands: Sequence[Sequence[str]]) -> list[DictConfig]:
    """Compose the settings of each command, as `config.compose` does.

    Words that choose a file (`model=mlp`) decide what is composed; all others change single values of that, in their
    order, which is how Hydra itself goes about it.

    Args:
        commands: the words of each.

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
            loader: Any = GlobalHydra.instance().config_loader()
            parser = OverridesParser.create(loader)
            parse = cache(lambda word: parser.parse_overrides([word])[0])
            is_group = cache(loader.repository.group_exists)
            chosen = cache(lambda choices: hydra_compose("train", overrides=list(choices)))

            def composed(words: Sequence[str]) -> DictConfig:
                overrides = [parse(word) for word in (f"paths.root={quote(str(ROOT))}", *words)]
                values = [each for each in overrides if not (each.is_hydra_override() or is_group(each.key_or_group))]
                choices = tuple(each.input_line for each in overrides if each not in values)
                cfg: DictConfig = chosen(choices).copy()
                loader._apply_overrides_to_config(values, cfg)
                return cfg

            return [composed(words) for words in commands]
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
