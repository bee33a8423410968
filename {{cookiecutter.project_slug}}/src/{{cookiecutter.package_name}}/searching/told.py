"""What a search says of itself: at its start, at its end, and on its page."""

from __future__ import annotations

import os
from typing import Any

from omegaconf import OmegaConf

from ..cli import counts
from ..config import CONFIGS
from ..repro.redact import redact
from .results import Results, Trial


def introduction(found: Results, workers: int) -> str:
    """Say what is searched, and whether the same search would find the same."""
    options = found.search.options
    where = f"Search {options.name!r} for {options.metric}, kept in {redact(options.storage)}: {found.said}."
    return f"{where}\n{reproducible(found, workers)}"


def reproducible(found: Results, workers: int = 1) -> str:
    """Say whether the same search makes the same trials."""
    if found.timing or workers > 1:
        who = f"{workers} workers choose" if workers > 1 else "several workers have chosen"
        return (
            f"Not reproducible as a whole: {who} at the same time, so which settings are tried depends on timing. Each"
            " trial is an ordinary run, and can be trained again bit for bit."
        )
    if not found.search.base.determinism.enabled:
        return "Not reproducible: determinism=off, so a training comes to other values each time."
    return (
        "Reproducible: one worker, so each trial's settings follow from search.seed, its number and the results before"
        " it, however often the search is cut off. Another worker beside it would end that."
    )


def conclusion(found: Results) -> str:
    """Say what came out, what is left, and what to do with it."""
    lines = [f"{found.said}."]
    lines += [f"FAILED  trial {each.number}: {each.reason}" for each in found.trials if each.state == "failed"]
    if found.count("failed"):
        lines.append("What failed is tried again by the same command.")
    if open_trials := [str(each.number) for each in found.trials if each.state == "open"]:
        lines.append(
            f"Still with other workers: trial {', '.join(open_trials)}. Where these are gone for good, the same command"
            " takes such trials over; those begun in another folder, with search.adopt=true."
        )
    if (best := found.best) is None:
        return "\n".join([*lines, "No training has come to its end yet."])
    metric = found.search.options.metric
    lines += [f"Best: trial {best.number}, {metric} {best.value:.4f}", *(f"  {word}" for word in best.words)]
    lines += [
        f"trained by    {found.command(best)}",
        f"results       {os.path.relpath(found.search.models / best.run)}",
        f"how sure      {found.command(best, 'sweep SEEDS=0..4')}",
        "To keep these settings, write them into configs/, or the page's lines into configs/experiment/<name>.yaml.",
    ]
    return "\n".join(lines)


def experiment(found: Results, best: Trial) -> str:
    """Write the best settings, with those that all trainings were given and that count, for configs/experiment/."""
    import yaml

    groups: list[Any] = []
    values = OmegaConf.create()
    for word in [*found.search.words, *best.words]:
        key, _, text = word.lstrip("+~").partition("=")
        if word.startswith("~") or not counts(word):
            continue
        if (CONFIGS / key).is_dir():
            groups.append({f"override /{key}": text})
        else:
            OmegaConf.update(values, key, yaml.safe_load(text), force_add=True)
    parts = ["# @package _global_"]
    if groups:
        parts.append(yaml.safe_dump({"defaults": groups}, sort_keys=False).rstrip())
    if values:
        parts.append(OmegaConf.to_yaml(values).rstrip())
    return "\n".join(parts) + "\n"
