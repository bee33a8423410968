"""The configuration: where it is, how to compose it without a command line, and what it must satisfy."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .errors import UserError

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parents[1]
CONFIGS = ROOT / "configs"

Rule = tuple[str, Callable[[Any], bool], str]


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# A key that the configuration does not have (another data set's, another model's) is checked only if it is REQUIRED.
REQUIRED = {"seed", "paths", "data", "data.module", "model", "trainer", "determinism"}
RULES: list[Rule] = [
    *((group, lambda v: isinstance(v, dict), "a group of settings") for group in sorted(REQUIRED - {"seed"})),
    ("seed", lambda v: _whole(v, 0) and v < 2**32, "a whole number from 0 to 4294967295"),
    ("trainer.max_epochs", lambda v: _whole(v, 1), "a whole number of at least 1"),
    ("trainer.devices", lambda v: _whole(v, 1) or isinstance(v, list), "a whole number of at least 1, or a list"),
    ("data.module.batch_size", lambda v: _whole(v, 1), "a whole number of at least 1"),
    ("data.module.num_workers", lambda v: _whole(v, 0), "a whole number of at least 0"),
    ("data.split.val", lambda v: _real(v) and 0 < v < 1, "a fraction between 0 and 1"),
    ("data.split.test", lambda v: _real(v) and 0 < v < 1, "a fraction between 0 and 1"),
    ("data.split.seed", lambda v: _whole(v, 0) and v < 2**32, "a whole number from 0 to 4294967295"),
    ("model.optimizer.lr", lambda v: _real(v) and v > 0, "a number above 0"),
    ("model.network.dropout", lambda v: _real(v) and 0 <= v < 1, "a number from 0 to below 1"),
    ("determinism.threads", lambda v: v is None or _whole(v, 1), "a whole number of at least 1, or null"),
    ("force", lambda v: isinstance(v, bool), "true or false"),
]


def check(cfg: DictConfig) -> None:
    """Refuse values that no run can work with, before anything is read, imported or written.

    Raises:
        UserError: names the key, its value and what would be accepted.
    """
    known = known_settings()
    for name in map(str, cfg):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(
                f"there is no setting {name!r}{hint}: declare a new one in configs/train.yaml;"
                " a file in configs/experiment/ starts with the line `# @package _global_`."
            )
    for key, accepts, wanted in RULES:
        value = get(cfg, key)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=False)
        if (value is not None or key in REQUIRED) and not accepts(value):
            raise UserError(f"{key} is {value!r}, but must be {wanted}: give it as {key}=<value>, or in configs/.")


def known_settings() -> set[str]:
    """List the names that a configuration may have at its top: those of configs/train.yaml, and its groups."""
    train = OmegaConf.load(CONFIGS / "train.yaml")
    assert isinstance(train, DictConfig)
    groups = {str(name) for entry in train.defaults if isinstance(entry, DictConfig) for name in entry if entry[name]}
    return {str(name) for name in train} - {"defaults"} | groups - {"hydra"}


def get(cfg: DictConfig, key: str) -> Any:
    """Read a dotted key; None where it is missing.

    Raises:
        UserError: the value refers to a key that does not exist.
    """
    try:
        return OmegaConf.select(cfg, key)
    except OmegaConfBaseException as error:
        raise UserError(f"{key} cannot be read from the configuration: {str(error).splitlines()[0]}.") from error


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration as the command line would: for notebooks and tests.

    Paths come out absolute, so that it works from any folder.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
        return hydra_compose("train", overrides=[f"paths.root={quote(str(ROOT))}", *overrides])


def quote(text: str) -> str:
    """Write `text` as one value of Hydra's command-line grammar, whatever characters it holds."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
