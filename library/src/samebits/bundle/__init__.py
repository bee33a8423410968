"""Put one run and all that it was made of into one zip: `samebits bundle [RUN]`, or `make bundle`.

The same files give the same bytes, whole or not at all.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from ..engine.errors import UserError, require_packages
from ..engine.files import DISK_FULL, replace_atomically
from ..engine.project import project
from ..engine.record import RECORD
from ..engine.run_loader import main_run, newest_run
from ..report.documents import read_project

BLOCK = 2**20  # bytes
SLOW = 100_000_000  # bytes from which on a progress bar is shown
PACKED = (".gz", ".zip", ".whl", ".xz", ".zst", ".png", ".jpg", ".jpeg", ".pdf", ".safetensors")  # do not get smaller


def write_zip(path: Path, top: str, files: Mapping[str, Path], ended: str) -> None:
    """Write a zip whose bytes follow from the files alone: sorted, all of one time, permissions of a few kinds.

    It unpacks to the folder `top`; `files` are read from where they say, by their path in that folder, and get the time
    `ended`, as the record writes it: `2026-01-31T12:00:00Z`.
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
                entry = zipfile.ZipInfo(f"{top}/{name}", when)  # type: ignore[arg-type] # six numbers
                entry.create_system = 3  # Unix, wherever it is written
                entry.external_attr = (
                    stat.S_IFREG | (0o755 if mode & 0o100 else 0o644 if mode & 0o200 else 0o444)
                ) << 16
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


def bundle(
    run: Path, with_data: bool = True, folder: Path | None = None, root: Path | None = None
) -> tuple[Path, int, list[str]]:
    """Write the bundle of a run (its directory, or the published copy) into a folder, by default dist/ of the project.

    Returns:
        The zip, the number of files in it, and what is not in it as it is here, each as a sentence.
    """
    require_packages("bundle", "rocrate")
    from . import contents, crate

    root = root or project().root
    with tempfile.TemporaryDirectory(prefix="bundle-") as staging:
        tree, description = Path(staging) / "tree", Path(staging) / crate.METADATA
        collected = contents.collect(run, tree, with_data, root)
        metadata = read_project(tree)
        description.write_bytes(crate.describe(collected, metadata, with_data))
        files = collected.files | {crate.METADATA: description}
        top = f"{metadata.slug}-{collected.record['run']}" + ("" if with_data else "-without-data")
        path = (folder or root / "dist") / f"{top}.zip"
        write_zip(path, top, files, collected.record["observed"]["ended"])
    return path, len(files), collected.remarks


def main(arguments: argparse.Namespace) -> None:
    """Write it, and say what it is good for."""
    run: Path = arguments.run or (main_run() if (main_run() / RECORD).exists() else newest_run())
    if run.is_file():
        raise UserError(f"{run} is a file: name the folder of a run; ls models/ lists them.")
    path, number, remarks = bundle(run, not arguments.without_data)
    for sentence in remarks:
        print(f"note: {sentence}.")
    print(f"{os.path.relpath(path)}: {path.stat().st_size:,} bytes, {number} files")
    print("Next: upload it, to Zenodo for example; ro-crate-metadata.json in it says what each file is.")
    print("A stranger unzips it and types `make reproduce` there, with Python and make; neither Git nor your storage")
    print("is needed.")
    if arguments.without_data:
        print("The data are not in it: `make reproduce` fetches them first, and checks their sha256.")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    text = "Put a run with its code, settings, locks, data, weights and verdicts into dist/<run>.zip."
    described = argparse.ArgumentParser(description=text)
    described.add_argument("run", nargs="?", type=Path, help="folder of a run (default: the main run)")
    text = "name large or unfree data by address and sha256 alone"
    described.add_argument("--without-data", action="store_true", help=text)
    return described
