"""The settings of a search: words of the command line and configs/search/, all checked before anything is trained."""

from __future__ import annotations

import difflib
import inspect
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler

from ..build import build
from ..cli import counts
from ..config import check
from ..errors import UserError
from ..repro.hashing import json_sha256
from ..repro.record import METRICS
from ..sweeping.combinations import composed
from .space import Space, read_space, variants
from .space import words as words_of
from .words import apply_space, apply_whole, split

WHERE = "configs/search/"
NOT_OF_A_TRIAL = ("force", "publish", "search")  # words that make no sense for every training of a search


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda v: isinstance(v, str) and bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*", v)), "a word"),
    "trials": (lambda v: _whole(v, 1), "a whole number of at least 1"),
    "metric": (lambda v: isinstance(v, str), "the name of a metric, as val/loss"),
    "direction": (lambda v: v in ("minimize", "maximize"), "minimize or maximize"),
    "space": (lambda v: True, ""),  # read_space says more
    "seed": (lambda v: _whole(v, 0) and v < 2**32, "a whole number from 0 to 4294967295"),
    "sampler": (lambda v: isinstance(v, dict) and "_target_" in v, "a sampler: _target_: optuna.samplers.TPESampler"),
    "pruner": (lambda v: v is None or (isinstance(v, dict) and "_target_" in v), "null, or a pruner with its _target_"),
    "storage": (
        lambda v: isinstance(v, str) and "://" in v,
        "the address of a database, as sqlite:///models/search.db",
    ),
    "adopt": (lambda v: isinstance(v, bool), "true or false"),
}


@dataclass(frozen=True)
class Search:
    """What is searched for, and how.

    Attributes:
        words: of every training, beside those that the space adds.
        cfg: the settings of the search, `search.sampler` and all.
        space: what varies.
        base: the settings of a training, each varied one at its first value.
    """

    words: list[str]
    cfg: DictConfig
    space: Space
    base: DictConfig

    @property
    def options(self) -> DictConfig:
        """What configs/search/ says: `options.trials` for example."""
        return self.cfg.search

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return bool(self.options.direction == "maximize")

    @property
    def models(self) -> Path:
        """The folder of all runs."""
        return Path(self.base.paths.models)

    @property
    def processed(self) -> Path:
        """The folder of the files that every run reads."""
        return Path(self.base.paths.processed)

    def training(self, values: dict[str, Any]) -> list[str]:
        """List the words of the training that tries these values."""
        return [*self.words, *words_of(self.space, values)]

    def sampler(self, number: int) -> BaseSampler:
        """Make the sampler of one trial, whose random numbers follow from the search's seed and the trial's number.

        Raises:
            UserError: there is no such sampler.
        """
        node = self.options.sampler
        arguments = {}
        if "seed" not in node and _takes(node, "seed"):
            arguments["seed"] = int(json_sha256([self.options.seed, number])[:8], 16)
        return self._made("sampler", BaseSampler, **arguments)

    def pruner(self) -> BasePruner:
        """Make the pruner.

        Raises:
            UserError: there is no such pruner.
        """
        return NopPruner() if self.options.pruner is None else self._made("pruner", BasePruner)

    def _made(self, key: str, kind: type, **arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            made = build(self.cfg, f"search.{key}", **arguments)
        if not isinstance(made, kind):
            target = self.options[key]["_target_"]
            raise UserError(f"search.{key} is {target}, which makes no {key} of Optuna: see optuna.{key}s.")
        return made


def read_search(words: Sequence[str]) -> Search:
    """Read the settings and check them all; nothing is written.

    Args:
        words: of the command line.

    Raises:
        UserError: says what is wrong.
    """
    sorted_words = split(words)
    training = sorted_words.training
    try:
        plain = composed(training)
    except UserError as error:
        what, several, _ = str(error).partition(" names several values")
        if several:
            raise UserError(
                f"{what}{several}, but all trainings share one: put what varies into search.space."
            ) from None
        raise
    cfg = composed([*training, *sorted_words.options])
    _require_ordinary(cfg, plain, training)
    apply_whole(cfg, sorted_words.whole)
    values = _checked(cfg)
    space = read_space(apply_space(values["space"], sorted_words.space))
    for key in space:
        _require_sensible(key, training)
    found = [words_of(space, each) for each in variants(space)]
    for each in found:
        try:
            check(composed([*training, *each]))
        except UserError as error:
            raise UserError(f"search.space with {' '.join(each)}: {error}") from None
    search = Search(training, cfg, space, composed([*training, *found[0]]))
    search.sampler(0), search.pruner()
    require_metric(search.options.metric, search.models)
    return search


def require_metric(name: str, models: Path) -> None:
    """Refuse a metric that finished runs do not have; where there is no run, the first trial will tell.

    Raises:
        UserError: names those that there are.
    """
    if name.startswith("test/"):
        raise UserError(
            f"search.metric is {name}, but what is chosen by the test data is no longer measured by them: choose by"
            " val/loss, for example."
        )
    known: dict[str, float] = {}
    for path in models.glob(f"*/{METRICS}"):
        known |= json.loads(path.read_text())
    if known and name not in known:
        raise UserError(unknown_metric(name, list(known)))


def unknown_metric(name: str, known: Sequence[str]) -> str:
    """Say that a run has no such metric."""
    choice = [each for each in known if not each.startswith("test/")]
    close = difflib.get_close_matches(name, choice, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"search.metric is {name!r}, which no run has{hint}: choose from {', '.join(choice)}."


def _require_ordinary(cfg: DictConfig, plain: DictConfig, training: Sequence[str]) -> None:
    """Refuse what would not be part of every trial's own words."""
    if "search" in plain:
        raise UserError("the search is chosen by search=<name> in make search ARGS=..., not in configs/train.yaml.")
    rest = {str(key): value for key, value in OmegaConf.to_container(cfg).items() if key != "search"}  # type: ignore[union-attr]
    if rest != OmegaConf.to_container(plain):
        raise UserError(f"a file in {WHERE} sets more than search: put settings of trainings into configs/experiment/.")
    for word in training:
        if word.lstrip("+~").partition("=")[0] in NOT_OF_A_TRIAL:
            raise UserError(f"{word} makes no sense for every training of a search: leave it out.")


def _checked(cfg: DictConfig) -> dict[str, Any]:
    """Read the settings of the search and check each by its rule."""
    values: Any = OmegaConf.to_container(cfg.search, resolve=True)
    strange, missing = sorted(values.keys() - RULES.keys()), sorted(RULES.keys() - values.keys())
    if strange:
        close = difflib.get_close_matches(str(strange[0]), RULES, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UserError(f"there is no setting search.{strange[0]}{hint}: there are {', '.join(RULES)}.")
    if missing:
        raise UserError(f"search.{missing[0]} is missing: add it in {WHERE}, as default.yaml has it.")
    for key, (accepts, wanted) in RULES.items():
        if not accepts(values[key]):
            raise UserError(f"search.{key} is {values[key]!r}, but must be {wanted}: mend it in {WHERE}.")
    return dict(values)


def _require_sensible(key: str, training: Sequence[str]) -> None:
    if key == "seed":
        raise UserError("search.space varies seed, but a lucky seed is no better setting: make sweep SEEDS=0..4.")
    if not counts(key):
        raise UserError(f"search.space varies {key}, which changes no result: leave it out.")
    if any(word.lstrip("+~").partition("=")[0] == key.lstrip("+") for word in training):
        raise UserError(f"{key} is given for all trainings, but search.space varies it: leave one of the two out.")


def _takes(node: DictConfig, argument: str) -> bool:
    """Whether a target has an argument of this name; where nothing is known of it, building says what is wrong."""
    try:
        return argument in inspect.signature(get_method(node["_target_"])).parameters
    except (ImportError, ValueError, TypeError):
        return False
