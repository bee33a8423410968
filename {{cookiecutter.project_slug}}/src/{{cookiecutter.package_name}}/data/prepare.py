"""Make arrays of the raw data, and the split: `python -m <package>.data.prepare`, the second stage of `make data`.

The first stage, `samebits fetch`, has put the files that configs/data/ names into data/raw/. For data of your own,
write `read_table()` anew, and images.py, which says what a sample is.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import samebits
from omegaconf import DictConfig

from .images import SIDE

BLOCK = 1024  # rows that are worked on at a time, so that memory does not grow with the images
Rows = dict[str, np.ndarray]  # of each split: which rows of the raw table are in it, int64, ascending


@samebits.stage(config_name="train")
def prepare(cfg: DictConfig) -> dict[str, Any]:
    """Write `{train,val,test}_{images,labels}.npy` and `dataset.json` to `cfg.paths.processed`.

    The same raw data and the same `cfg.data.split` give the same bytes, wherever and however often this runs. The split
    is known when all labels have been read; until then the images wait in a temporary file, and not in memory.

    Returns:
        What `dataset.json` holds: the settings, the number of samples and the raw rows of each split.

    Raises:
        UserError: the raw file is missing or not the expected table, or the fractions leave no training data. Nothing
            has been written then.
    """
    processed = Path(cfg.paths.processed)
    processed.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=processed.parent) as waiting:
        found = []
        for images, labels in read_table(Path(cfg.paths.raw) / cfg.data.files[0].name):
            waiting.write(images.tobytes())
            found.append(labels)
        waiting.flush()
        labels = np.concatenate(found)
        rows = split_rows(labels, cfg.data.split)
        processed.mkdir(exist_ok=True)  # not before: bad input leaves nothing behind
        pixels = np.memmap(waiting, np.uint8, "r", shape=(len(labels), SIDE, SIDE))
        for name, index in rows.items():
            copy_rows(pixels, index, processed / f"{name}_images.npy")
            np.save(processed / f"{name}_labels.npy", labels[index])
    print(", ".join(f"{name}: {len(index):,} images" for name, index in rows.items()))
    return samebits.write_dataset(cfg, rows)


def split_rows(labels: np.ndarray, split: DictConfig) -> Rows:
    """Divide the rows at random, stratified: each label has the same share in every split.

    Args:
        labels: int64, shape (N,).
        split: the fractions `val` and `test`, and the `seed`.

    Raises:
        UserError: the fractions leave no training data.
    """
    from sklearn.model_selection import train_test_split

    if split.val + split.test >= 1:
        raise samebits.UserError(
            f"data.split.val={split.val} and data.split.test={split.test} leave no training data: lower one of them."
        )
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=split.test, stratify=labels, random_state=split.seed
    )
    train, val = train_test_split(
        rest, test_size=split.val / (1 - split.test), stratify=labels[rest], random_state=split.seed
    )
    return {name: np.sort(index) for name, index in (("train", train), ("val", val), ("test", test))}


def copy_rows(images: np.ndarray, rows: np.ndarray, path: Path) -> None:
    """Write the chosen rows of `images`, shape (N, ...), to a file as `np.save` does."""
    copy = np.lib.format.open_memmap(path, "w+", images.dtype, (len(rows), *images.shape[1:]))
    for first in range(0, len(rows), BLOCK):
        copy[first : first + BLOCK] = images[rows[first : first + BLOCK]]


def read_table(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read the published table, some rows at a time.

    Yields:
        images: uint8, shape (N, 8, 8), 0 (paper) to 16 (ink); labels: int64, shape (N,), 0 to 9.

    Raises:
        UserError: the file is missing, or is not a table of 65 whole numbers a row.
    """
    if not path.exists():
        raise samebits.UserError(f"{path} is missing: run `make data`.")
    empty = True
    try:
        with gzip.open(path, "rt") as text:
            while lines := list(islice(text, BLOCK)):
                table = np.loadtxt(lines, delimiter=",", ndmin=2)
                if table.shape[1] != SIDE * SIDE + 1:
                    raise ValueError(f"it has {table.shape[1]} columns, not 65")
                empty = False
                yield table[:, :-1].astype(np.uint8).reshape(-1, SIDE, SIDE), table[:, -1].astype(np.int64)
    except (OSError, ValueError) as error:
        raise samebits.UserError(f"{path} is not a table ({error}): adapt read_table() in data/prepare.py.") from error
    if empty:
        raise samebits.UserError(f"{path} is empty: adapt read_table() in data/prepare.py.")


if __name__ == "__main__":
    prepare()
