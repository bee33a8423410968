"""Put one run and all that it was made of into one file: `python -m <package>.bundle [RUN]`, or `make bundle`."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from .about import read_project
from .cli import run_with_arguments
from .config import ROOT
from .errors import UserError
from .repro.record import RECORD
from .saved import MAIN, newest_run

DIST = ROOT / "dist"


def bundle(run: Path, with_data: bool = True, folder: Path = DIST, root: Path = ROOT) -> tuple[Path, int, list[str]]:
    """Write the bundle of a run; the same files give the same bytes.

    Args:
        run: its directory, or the published copy.
        with_data: whether the data go in; else their address and sha256.
        folder: where to.
        root: of the project whose data and reports they are.

    Returns:
        The zip, the number of files in it, and what is not in it as it is here, each as a sentence.

    Raises:
        UserError: the run cannot be bundled.
    """
    from .bundling import crate
    from .bundling.archive import write_zip
    from .bundling.contents import collect

    with tempfile.TemporaryDirectory(prefix="bundle-") as staging:
        tree = Path(staging) / "tree"
        contents = collect(run, tree, with_data, root)
        project = read_project(tree)
        described = Path(staging) / crate.METADATA
        described.write_bytes(crate.describe(contents, project, with_data))
        contents.files[crate.METADATA] = described
        top = f"{project.slug}-{contents.record['run']}" + ("" if with_data else "-without-data")
        path = folder / f"{top}.zip"
        write_zip(path, top, contents.files, contents.record["observed"]["ended"])
    return path, len(contents.files), contents.told


def main(arguments: argparse.Namespace) -> None:
    """Write it, and say what it is good for."""
    run: Path = arguments.run or (MAIN if (MAIN / RECORD).exists() else newest_run())
    if run.is_file():
        raise UserError(f"{run} is a file: name the folder of a run; ls models/ lists them.")
    path, number, told = bundle(run, not arguments.without_data)
    for sentence in told:
        print(f"note: {sentence}.")
    print(f"{os.path.relpath(path)}: {path.stat().st_size:,} bytes, {number} files")
    print("Next: upload it, to Zenodo for example; ro-crate-metadata.json in it says what each file is.")
    print("A stranger unzips it and types `make reproduce` there, with Python and make; neither Git nor your storage")
    print("is needed.")
    if arguments.without_data:
        print("The data are not in it: `make reproduce` fetches them first, and checks their sha256.")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        prog="python -m <package>.bundle",
        description="Put a run with its code, settings, locks, data, weights and verdicts into dist/<run>.zip.",
    )
    described.add_argument("run", nargs="?", type=Path, help="folder of a run (default: the main run)")
    described.add_argument(
        "--without-data", action="store_true", help="name large or unfree data by address and sha256 alone"
    )
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
