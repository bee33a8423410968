"""The runs that a report stands on: read, checked against their records, and put together into experiments."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ..engine import record as records
from ..engine.errors import UserError
from ..engine.files import json_sha256
from ..engine.inputs import Fold, fold_of, settings_that_count
from ..engine.printing import warn
from ..engine.record import COMPUTE, HISTORY, PREDICTIONS, RECORD, Record, read_usage
from ..engine.run_loader import main_run
from ..verify.provenance_diff import contradictions, differing, flat, require_unedited
from ..verify.verdict_files import read_verdicts, tampered, verdicts_on

FEW = 3  # settings that a name holds, unless it takes more to tell two apart
FOLDS = ("data.folds.fold", "data.module.folds.fold")  # settings that say which fold a run is of
SAME = ("code", "lock", "data", "files", "outside", "contract", "library")  # what all seeds of an experiment share


Key = int | tuple[Fold, int]  # what tells a run from the others of its experiment: seed, or fold and seed


@dataclass(frozen=True)
class FinishedRun:
    """One finished run, by its files."""

    directory: Path  # where they are
    record: Record

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.record["run"])

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.record["inputs"]["config"]["seed"])

    @cached_property
    def fold(self) -> Fold | None:
        """The fold that it was tested on; None where that was the prepared test split."""
        return fold_of(self.record["inputs"]["config"])

    @property
    def key(self) -> Key:
        """Its seed, or its fold and seed."""
        return (self.fold, self.seed) if self.fold else self.seed

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that count, each by its dotted key."""
        return flat(self.record["inputs"]["config"])

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of its weights."""
        return dict(self.record["outputs"]["metrics"])

    @property
    def weights(self) -> str:
        """The sha256 of its weights, by content."""
        return str(self.record["outputs"]["weights"])

    @property
    def command(self) -> str:
        """What trains it."""
        return records.command(self.record)

    @cached_property
    def verdicts(self) -> list[dict[str, Any]]:
        """What re-runs found, the oldest first."""
        return verdicts_on(self.directory, self.record)

    @cached_property
    def curves(self) -> dict[str, dict[int, float]]:
        """The value of every metric at each step of training; empty where the history is not here."""
        found: dict[str, list[tuple[int, float]]] = {}
        for row in read_table(self.directory / HISTORY):
            found.setdefault(row["metric"], []).append((int(row["step"]), float(row["value"])))
        # the last row of what was measured at the end is that of the kept weights, which may be of an earlier step
        ends = {name for name in self.metrics if len(found.get(name, ())) > 1}
        return {name: dict(rows[:-1] if name in ends else rows) for name, rows in found.items()}

    @cached_property
    def predictions(self) -> list[dict[str, str]]:
        """What it says of every test sample; empty where it was not kept."""
        return read_table(self.directory / PREDICTIONS)

    def differs_from(self, cfg: DictConfig) -> list[tuple[str, str, str]]:
        """List the settings that are not those of `cfg`: name, value of the run, value of `cfg`."""
        return differing(self.record["inputs"]["config"], settings_that_count(cfg))


@dataclass
class Experiment:
    """Runs that differ in their seed, and the number of their fold, alone."""

    runs: list[FinishedRun]  # one for each seed, or fold and seed, in their order
    name: str = ""  # for people; no two experiments of a report share it
    repeats: list[FinishedRun] = field(default_factory=list)  # of these: with the same inputs, or the same result

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return sorted({run.seed for run in self.runs})

    @property
    def folds(self) -> list[Fold]:
        """The folds; empty where all runs were tested on the prepared test split."""
        return sorted({run.fold for run in self.runs if run.fold})

    @property
    def splitting(self) -> Fold | None:
        """What all of its folds have in common."""
        return self.first.fold and self.first.fold._replace(number=0)

    @property
    def extent(self) -> str:
        """How many seeds, or folds and runs, there are."""
        if not self.folds:
            return f"{len(self.runs)} seed{'s' if self.runs[1:] else ''}"
        there, of = len(self.folds), self.folds[0].of
        return f"{f'{of}' if there == of else f'{there} of {of}'} folds, {len(self.runs)} runs"

    def of_folds(self) -> list[Experiment]:
        """Divide it into its folds, each with its seeds."""
        each = [(fold, [run for run in self.runs if run.fold == fold]) for fold in self.folds]
        return [Experiment(runs, f"{self.name}: fold {fold.number}") for fold, runs in each]

    @property
    def tags(self) -> list[str]:
        """The labels that people gave to its runs."""
        return sorted({tag for run in self.runs + self.repeats for tag in run.record["source"].get("tags", [])})

    @property
    def first(self) -> FinishedRun:
        """The run with the lowest seed, which stands for what all have in common."""
        return self.runs[0]

    def values(self, metric: str) -> dict[Key, float]:
        """Give the metric of each run that has it, by seed, or fold and seed."""
        return {run.key: run.metrics[metric] for run in self.runs if metric in run.metrics}


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a heading; no rows where there is no file."""
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))) if path.exists() else []


def read_run(run: Path | str | None = None) -> FinishedRun:
    """Read the results of a finished run: metrics, curves, predictions, record, verdicts.

    Args:
        run: its directory; by default the main run's, models/main.

    Raises:
        UserError: it has not finished, or its files are not those of its record.
    """
    directory = Path(run) if run is not None else main_run()
    found = FinishedRun(directory, records.read_finished(directory))
    require_unedited(directory)
    return found


def read_runs(models: Path, exclude: Sequence[str]) -> tuple[list[FinishedRun], dict[str, dict[str, Any]]]:
    """Read all runs in a folder; one that was published counts where the run itself is not there.

    Returns:
        The finished runs, and of the others, by their directories' names, what they have cost so far.

    Raises:
        UserError: names each file that is not what the run's record says, or there is no finished run.
    """
    finished: dict[str, FinishedRun] = {}
    unfinished, wrong = {}, []
    folders = records.run_folders(models)
    for folder in sorted(folders, key=lambda folder: folder.name == main_run().name):
        if any(fnmatch(folder.name, pattern) for pattern in exclude):
            continue
        try:
            record = records.read_record(folder)
        except UserError as error:
            warn(f"the report is without {folder.name}: {error}")
            continue
        if record["observed"]["status"] != "finished":
            unfinished[folder.name] = read_usage(folder / COMPUTE)
            continue
        wrong += [f"{folder.name}: {each}" for each in contradictions(folder, record) or tampered(folder, record)]
        for sentence in read_verdicts(folder, record)[1]:
            warn(f"{folder.name}: {sentence}.")
        finished.setdefault(record["run"], FinishedRun(folder, record))
    if wrong:
        raise UserError(
            f"there is no report on runs whose files are not those of their records ({'; '.join(wrong)}): put the right"
            " files back, or move such runs out of models/ and train them again."
        )
    if not finished:
        but = f" but those that configs/report.yaml excludes ({', '.join(exclude)})" if folders else ""
        raise UserError(f"{models} has no finished run to report on{but}: make train, or make sweep SEEDS=0..4.")
    return list(finished.values()), unfinished


def published(models: Path) -> str | None:
    """Return the id of the run that was published as the main one."""
    path = models / main_run().name / RECORD
    with suppress(UserError):  # of which `read_runs` tells
        return str(records.read_record(path.parent)["run"]) if path.exists() else None
    return None


# --- which runs belong together

Group = list[FinishedRun]


def same_data(runs: Sequence[FinishedRun], main: str | None) -> tuple[Group, list[str]]:
    """Keep the runs on the data of the main run, or else of the newest; say in a sentence which others there are."""
    first = max(runs, key=lambda run: (run.id == main, run.record["observed"]["ended"], run.id))
    others = {id(run): run for run in runs if not same_inputs(run, first, ["data"])}
    names = sorted({str((run.record["inputs"].get("origin") or {}).get("title")) for run in others.values()})
    sentence = (
        f"Left out: {len(others)} {'run' if len(others) == 1 else 'runs'} on other data than the main run's"
        f" ({'; '.join(names)}); other_data: true in configs/report.yaml shows them, too."
    )
    return [run for run in runs if id(run) not in others], [sentence][: len(others)]


def group(runs: Sequence[FinishedRun], main: str | None) -> list[Experiment]:
    """Group runs into experiments, the one of the main run first, then by name.

    Runs of one experiment have the same inputs but for the seed. Two groups of which one was trained with other code or
    packages are one experiment all the same if these made no difference: see `same_results`.
    """
    seeds = {run.seed for run in runs}
    alike: dict[str, list[Group]] = {}  # runs that may be of one experiment, so that few are compared
    for run in sorted(runs, key=lambda run: (run.seed, run.id != main, len(run.id), run.id)):
        alike.setdefault(_key(run, seeds), []).append([run])
    experiments = []
    for candidates in alike.values():
        groups = _merged(candidates, lambda one, other: same_but_for_seed(one[0], other[0]))
        groups.sort(key=lambda members: (main not in [run.id for run in members], -len(members)))
        for members in _merged(groups, same_results):
            chosen: dict[Any, FinishedRun] = {}  # the first run of each seed, or fold and seed, counts
            repeats = [run for run in members if chosen.setdefault(run.key, run) is not run]
            experiments.append(Experiment([chosen[key] for key in sorted(chosen)], repeats=repeats))
    name_all(experiments, main)
    return sorted(experiments, key=lambda one: (main not in [run.id for run in one.runs + one.repeats], one.name))


def _merged(groups: Sequence[Group], same: Callable[[Group, Group], bool]) -> list[Group]:
    """Put each group into the first one found before that is the same."""
    found: list[Group] = []
    for members in groups:
        fitting = next((other for other in found if same(other, members)), None)
        if fitting is None:
            found.append(members)
        else:
            fitting += members
    return found


def _key(run: FinishedRun, seeds: set[int]) -> str:
    """Hash what runs of one experiment certainly share: a value that is nobody's seed follows none."""
    settled = {
        key: float(value) if isinstance(value, int) else value  # 1, 1.0 and true are equal, and here they look it
        for key, value in run.settings.items()
        if value is not None and key not in FOLDS and not (isinstance(value, int | float) and value in seeds)
    }
    return json_sha256([settled, run.record["inputs"]["data"]])


def same_inputs(one: FinishedRun, other: FinishedRun, parts: Sequence[str]) -> bool:
    """Whether two runs have the same of these inputs, each by content."""
    a, b = one.record["inputs"], other.record["inputs"]
    return all((a.get(part) or {}) == (b.get(part) or {}) for part in parts)


def same_but_for_seed(one: FinishedRun, other: FinishedRun) -> bool:
    """Whether two runs differ in nothing but the seed, and in settings that follow it."""
    return same_inputs(one, other, SAME) and not differing_settings(one, other)


def differing_settings(one: FinishedRun, other: FinishedRun) -> list[tuple[str, Any, Any]]:
    """List the settings in which two runs differ, but for the seed, those that follow it, and the number of the fold.

    Returns:
        The name and both values of each.
    """
    mine, theirs = one.settings, other.settings
    return [
        (key, mine.get(key), theirs.get(key))
        for key in sorted(mine | theirs)
        if key not in FOLDS
        and mine.get(key) != theirs.get(key)
        and (mine.get(key), theirs.get(key)) != (one.seed, other.seed)
    ]


def same_results(one: Group, other: Group) -> bool:
    """Whether two groups are one experiment, although code or packages differ.

    They have settings and data in common, and all runs of both have the same weights and metrics in each seed that both
    have, of which there is at least one.
    """
    common = {run.key for run in one} & {run.key for run in other}
    if not common or not same_inputs(one[0], other[0], ["data"]) or differing_settings(one[0], other[0]):
        return False
    found = {(run.key, run.weights, json_sha256(run.metrics)) for run in [*one, *other] if run.key in common}
    return len(found) == len(common)


# --- what experiments are called


def name_all(experiments: Sequence[Experiment], main: str | None) -> None:
    """Name each by the readable part of its runs' ids and, where that is not enough, by what sets it apart.

    Of those whose runs have the same readable name, the main run's, or else the one with the most runs, keeps it as it
    is, and the others add what they have otherwise. No two share a name.
    """
    alike: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        readable = re.sub(r"-[0-9a-f]{8}(-\d+)?$", "", experiment.first.id)
        name = re.sub(rf"[-_,]?seed={experiment.first.seed}\b", "", readable) or readable
        name = re.sub(r"-fold=\d+of(\d+)$", r" in \1 folds", name)
        alike.setdefault(name, []).append(experiment)
    for name, namesakes in alike.items():
        namesakes.sort(key=lambda one: (main not in [run.id for run in one.runs], -len(one.runs), one.first.id))
        reference, *others = namesakes
        reference.name = name
        parts = [short_differences(reference.first, other.first) for other in others]
        counts = range(FEW, max(map(len, parts), default=0))
        count = next((count for count in counts if len({tuple(part[:count]) for part in parts}) == len(parts)), None)
        taken = {name}
        for other, part in zip(others, parts, strict=True):
            other.name = f"{name} {' '.join(part[:count])}"
            if other.name in taken:  # settings that look alike in short
                other.name += f" ({other.first.id[-8:]})"
            taken.add(other.name)


def short_differences(reference: FinishedRun, other: FinishedRun) -> list[str]:
    """List in short what the other run has otherwise, what matters most first."""
    mine, theirs = reference.settings, other.settings
    found: list[str] = []
    for key in sorted(mine.keys() | theirs.keys()):
        values = (mine.get(key), theirs.get(key))
        if (
            key in FOLDS
            or values == (reference.seed, other.seed)
            or (values[0] == values[1] and (key in mine) == (key in theirs))
        ):
            continue
        # where one of the two is null, the other has a group of entries: null stands for them, and they for null
        above = any(key.startswith(f"{name}.") for name in found)
        if not above and not any(name.startswith(f"{key}.") for name in theirs):
            found.append(key)
    by_change: dict[tuple[str, ...], str] = {}  # of settings that follow each other, the shortest stands for all
    for key in sorted(found, key=len, reverse=True):
        values = (mine.get(key), theirs.get(key))
        switch = any(value is None or isinstance(value, bool) for value in values)  # others are turned in the same way
        by_change[(*map(repr, values), key if switch else "")] = key
    chosen = sorted(by_change.values(), key=lambda key: (key.startswith("determinism."), key))
    # the variables follow from the choice
    chosen = [key for key in chosen if not key.startswith("determinism.env")] or chosen
    parts = [_short_setting(key, theirs.get(key)) for key in chosen]
    for part in SAME:
        if not same_inputs(reference, other, [part]):
            there = other.record["inputs"].get(part) or {}
            parts.append(f"{part}:{there if isinstance(there, int) else json_sha256(there)[:4]}")
    return parts


def _short_setting(key: str, value: Any) -> str:
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_').rpartition('.')[2]}={str(value).rpartition('.')[2]}"
    short = key if key.startswith(("determinism.", "callbacks.")) else key.rpartition(".")[2]
    return f"{short}={'null' if value is None else value}"
