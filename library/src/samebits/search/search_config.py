"""The settings of a search: what varies, how it is chosen; all checked before anything is trained.

They come from configs/search/ and from the overrides of the command line that begin with `search`; all other overrides
are for every training.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler

from ..engine.command_line import counts, explain, suggestion
from ..engine.config import check, instantiate, quote
from ..engine.errors import UserError
from ..engine.files import json_sha256
from ..engine.record import METRICS, RunDirectory
from ..sweep.plan import compose_run

FOLDER = "configs/search/"

# --- overrides: which are the search's

OF_SEARCH = re.compile(r"[+~]*search(?=[=.]|$)")
REPLACEMENT = re.compile(r"search\.(?P<key>space|sampler|pruner)=(?P<value>\{.*)", re.S)
OF_SPACE = re.compile(r"(?P<sign>[+~]*)search\.space\.(?P<key>[^=]+)(?:=(?P<value>.*))?", re.S)
NOT_FOR_TRIALS = ("force", "publish", "search")  # settings that make no sense for every training of a search


class Overrides(NamedTuple):
    """The overrides of one command."""

    options: list[str]  # for Hydra's group `search`
    replacements: list[str]  # of the whole space, sampler or pruner; Hydra would mix them with that in configs/search/
    space: list[str]  # that change `search.space`, where names hold dots, at which Hydra would look for groups
    training: list[str]  # for every training


def split_overrides(overrides: Sequence[str]) -> Overrides:
    """Sort overrides by what they are for; where none chooses a search, it is `default`."""
    found = Overrides([], [], [], [])
    for override in overrides:
        if REPLACEMENT.fullmatch(override):
            found.replacements.append(override)
        elif OF_SPACE.fullmatch(override):
            found.space.append(override)
        else:
            (found.options if OF_SEARCH.match(override) else found.training).append(override)
    if not any(override.startswith("search=") for override in found.options):
        found.options.insert(0, "search=default")
    return found


def change_space(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Change `search.space` as overrides say: a whole range or list, one field of a range, or ~ to remove a setting."""
    space = {str(key): value for key, value in (raw or {}).items()}
    for override in overrides:
        match = OF_SPACE.fullmatch(override)
        assert match
        key, _, field = match["key"].rpartition(".")
        if "~" in match["sign"]:
            if match["key"] not in space:
                raise UserError(f"{override}: search.space does not vary {match['key']}, but {', '.join(space)}.")
            del space[match["key"]]
        elif match["value"] is None:
            raise UserError(f"{override} is not of the form search.space.<setting>=<range or list>.")
        elif field in FIELDS and isinstance(space.get(key), Mapping):
            space[key] = {**space[key], field: parse_value(override, match["value"])}
        else:
            space[match["key"]] = parse_value(override, match["value"])
    return space


def parse_value(override: str, text: str) -> Any:
    """Read a value by Hydra's grammar; a UserError names the override."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        (parsed,) = OverridesParser.create().parse_overrides([f"x={text}"])
        return parsed.value()
    except HydraException as error:
        raise UserError(f"{override}: {explain(error)}") from error


# --- the space: from configs/search/ to Optuna's distributions, and from values to overrides of a training

FIELDS = ("low", "high", "log", "step")
FORMS = "write {low: 1e-4, high: 1e-1, log: true}, {low: 16, high: 128, step: 16} or a list as [16, 32, 64]"
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[a-z_][\w./-]*", re.I | re.A)  # texts that Hydra reads as they are


@dataclass(frozen=True)
class Dimension:
    """One setting that varies."""

    distribution: BaseDistribution  # Optuna's
    written: bool = False  # whether its values are in Hydra's grammar already, as for choices that are lists

    def round(self, value: Any) -> Any:
        """Round a chosen value to what people can read and cite: four digits, or the decimals of its step."""
        if not isinstance(self.distribution, FloatDistribution):
            return value
        digits = 4 if self.distribution.step is None else 12
        return min(max(float(f"{value:.{digits}g}"), self.distribution.low), self.distribution.high)

    @property
    def samples(self) -> list[Any]:
        """Values that stand for all others when settings are checked: every choice, or both ends."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        return list(dict.fromkeys([self.distribution.low, self.distribution.high]))


Space = dict[str, Dimension]


def read_space(raw: Any) -> Space:
    """Read `search.space`, sorted by name, since the order decides which random number a setting is given."""
    if not isinstance(raw, Mapping) or not raw:
        raise UserError(f"search.space varies nothing: name settings in {FOLDER}, each with its range or list.")
    return {key: _dimension(key, raw[key]) for key in sorted(map(str, raw))}


def to_hydra(value: Any) -> str:
    """Write a value in the grammar of Hydra's command line, so that it is read back as it was."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{to_hydra(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(to_hydra, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    return str(value) if PLAIN.fullmatch(str(value)) else quote(str(value))


def overrides_of(space: Space, values: Mapping[str, Any]) -> list[str]:
    """Write values, those that there are, as overrides of a training."""
    chosen = {key: dimension for key, dimension in space.items() if key in values}
    return [f"{key}={values[key] if each.written else to_hydra(values[key])}" for key, each in chosen.items()]


def _dimension(key: str, raw: Any) -> Dimension:
    if isinstance(raw, list) and raw:
        if any(isinstance(each, list | Mapping) for each in raw):
            return Dimension(CategoricalDistribution([to_hydra(each) for each in raw]), written=True)
        return Dimension(CategoricalDistribution(raw))
    if not isinstance(raw, Mapping) or not {"low", "high"} <= raw.keys() <= set(FIELDS):
        raise UserError(f"search.space: {key} is neither a range nor a list: {FORMS}.")
    return Dimension(_range(key, raw["low"], raw["high"], raw.get("log", False), raw.get("step")))


def _range(key: str, low: Any, high: Any, log: Any, step: Any) -> BaseDistribution:
    def wrong(what: str) -> UserError:
        return UserError(f"search.space: {key} {what}: mend it in {FOLDER}.")

    numbers = [low, high] if step is None else [low, high, step]
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in numbers):
        raise wrong("has a low, high or step that is no number")
    if not isinstance(log, bool):
        raise wrong(f"has log={log}, which is neither true nor false")
    if low > high:
        raise wrong(f"has low={low}, which is above high={high}")
    if log and low <= 0:
        raise wrong(f"has low={low}, but a logarithmic range begins above 0")
    if log and step is not None:
        raise wrong("has both log and step, which do not go together")
    if step is not None and (step <= 0 or (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step))):
        raise wrong(f"does not come from low={low} to high={high} in steps of {step}")
    if all(isinstance(each, int) for each in numbers):
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


# --- all settings

RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda v: isinstance(v, str) and bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*", v)), "a word"),
    "trials": (lambda v: type(v) is int and v >= 1, "a whole number of at least 1"),
    "metric": (lambda v: isinstance(v, str), "the name of a metric, as val/loss"),
    "direction": (lambda v: v in ("minimize", "maximize"), "minimize or maximize"),
    "space": (lambda v: True, ""),  # read_space says more
    "seed": (lambda v: type(v) is int and 0 <= v < 2**32, "a whole number from 0 to 4294967295"),
    "sampler": (lambda v: isinstance(v, dict) and "_target_" in v, "a sampler: _target_: optuna.samplers.TPESampler"),
    "pruner": (lambda v: v is None or (isinstance(v, dict) and "_target_" in v), "null, or a pruner with its _target_"),
    "storage": (lambda v: isinstance(v, str) and "://" in v, "a database's address, as sqlite:///models/search.db"),
    "adopt": (lambda v: isinstance(v, bool), "true or false"),
}


@dataclass(frozen=True)
class Search:
    """The settings of a search."""

    overrides: list[str]  # of every training, beside those of its trial
    cfg: DictConfig  # `search.sampler` and all
    space: Space  # what varies
    base: DictConfig  # the settings of a training, each varied one at its first value

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

    def training(self, values: dict[str, Any]) -> list[str]:
        """List the overrides of the training that tries these values."""
        return [*self.overrides, *overrides_of(self.space, values)]

    def sampler(self, number: int) -> BaseSampler:
        """Make the sampler of one trial, whose random numbers follow from the search's seed and the trial's number."""
        options, arguments = self.options.sampler, {}
        with suppress(ImportError, ValueError, TypeError):  # where nothing is known of it, making it says what is wrong
            if "seed" not in options and "seed" in inspect.signature(get_method(options["_target_"])).parameters:
                arguments["seed"] = int(json_sha256([self.options.seed, number])[:8], 16)
        return self._make("sampler", BaseSampler, **arguments)

    def pruner(self) -> BasePruner:
        """Make the pruner."""
        return NopPruner() if self.options.pruner is None else self._make("pruner", BasePruner)

    def _make(self, key: str, kind: type, **arguments: Any) -> Any:
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            made = instantiate(self.cfg, f"search.{key}", **arguments)
        if not isinstance(made, kind):
            target = self.options[key]["_target_"]
            raise UserError(f"search.{key} is {target}, which makes no {key} of Optuna: see optuna.{key}s.")
        return made


def read_search(overrides: Sequence[str]) -> Search:
    """Read the settings and check them all; a UserError names the one that is wrong. Nothing is written."""
    given = split_overrides(overrides)
    training = given.training
    try:
        plain = compose_run(training)
    except UserError as error:
        what, several, _ = str(error).partition(" names several values")
        if not several:
            raise
        raise UserError(f"{what}{several}, but all trainings share one: put what varies into search.space.") from None
    cfg = compose_run([*training, *given.options])
    _require_ordinary(cfg, plain, training)
    for override in given.replacements:
        match = REPLACEMENT.fullmatch(override)
        assert match
        value = parse_value(override, match["value"])
        OmegaConf.update(cfg, f"search.{match['key']}", value, merge=False, force_add=True)
    space = read_space(change_space(_check_options(cfg)["space"], given.space))
    for key in space:
        _require_sensible(key, training)
    first = {key: dimension.samples[0] for key, dimension in space.items()}
    others = [{**first, key: sample} for key, dimension in space.items() for sample in dimension.samples[1:]]
    for variant in [overrides_of(space, values) for values in (first, *others)]:
        try:
            check(compose_run([*training, *variant]))
        except UserError as error:
            raise UserError(f"search.space with {' '.join(variant)}: {error}") from None
    search = Search(training, cfg, space, compose_run([*training, *overrides_of(space, first)]))
    search.sampler(0), search.pruner()  # whether they can be made
    name = search.options.metric
    if name.startswith("test/"):
        raise UserError(
            f"search.metric is {name}, but what is chosen by the test data is no longer measured by them: choose by"
            " val/loss, for example."
        )
    known = [metric for path in search.models.glob(f"*/{METRICS}") for metric in RunDirectory(path.parent, {}).metrics]
    if known:  # where no run is finished, the first trial will tell
        require_metric(name, list(dict.fromkeys(known)))
    return search


def require_metric(name: str, known: Sequence[str]) -> None:
    """Refuse a metric that is not among those that runs have, by a UserError."""
    if name not in known:
        choice = [each for each in known if not each.startswith("test/")]
        hint = suggestion(name, choice)
        raise UserError(f"search.metric is {name!r}, which no run has{hint}: choose from {', '.join(choice)}.")


def _require_ordinary(cfg: DictConfig, plain: DictConfig, training: Sequence[str]) -> None:
    """Refuse what would not be part of every trial's own overrides."""
    if "search" in plain:
        raise UserError("the search is chosen by search=<name> in make search ARGS=..., not in configs/train.yaml.")
    rest = OmegaConf.masked_copy(cfg, [key for key in map(str, cfg) if key != "search"])
    if OmegaConf.to_container(rest) != OmegaConf.to_container(plain):
        raise UserError(
            f"a file in {FOLDER} sets more than search: put settings of trainings into configs/experiment/."
        )
    for override in training:
        if _key(override) in NOT_FOR_TRIALS:
            raise UserError(f"{override} makes no sense for every training of a search: leave it out.")


def _check_options(cfg: DictConfig) -> dict[str, Any]:
    """Read the settings of the search and check each by its rule."""
    values: Any = OmegaConf.to_container(cfg.search, resolve=True)
    for key in sorted(map(str, values.keys() - RULES.keys())):
        hint = suggestion(key, list(RULES))
        raise UserError(f"there is no setting search.{key}{hint}: there are {', '.join(RULES)}.")
    for key, (accepts, wanted) in RULES.items():
        if key not in values:
            raise UserError(f"search.{key} is missing: add it in {FOLDER}, as default.yaml has it.")
        if not accepts(values[key]):
            raise UserError(f"search.{key} is {values[key]!r}, but must be {wanted}: mend it in {FOLDER}.")
    return dict(values)


def _require_sensible(key: str, training: Sequence[str]) -> None:
    if key == "seed":
        raise UserError("search.space varies seed, but a lucky seed is no better setting: make sweep SEEDS=0..4.")
    if not counts(key):
        raise UserError(f"search.space varies {key}, which changes no result: leave it out.")
    if any(_key(override) == key.lstrip("+") for override in training):
        raise UserError(f"{key} is given for all trainings, but search.space varies it: leave one of the two out.")


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
