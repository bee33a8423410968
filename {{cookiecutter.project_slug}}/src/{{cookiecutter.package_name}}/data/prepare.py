"""Make arrays of the raw data, and the split: `python -m <package>.data.prepare`, the second stage of `make data`.

The first stage, `samebits fetch`, has put the files that configs/data/ names into data/raw/<name>/. For data of your
own, write `read_raw()` anew, and images.py, which says what a sample is; the rest takes arrays of any kind.
"""

from __future__ import annotations

import gzip
import math
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import samebits
from omegaconf import DictConfig

from .images import SIDE

BLOCK = 1024  # rows that are worked on at a time, so that memory does not grow with the data
Arrays = dict[str, np.ndarray]  # by their names, (N, ...) each: one entry a sample


def read_raw(paths: list[Path]) -> Iterator[Arrays]:
    """Read the published files, some samples at a time.

    What goes wrong while reading becomes one sentence with the error's text: raise ValueError for what cannot be used.

    Args:
        paths: of the files that configs/data/ lists, in that order.

    Yields:
        images: uint8, shape (N, 8, 8), 0 (paper) to 16 (ink); labels: int64, shape (N,), 0 to 9.
    """
    with gzip.open(paths[0], "rt") as text:
        while lines := list(islice(text, BLOCK)):
            table = np.loadtxt(lines, delimiter=",", ndmin=2)
            if table.shape[1] != SIDE * SIDE + 1:
                raise ValueError(f"it has {table.shape[1]} columns, not {SIDE * SIDE + 1}")
            images = table[:, :-1].astype(np.uint8).reshape(-1, SIDE, SIDE)
            yield {"images": images, "labels": table[:, -1].astype(np.int64)}


@samebits.stage(config_name="train")
def prepare(cfg: DictConfig) -> dict[str, Any]:
    """Write each array of `read_raw` as `{train,val,test}_<name>.npy`, and `dataset.json`, to `cfg.paths.processed`.

    The same raw data and the same `cfg.data.split` give the same bytes, wherever and however often this runs. The split
    is known when all has been read; until then the samples wait in temporary files, and not in memory.

    Returns:
        What `dataset.json` holds: the settings, the number of samples and the raw rows of each split.

    Raises:
        UserError: the raw files are not what is expected, or cannot be split so. Nothing has been written then.
    """
    processed = Path(cfg.paths.processed)
    processed.parent.mkdir(parents=True, exist_ok=True)
    paths = [Path(cfg.paths.raw) / file.name for file in cfg.data.files]
    for path in paths:
        if not path.exists():
            raise samebits.UserError(f"{path} is missing: run `make data`.")
    try:
        arrays = gather(read_raw(paths), processed.parent)
    except (EOFError, LookupError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        named = " and ".join(map(str, paths))
        raise samebits.UserError(f"{named} cannot be read ({reason}): mend it, or adapt read_raw().") from error
    rows = split_rows(arrays, cfg.data.split)
    processed.mkdir(exist_ok=True)  # not before: bad input leaves nothing behind
    for split, index in rows.items():
        for name, array in arrays.items():
            copy_rows(array, index, processed / f"{split}_{name}.npy")
    print(", ".join(f"{split}: {len(index):,} samples" for split, index in rows.items()))
    return samebits.write_dataset(cfg, rows)


def gather(blocks: Iterable[Arrays], folder: Path) -> Arrays:
    """Put blocks of samples together, in temporary files of a folder; a ValueError where they do not fit together."""
    kinds: dict[str, Any] = {}  # of each array: type, and shape of a sample
    waiting: dict[str, Any] = {}
    count = 0
    with ExitStack() as files:
        for block in blocks:
            found = {name: (array.dtype, array.shape[1:]) for name, array in block.items()}
            kinds = kinds or found
            if found != kinds or any(dtype.hasobject for dtype, _ in found.values()):
                raise ValueError(f"{', '.join(found)} are not arrays of numbers, of one kind and shape for all samples")
            if len({len(array) for array in block.values()}) != 1:
                raise ValueError(f"{', '.join(found)} have not one entry a sample each")
            for name, array in block.items():
                if name not in waiting:
                    waiting[name] = files.enter_context(tempfile.TemporaryFile(dir=folder))
                waiting[name].write(array.tobytes())
            count += len(array)
        if count == 0:
            raise ValueError("it is empty")
        for file in waiting.values():
            file.flush()  # what is mapped stays readable when the file is closed
        return {
            name: np.memmap(waiting[name], kind, "r", shape=(count, *shape)) for name, (kind, shape) in kinds.items()
        }


def split_rows(arrays: Arrays, split: DictConfig) -> Arrays:
    """Divide the samples at random.

    Args:
        arrays: all samples.
        split: the fractions `val` and `test`, the `seed`, and `by`: stratified, by which each of the `labels` has the
            same share in every split, or plain.

    Returns:
        Which rows of the raw data are in `train`, `val` and `test`: int64, ascending.

    Raises:
        UserError: the samples cannot be split so.
    """
    from sklearn.model_selection import train_test_split

    if split.val + split.test >= 1:
        raise samebits.UserError(
            f"data.split.val={split.val} and data.split.test={split.test} leave no training data: lower one of them."
        )
    by = split.get("by", "stratified")
    if by not in ("plain", "stratified") or (by == "stratified" and "labels" not in arrays):
        raise samebits.UserError(
            f"data.split.by is {by!r}, but must be plain, or stratified where there are labels: mend configs/data/."
        )
    labels = arrays["labels"] if by == "stratified" else None
    every = np.arange(len(next(iter(arrays.values()))))
    try:
        count = [math.ceil(round(len(every) * share, 6)) for share in (split.test, split.val)]
        rest, test = train_test_split(every, test_size=count[0], stratify=labels, random_state=split.seed)
        of_rest = None if labels is None else labels[rest]
        train, val = train_test_split(rest, test_size=count[1], stratify=of_rest, random_state=split.seed)
    except ValueError as error:
        reason = str(error).partition(". ")[0].rstrip(".")
        raise samebits.UserError(
            f"{len(every):,} samples cannot be split so ({reason}): change data.split in configs/data/, or say"
            " by: plain there, which does not look at the labels."
        ) from error
    return {name: np.sort(index) for name, index in (("train", train), ("val", val), ("test", test))}


def copy_rows(array: np.ndarray, rows: np.ndarray, path: Path) -> None:
    """Write the chosen rows of an array, shape (N, ...), to a file as `np.save` does."""
    copy = np.lib.format.open_memmap(path, "w+", array.dtype, (len(rows), *array.shape[1:]))
    for first in range(0, len(rows), BLOCK):
        copy[first : first + BLOCK] = array[rows[first : first + BLOCK]]


if __name__ == "__main__":
    prepare()
