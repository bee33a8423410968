"""Cross-validation on data that is prepared once: which samples a fold trains on, chooses by, and is tested on.

`data.folds` holds `count`, `fold` (0 to count - 1), `by` and, where they are not the defaults here, `val` and `seed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map
from torch.utils.data import Dataset

from .errors import UserError
from .lightning import pl

SPLITS = ("train", "val", "test")
VAL = 0.15  # of all samples, where data.folds.val does not say it
COLUMNS = {"stratified": "labels", "group": "groups", "time": "times"}  # what a data set has to know of its samples
ASKED: set[tuple[int, int, str]] = set()  # number, how many, by: the folds that this process has made


def fold_indices(folds: Mapping[str, Any], values: Any) -> dict[str, np.ndarray]:
    """Divide samples for one fold of a cross-validation: the folds' test splits are disjoint.

    The same settings and values give the same folds, whatever the seed of a training.

    Args:
        folds: the settings: `count`, `fold`, `by`; `val`, a fraction of all samples; `seed`.
        values: one for each sample, (N,). By `stratified`, labels: each has the same share in every split. By `group`,
            groups: none is in two splits. By `time`, times: each fold trains on what is older than what it is tested
            on, and the newest of that is for validation; the oldest samples are in no test split. By `plain`, anything.

    Returns:
        The numbers of the samples in `train`, `val` and `test`: int64, ascending.

    Raises:
        UserError: there are too few samples, or none is left for a split.
    """
    count, fold, by = int(folds["count"]), int(folds["fold"]), str(folds.get("by") or "stratified")
    values, random = (
        np.asarray(values),
        np.random.RandomState(folds.get("seed") or 0),
    )  # which never changes its numbers
    if by in COLUMNS and values.ndim != 1:
        raise UserError(
            f"data.folds.by={by} needs one value a sample, not {values.shape[1:]}: say data.folds.by=plain."
        )
    share = float(folds.get("val") or VAL) * count / (count - 1)  # of what is not tested on
    if share >= 1:
        raise UserError(f"{count} folds and data.folds.val={folds.get('val')} leave no training data: lower that.")
    if by == "time":
        found = _by_time(values, count, fold, share)
    elif by == "group":
        found = _by_group(values, count, fold, share, random)
    else:
        found = _at_random(values if by == "stratified" else None, len(values), count, fold, share, random)
    if empty := next((name for name, index in zip(SPLITS, found, strict=True) if not len(index)), None):
        raise UserError(f"fold {fold} of {count} by {by} leaves nothing for {empty}: there are too few samples for it.")
    ASKED.add((fold, count, by))
    return {name: np.sort(index) for name, index in zip(SPLITS, found, strict=True)}


def _at_random(
    labels: np.ndarray | None, samples: int, count: int, fold: int, share: float, random: Any
) -> list[np.ndarray]:
    order = random.permutation(samples)
    if labels is not None:
        names, sizes = np.unique(labels, return_counts=True)
        if len(names) and sizes.min() < count:
            raise UserError(
                f"the label {names[sizes.argmin()]} has {sizes.min()} of the samples, too few for {count} folds with"
                " the same share of each label: ask for fewer folds, or say data.folds.by=plain."
            )
        order = order[np.argsort(labels[order], kind="stable")]  # label by label, so that every count-th has of each
    rest = np.delete(order, slice(fold, None, count))
    chosen = np.diff(np.floor(np.arange(len(rest) + 1) * share)) > 0
    return [rest[~chosen], rest[chosen], order[fold::count]]


def _by_group(groups: np.ndarray, count: int, fold: int, share: float, random: Any) -> list[np.ndarray]:
    names, of_sample, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < count:
        raise UserError(f"there are {len(names)} groups, too few for {count} folds: ask for fewer folds.")
    shuffled, filled, folds = random.permutation(len(names)), np.zeros(count), np.zeros(len(names), dtype=int)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:  # the largest first, to the emptiest fold
        folds[group] = filled.argmin()
        filled[folds[group]] += sizes[group]
    rest = shuffled[folds[shuffled] != fold]
    chosen = np.cumsum(sizes[rest]) - sizes[rest] / 2 <= share * sizes[rest].sum()
    chosen[:1] = True
    groups_of = (rest[~chosen], rest[chosen], np.flatnonzero(folds == fold))
    return [np.flatnonzero(np.isin(of_sample, each)) for each in groups_of]


def _by_time(times: np.ndarray, count: int, fold: int, share: float) -> list[np.ndarray]:
    order, size = np.argsort(times, kind="stable"), len(times) // (count + 1)
    ordered = times[order]

    def begin(place: int) -> int:  # samples of one time stay together
        return int(np.searchsorted(ordered, ordered[place])) if place < len(times) else len(times)

    first, end = (begin(len(times) - (count - each) * size) for each in (fold, fold + 1))
    val = begin(round(first * (1 - share)))
    return [order[:val], order[val:first], order[first:end]]


class FoldDataset(Dataset[Any]):
    """Some samples of prepared data sets that lie behind one another.

    Args:
        parts: the data sets.
        rows: the numbers of the samples among those of all parts: int64, (N,).
    """

    def __init__(self, parts: list[Any], rows: np.ndarray) -> None:
        ends = np.cumsum([len(part) for part in parts])
        self.parts, self.part = parts, np.searchsorted(ends, rows, side="right")  # of each sample
        self.row = rows - np.array([0, *ends])[self.part]  # and its number there

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: int) -> Any:
        return self.parts[self.part[index]][int(self.row[index])]


class BatchFoldDataset(FoldDataset):
    """The same of data sets that read whole batches, of tensors or arrays."""

    def __init__(self, parts: list[Any], rows: np.ndarray) -> None:
        super().__init__(parts, rows)
        if hasattr(parts[0], "augment"):
            self.augment = parts[0].augment

    def read_batch(self, indices: np.ndarray) -> Any:
        """Read a batch, each part's samples at once, in the order of the indices (B,)."""
        part = self.part[indices]
        found = np.unique(part)
        read = [self.parts[number].read_batch(self.row[indices[part == number]]) for number in found]
        order = np.argsort(np.concatenate([np.flatnonzero(part == number) for number in found]))

        def join(*each: Any) -> Any:
            return torch.cat(each)[torch.from_numpy(order)] if torch.is_tensor(each[0]) else np.concatenate(each)[order]

        return tree_map(join, *read)


def fold_dataset(folds: Mapping[str, Any] | None, split: str, make: Callable[[str], Any]) -> Any:
    """Make the data set of a split: the prepared one, or where `data.folds` asks for a fold, that of the fold.

    Args:
        folds: the settings `data.folds`, or None.
        split: `train`, `val` or `test`.
        make: makes the prepared data set of a split, which has `labels`, `groups` or `times` (N,) as `folds.by` needs.

    Raises:
        UserError: the data set does not have them, or there are too few samples.
    """
    if not folds or folds.get("count") is None:
        return make(split)
    parts = [make(name) for name in SPLITS]
    column = COLUMNS.get(str(folds.get("by") or "stratified"))
    if column and not hasattr(parts[0], column):
        raise UserError(
            f"data.folds.by={folds['by']} needs the {column} of the samples, and {type(parts[0]).__name__} has no"
            f" attribute {column!r}: give it this array, one value a sample, or choose another data.folds.by."
        )
    columns = [np.asarray(getattr(part, column)) if column else np.zeros(len(part)) for part in parts]
    rows = fold_indices(folds, np.concatenate(columns))[split]
    return (BatchFoldDataset if hasattr(parts[0], "read_batch") else FoldDataset)(parts, rows)


class RequireFolds(pl.Callback):
    """Refuses to train where the data module has not heeded `data.folds`: all folds would be the same run."""

    def __init__(self, fold: tuple[int, int, str]) -> None:
        self.fold = fold

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look whether it asked for the fold."""
        if self.fold not in ASKED:
            name = type(getattr(trainer, "datamodule", None)).__name__
            raise UserError(
                f"data.folds asks for a fold, and {name} has not made one: let its data sets come from"
                " samebits.fold_dataset, or its samples from samebits.fold_indices."
            )
