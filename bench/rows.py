"""What is measured: a value of each round, beside that of something else measured in the same round, and a goal."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Values = dict[str, list[float]]  # of each way to do a thing: one number a round


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: what was measured.
        unit: of the values.
        values: of each round.
        versus: what it was measured against; empty where the value by itself counts.
        reference: that one's values, of the same rounds.
        least: the goal: the median ratio, or the median value where there is no reference, is to be so much or more.
        most: likewise, or less.
    """

    name: str
    unit: str
    values: list[float]
    versus: str = ""
    reference: list[float] | None = None
    least: float | None = None
    most: float | None = None

    @property
    def ratios(self) -> list[float]:
        """The share of the reference, round by round: a machine's moods change it little."""
        return [a / b for a, b in zip(self.values, self.reference or [], strict=self.reference is not None)]

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None where there is none."""
        if self.least is None and self.most is None:
            return None
        found = statistics.median(self.ratios or self.values)
        return (self.least is None or found >= self.least) and (self.most is None or found <= self.most)

    def cells(self) -> list[str]:
        """Write it for a table: name, reference, value, ratio with its spread, goal, whether it was met."""
        against = f"{self.versus}: {number(statistics.median(self.reference))} {self.unit}" if self.reference else ""
        bounds = (("≥", self.least), ("≤", self.most))
        goal = " and ".join(f"{sign} {number(bound)}" for sign, bound in bounds if bound is not None)
        verdict = {None: "", True: "yes", False: "no"}[self.met]
        return [self.name, against, f"{spread(self.values)} {self.unit}", spread(self.ratios), goal, verdict]

    def described(self) -> dict[str, Any]:
        """Give all of it for results.json."""
        return {**asdict(self), "met": self.met}


def take_turns(measure: Callable[[str], float], ways: Sequence[str], rounds: int, warm: bool = True) -> Values:
    """Measure every way once in each round, after a round that does not count.

    Args:
        measure: does it in one way, and returns the value.
        ways: their names.
        rounds: that count.
        warm: whether there is one before, for caches to fill.
    """
    for way in ways if warm else ():
        measure(way)
    values: Values = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measured in values.items():
            measured.append(measure(way))
    return values


def spread(values: Sequence[float]) -> str:
    """Write median, least and most."""
    if not values:
        return ""
    middle, least, most = statistics.median(values), min(values), max(values)
    return number(middle) if least == most else f"{number(middle)} ({number(least)} to {number(most)})"


def number(value: float) -> str:
    """Write three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
