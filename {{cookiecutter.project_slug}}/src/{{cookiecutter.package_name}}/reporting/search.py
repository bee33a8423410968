"""The page of a search: reports/search.html, or reports/search-<name>.html for one of another name than `search`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf

from ..about import Project
from ..searching.memory import copied
from ..searching.results import Results
from ..searching.table import write_table
from ..searching.told import experiment, reproducible
from . import search_figures as figures
from .page import write_page

ENOUGH = 8  # finished trials from which on shares of the variation mean something
FIGURES = 12  # settings at most that are drawn, the most important first


def write_search(root: Path, found: Results, project: Project) -> Path:
    """Write page, table and figures; return the page's path. The same trials give the same bytes.

    Args:
        root: the project's folder.
        found: all trials.
        project: for the heading.
    """
    folder = root / "reports"
    table = write_table(folder, found)
    name = table.stem
    drawings = folder / name
    shares = importances(found)
    order = sorted(found.search.space, key=lambda key: (-(shares or {}).get(key, 0.0), key))
    drawn = [figures.history(found, drawings)]
    drawn += [figures.importances(shares, drawings)] if shares else []
    drawn += [figures.against(found, key, number, drawings) for number, key in enumerate(order[:FIGURES], start=1)]
    there = {each.name for each in drawn if each}
    for path in [*drawings.glob("*.svg"), *drawings.glob("*.png")]:  # of an earlier page
        if path.stem not in there:
            path.unlink()
    best = found.best
    write_page(
        folder / f"{name}.html",
        project,
        drawn,
        template="search.html",
        found=found,
        options=found.search.options,
        best=best,
        kept=experiment(found, best) if best else "",
        table=table.name,
        shares=shares,
        enough=ENOUGH,
        reproducible=reproducible(found),
        settings=settings(found),
    )
    return folder / f"{name}.html"


def importances(found: Results) -> dict[str, float] | None:
    """Estimate the share of each setting in the metric's variation, by fANOVA; None where there are too few trials."""
    if len(found.finished) < ENOUGH or len({trial.value for trial in found.finished}) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study, _ = copied(found.search, found.stored)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=int(found.search.options.seed))
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def settings(found: Results) -> list[tuple[str, str]]:
    """List the settings of the search, but for where it is kept."""
    options: Any = OmegaConf.to_container(found.search.options, resolve=True)
    rows = [(key, str(options[key])) for key in ("name", "trials", "metric", "direction", "seed")]
    rows += [(key, _said(options[key])) for key in ("sampler", "pruner")]
    rows += [(name, _tried(each.distribution)) for name, each in found.search.space.items()]
    return [*rows, ("every training", " ".join(found.search.words) or "as configs/ has it")]


def _tried(distribution: Any) -> str:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    said = f"{distribution.low:g} to {distribution.high:g}"
    said += ", logarithmic" if distribution.log else ""
    return said + (f", in steps of {distribution.step:g}" if distribution.step else "")


def _said(node: dict[str, Any] | None) -> str:
    if node is None:
        return "none"
    more = ", ".join(f"{key}={value}" for key, value in node.items() if key != "_target_")
    return f"{node['_target_']}({more})"
