"""Scale of data: the example, ten times and a hundred times as large.

The data is made larger by moving its images, fetched from a file with its sha256 pinned, prepared, and trained with, by
the project's own commands in copies of it. Imports are not counted. Throughput is that of training alone, the ends of
epochs included, of which small data has more; memory is that of all of it, with validation and test. Memory is the
process's own: pages of the data that are read from a file in memory are the system's, which takes them back where it
needs them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from .project import Project, copied
from .rows import Row, take_turns

SIZES = {"1x": 1, "10x": 10, "100x": 100}


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Measure fetching, preparing, training and hashing."""
    with tempfile.TemporaryDirectory() as folder:
        grown = {}
        for size, times in SIZES.items():
            grown[size] = copied(project, Path(folder) / size)
            grown[size].inside("grow_data.py", str(times))
        print(f"  ({', '.join(SIZES)}: each with its own copy of the project)", flush=True)

        prepared: dict[str, list[list[float]]] = {size: [] for size in SIZES}
        trained: dict[str, list[list[float]]] = {size: [] for size in SIZES}

        def prepare(size: str) -> float:
            prepared[size].append(grown[size].inside("prepare_data.py"))
            return 0.0

        def train(size: str) -> float:
            trained[size].append(grown[size].inside("train_data.py"))
            return 0.0

        def of(found: dict[str, list[list[float]]], size: str, column: int, unit: float = 1.0) -> list[float]:
            return [each[column] / unit for each in found[size][-rounds:]]

        take_turns(prepare, list(SIZES), rounds)
        for column, name in enumerate(("fetch", "prepare")):
            hundred, ten = (of(prepared, size, column, times) for size, times in list(SIZES.items())[:0:-1])
            yield Row(f"{name}, for each 1x of 100x", "s", hundred, "10x", ten, most=1.1)
        for size in ("10x", "100x"):
            memory, base = of(prepared, size, 2, 1e6), of(prepared, "1x", 2, 1e6)
            yield Row(f"prepare, peak memory of its own, {size}", "MB", memory, "1x", base, most=1.1)

        take_turns(train, list(SIZES), rounds, warm=False)  # each begins with steps that do not count
        for size in ("10x", "100x"):
            yield Row(f"training, {size}", "samples/s", of(trained, size, 0), "1x", of(trained, "1x", 0), least=0.9)
        for size in ("10x", "100x"):
            memory, base = of(trained, size, 1, 1e6), of(trained, "1x", 1, 1e6)
            yield Row(f"training, peak memory of its own, {size}", "MB", memory, "1x", base, most=1.1)
        memory, base = of(trained, "100x", 2, 1e6), of(trained, "1x", 2, 1e6)
        yield Row("training, peak memory with pages of files, 100x", "MB", memory, "1x", base)

    hashed = [project.inside("hash_data.py") for _ in range(rounds + 1)][1:]
    alone, first, again = (list(each) for each in zip(*hashed, strict=True))
    yield Row("hashing 256 MB of data", "s", first, "sha256 of bytes in memory", alone, most=1.25)
    yield Row("hashing it again, unchanged", "s", again, "the first time", first, most=0.05)
