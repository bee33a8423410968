"""Share runs with others: `python -m <package>.share [RUN ...]`, or `make push`, or `make push RUN=models/<run>`.

Git then sees their texts, DVC their weights, and the DVC remote has these and the data.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .cli import run_with_arguments
from .config import ROOT
from .repro import source
from .repro.source import NoGit
from .sharing import remote
from .sharing import runs as shared

RESULTS = ("models", "shared", "dvc.lock", ".dvc")  # what a user commits after sharing


def main(arguments: argparse.Namespace) -> None:
    """Share the runs, send what the remote has not, and say what is to be done next."""
    try:
        source.text(ROOT, "rev-parse", "--show-toplevel")
    except NoGit as reason:
        raise remote.not_in_git(str(reason)) from reason
    with remote.opened() as repo:
        before = shared.listed()
        here = {name for name in before if (ROOT / "models" / name).is_dir()}
        names = here | (shared.named(arguments.runs) if arguments.runs else shared.finished())
        shared.check(names)
        with shared.written(names) as pointers, remote.one_sentence("DVC"):
            targets = [str(path) for path in pointers]
            changed = repo.status(targets) if targets else {}
            for path in pointers:
                if str(path.relative_to(ROOT)) in changed:
                    repo.commit(str(path), force=True)
            count = remote.push(repo)  # if this fails, nothing has been shared
        print(f"{'shared':<8}{len(names)} runs beside the main one, {len(names - before)} of them new")
        for name in sorted(before - names):
            print(f"{'gone':<8}{name}: its directory is no longer here")
        print(f"{'sent':<8}{count} files to {remote.address(repo)}")
    status = source.git(ROOT, "status", "--porcelain", "--", *RESULTS).decode()
    if status:
        paths = [path for path in RESULTS if f" {path}" in status]
        print(f"{'next':<8}git add --all {' '.join(paths)} && git commit")
    print(f"{'then':<8}git push && git push origin 'refs/runs/*' (the second sends the code of each run)")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(prog="python -m <package>.share", description=__doc__.split(":")[0])
    described.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="folder of a run, to be shared beside those that are (default: all finished runs but debug and reference)",
    )
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
