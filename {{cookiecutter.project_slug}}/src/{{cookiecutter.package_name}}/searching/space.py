"""What a search varies: from configs/search/ to Optuna's distributions, and from values to words for a training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ..config import quote
from ..errors import UserError

FIELDS = ("low", "high", "log", "step")
FORMS = "write {low: 1e-4, high: 1e-1, log: true}, {low: 16, high: 128, step: 16} or a list as [16, 32, 64]"
PLAIN = re.compile(r"[A-Za-z_][\w./-]*")  # texts that Hydra reads as they are
OTHERWISE_READ = ("true", "false", "null", "nan", "inf")  # but for these


@dataclass(frozen=True)
class Dimension:
    """One setting that varies.

    Attributes:
        distribution: Optuna's.
        written: whether its values are words already, as for choices that are lists.
    """

    distribution: BaseDistribution
    written: bool = False

    def word(self, key: str, value: Any) -> str:
        """Write a value as a word for a training."""
        return f"{key}={value if self.written else literal(value)}"

    def rounded(self, value: Any) -> Any:
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
    """Read `search.space`; sorted by name, since the order decides which random number a setting is given.

    Raises:
        UserError: a range or a list is none.
    """
    if not isinstance(raw, Mapping) or not raw:
        raise UserError("search.space varies nothing: name settings in configs/search/, each with its range or list.")
    return {key: _dimension(key, raw[key]) for key in sorted(map(str, raw))}


def literal(value: Any) -> str:
    """Write a value in the grammar of Hydra's command line, so that it is read back as it was."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(literal, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    plain = PLAIN.fullmatch(str(value)) and str(value).lower() not in OTHERWISE_READ
    return str(value) if plain else quote(str(value))


def words(space: Space, values: Mapping[str, Any]) -> list[str]:
    """Write values as the words of a training."""
    return [dimension.word(key, values[key]) for key, dimension in space.items()]


def variants(space: Space) -> list[dict[str, Any]]:
    """List values that try each sample of each setting, the others at their first."""
    first = {key: dimension.samples[0] for key, dimension in space.items()}
    others = [{**first, key: value} for key, each in space.items() for value in each.samples[1:]]
    return [first, *others]


def _dimension(key: str, raw: Any) -> Dimension:
    if isinstance(raw, list) and raw:
        if any(isinstance(each, list | Mapping) for each in raw):
            return Dimension(CategoricalDistribution([literal(each) for each in raw]), written=True)
        return Dimension(CategoricalDistribution(raw))
    if not isinstance(raw, Mapping) or not {"low", "high"} <= raw.keys() <= set(FIELDS):
        raise UserError(f"search.space: {key} is neither a range nor a list: {FORMS}.")
    return Dimension(_range(key, raw["low"], raw["high"], raw.get("log", False), raw.get("step")))


def _range(key: str, low: Any, high: Any, log: Any, step: Any) -> BaseDistribution:
    def wrong(what: str) -> UserError:
        return UserError(f"search.space: {key} {what}: mend it in configs/search/.")

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
