"""Two ways to do a thing, measured in turns: a ratio within one run, which a machine's moods change little."""

from __future__ import annotations

import statistics
from collections.abc import Callable

Times = dict[str, list[float]]  # of each way


def take_turns(measure: Callable[[str], float], ways: tuple[str, str], rounds: int) -> Times:
    """Measure both ways in each round."""
    times: Times = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measured in times.items():
            measured.append(measure(way))
    return times


def medians(times: Times) -> list[float]:
    """Return the median of each way."""
    return [statistics.median(each) for each in times.values()]


def ratio(times: Times, digits: int) -> str:
    """Describe the second way's share of the first's: median, least and most of the rounds."""
    first, second = times.values()
    ratios = sorted(b / a for a, b in zip(first, second, strict=True))
    middle, least, most = (f"{each:.{digits}f}" for each in (statistics.median(ratios), ratios[0], ratios[-1]))
    return f"{middle} ({least} to {most})"
