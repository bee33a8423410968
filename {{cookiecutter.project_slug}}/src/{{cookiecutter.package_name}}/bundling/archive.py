"""Writing the zip: the same files give the same bytes, whole or not at all."""

from __future__ import annotations

import re
import stat
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import Progress

from ..errors import UserError
from ..repro.files import DISK_FULL, replace_atomically

BLOCK = 2**20  # bytes
SLOW = 100_000_000  # bytes from which on a progress bar is shown
PACKED = (".gz", ".zip", ".xz", ".zst", ".png", ".jpg", ".jpeg", ".pdf", ".safetensors")  # do not get smaller


def write_zip(path: Path, top: str, files: Mapping[str, Path], ended: str) -> None:
    """Write a zip whose bytes follow from the files alone: sorted, all of one time, permissions of a few kinds.

    Args:
        path: of the zip.
        top: the one folder that it unpacks to.
        files: where each one is read from, by its path in that folder.
        ended: the time that all of them get, as the record writes it: `2026-01-31T12:00:00Z`.

    Raises:
        UserError: there is no room for it.
    """
    year, *rest = map(int, re.findall(r"\d+", ended)[:6])
    when = (max(year, 1980), *rest)  # a zip knows no earlier year
    path.parent.mkdir(parents=True, exist_ok=True)
    total = sum(source.stat().st_size for source in files.values())

    def write(file: IO[bytes]) -> None:
        with (
            zipfile.ZipFile(file, "w") as archive,
            Progress(console=Console(file=sys.stderr), transient=True, disable=total < SLOW) as progress,
        ):
            task = progress.add_task("Writing", total=total)
            for name, source in sorted(files.items()):
                with source.open("rb") as content, archive.open(_described(f"{top}/{name}", source, when), "w") as copy:
                    while block := content.read(BLOCK):
                        copy.write(block)
                        progress.advance(task, len(block))

    try:
        replace_atomically(path, write)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(f"{path} cannot be written ({error.strerror}): make room, then `make bundle` again.") from error


def _described(name: str, source: Path, when: tuple[int, ...]) -> zipfile.ZipInfo:
    """Describe a file; which of its permissions count: whether it is a program, and whether it may be written to."""
    mode = source.stat().st_mode
    described = zipfile.ZipInfo(name, when)  # type: ignore[arg-type] # six numbers
    described.create_system = 3  # Unix, wherever it is written
    described.external_attr = (stat.S_IFREG | (0o755 if mode & 0o100 else 0o644 if mode & 0o200 else 0o444)) << 16
    described.compress_type = zipfile.ZIP_STORED if name.endswith(PACKED) else zipfile.ZIP_DEFLATED
    described.file_size = source.stat().st_size  # from this, zipfile knows whether the large format is needed
    return described
