"""Means with their uncertainty, over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half: half the width of its interval; None with fewer than two values, which say nothing of the spread.
        count: of the values.
    """

    mean: float
    half: float | None
    count: int

    @property
    def low(self) -> float:
        """The interval's lower end; the mean where there is no interval."""
        return self.mean - (self.half or 0.0)

    @property
    def high(self) -> float:
        """The interval's upper end; the mean where there is no interval."""
        return self.mean + (self.half or 0.0)

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.half is not None and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        digits = decimals(self.half)
        mean = f"{self.mean:.{digits}f}".replace("-", "−")
        return mean + ("" if self.half is None else f" ± {self.half:.{digits}f}")


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean over all seeds from that of a few, with its 95 % interval after Student.

    With three to ten seeds its coverage is what it says, which the bootstrap's is not. Source: Student (1908), "The
    probable error of a mean", Biometrika 6.

    Args:
        values: one for each seed; at least one.
    """
    mean, count = math.fsum(values) / len(values), len(values)
    if count < 2:
        return Estimate(mean, None, count)
    from scipy.stats import t  # takes a second

    return Estimate(
        mean, float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * statistics.stdev(values) / math.sqrt(count), count
    )


def difference(one: dict[int, float], other: dict[int, float]) -> Estimate | None:
    """Estimate how much higher the values of the other are, paired by seed.

    Args:
        one: the value of each seed.
        other: the value of each seed.

    Returns:
        The mean of other − one over the seeds that both have; None where there is no such seed.
    """
    both = sorted(one.keys() & other.keys())
    return estimate([other[seed] - one[seed] for seed in both]) if both else None


def decimals(half: float | None) -> int:
    """Say how many decimals a number deserves: two digits of its uncertainty, or four."""
    return 4 if not half else min(6, max(0, 1 - math.floor(math.log10(half))))


def unpaired(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """Estimate how much higher the mean of the other is, where nothing pairs them: Welch's interval.

    Source: Welch (1947), "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34.

    Args:
        one: one value for each seed; at least one.
        other: the same, of the other.
    """
    mean = statistics.fmean(other) - statistics.fmean(one)
    if min(len(one), len(other)) < 2 or not statistics.pvariance(one) + statistics.pvariance(other):
        return Estimate(mean, None, min(len(one), len(other)))
    from scipy.stats import ttest_ind

    interval = ttest_ind(other, one, equal_var=False).confidence_interval(CONFIDENCE)
    return Estimate(mean, float(interval.high - interval.low) / 2, min(len(one), len(other)))
