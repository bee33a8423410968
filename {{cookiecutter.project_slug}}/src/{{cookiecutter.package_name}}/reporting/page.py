"""The report as one page: reports/report.html, readable on a phone and in print, without a script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..about import Project
from ..repro.files import write_atomically
from .figures import Figure
from .statistics import Estimate, difference, estimate

if TYPE_CHECKING:  # it loads torch
    from .experiments import Experiment

TEMPLATE = "page.html"


@dataclass(frozen=True)
class Comparison:
    """One metric of one experiment against the baseline.

    Attributes:
        name: of the experiment.
        metric: which.
        seeds: that both have.
        mean: of the differences.
    """

    name: str
    metric: str
    seeds: list[int]
    mean: Estimate

    @property
    def said(self) -> str:
        """What the interval tells."""
        if self.mean.half is None:
            return "one seed tells nothing of the spread"
        if self.mean.half == 0:
            return "the same difference in every seed" if self.mean.mean else "no difference in any seed"
        return "differs: the interval is on one side of 0" if self.mean.excludes_zero else "may be chance: it holds 0"


def comparisons(baseline: Experiment, others: Sequence[Experiment], metrics: Sequence[str]) -> list[Comparison]:
    """Compare each experiment with the baseline, paired by seed."""
    found = []
    for other in others:
        for metric in metrics:
            base, values = baseline.values(metric), other.values(metric)
            mean = difference(base, values)
            if mean is not None:
                found.append(Comparison(other.name, metric, sorted(base.keys() & values.keys()), mean))
    return found


def estimates(experiment: Experiment, metrics: Sequence[str]) -> dict[str, Estimate]:
    """Estimate each metric that the experiment has."""
    values = {metric: list(experiment.values(metric).values()) for metric in metrics}
    return {metric: estimate(each) for metric, each in values.items() if each}


def write_page(
    path: Path, project: Project, figures: Sequence[Figure | None], template: str = TEMPLATE, **parts: Any
) -> None:
    """Write a page.

    Args:
        path: of the file.
        project: for the heading.
        figures: all there are; they become part of the page.
        template: beside this file.
        parts: what else it asks for.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["source"] = _source
    named = {each.name: each for each in figures if each}
    text = environment.get_template(template).render(project=project, figures=named, estimates=estimates, **parts)
    write_atomically(path, f"{text}\n".encode())


def _source(figure: Figure) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(figure.svg).decode()}"
