"""The zip of a bundle, or the several of one that is written in parts: the same files give the same bytes."""

from __future__ import annotations

import re
import shutil
import stat
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from ..engine.errors import UserError
from ..engine.files import DISK_FULL, replace_atomically

BLOCK = 2**20  # bytes
SLOW = 100_000_000  # bytes from which on a progress bar is shown
PACKED = (".gz", ".zip", ".whl", ".xz", ".zst", ".png", ".jpg", ".jpeg", ".pdf", ".safetensors")  # do not get smaller
PART = re.compile(r"(.+\.)([1-9]\d{0,2})-of-([1-9]\d{0,2})\.zip")  # the name of one zip of several
LAST = "offline/"  # so that the first part says what a bundle is


def write_zip(path: Path, top: str, files: Mapping[str, Path], ended: str) -> None:
    """Write a zip of `files`, whose bytes follow from them alone: sorted, all of one time, permissions of a few kinds.

    It unpacks to the folder `top`. `ended` is the time, as the record writes it: `2026-01-31T12:00:00Z`.
    """
    from rich.console import Console
    from rich.progress import Progress

    year, *rest = map(int, re.findall(r"\d+", ended)[:6])
    when = (max(year, 1980), *rest)  # a zip knows no earlier year
    path.parent.mkdir(parents=True, exist_ok=True)
    total = sum(source.stat().st_size for source in files.values())
    bar = Progress(console=Console(file=sys.stderr), transient=True, disable=total < SLOW)

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as archive, bar:
            task = bar.add_task("Writing", total=total)
            for name, source in sorted(files.items()):
                mode = source.stat().st_mode  # of which counts: whether it is a program, and may be written to
                permissions = 0o755 if mode & 0o100 else 0o644 if mode & 0o200 else 0o444
                entry = zipfile.ZipInfo(f"{top}/{name}", when)  # type: ignore[arg-type] # six numbers
                entry.create_system = 3  # Unix, wherever it is written
                entry.external_attr = (stat.S_IFREG | permissions) << 16
                entry.compress_type = zipfile.ZIP_STORED if name.endswith(PACKED) else zipfile.ZIP_DEFLATED
                entry.file_size = source.stat().st_size  # from this, zipfile knows whether the large format is needed
                with source.open("rb") as content, archive.open(entry, "w") as copy:
                    shutil.copyfileobj(bar.wrap_file(content, task_id=task), copy, BLOCK)

    try:
        replace_atomically(path, write)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(f"{path} cannot be written ({error.strerror}): make room, then `make bundle` again.") from error


def split(files: Mapping[str, Path], most: float | None) -> list[dict[str, Path]]:
    """Divide files into parts of at most `most` GB, those of `offline/` last; one where there is no such limit."""
    parts: list[dict[str, Path]] = [{}]
    limit = float("inf") if most is None else most * 1e9 - 1000  # the end of a zip
    left = limit
    for name in sorted(files, key=lambda name: (name.startswith(LAST), name)):
        # besides the file: what a zip notes of it, twice, and what deflating adds to what does not pack
        size = files[name].stat().st_size * 1.001 + 2 * len(name.encode()) + 1000
        if size > limit:
            raise UserError(f"{name} has {size / 1e9:,.3f} GB, more than a part of {most:g} GB: choose larger parts.")
        if size > left:
            parts.append({})
            left = limit
        parts[-1][name] = files[name]
        left -= size
    return parts


def parts_of(path: Path) -> list[Path]:
    """Name the zips of a bundle, of which one is given."""
    found = PART.fullmatch(path.name)
    if not found or int(found[2]) > int(found[3]):
        return [path]
    return [path.with_name(f"{found[1]}{number}-of-{found[3]}.zip") for number in range(1, int(found[3]) + 1)]
