"""Search for good settings: `make search`, or `python -m <package>.search search=default`.

What varies, how it is chosen and what is given up early stands in configs/search/. Every trial is an ordinary run with
a record: what is trained already is taken as it is, and what was cut off goes on. With one worker, the same search
makes the same trials, however often it was killed.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .cli import run_with_arguments
from .config import ROOT
from .sweep import jobs_at_once
from .sweeping.places import GOES_ON

LOGS = Path(".cache/search")  # in the project's folder


def search(words: list[str], workers: int = 1) -> int:
    """Try settings until all trials have an answer, and write the page; return the exit status: 0, or 1 if any failed.

    Args:
        words: settings; those that begin with `search` are the search's, the others every training's.
        workers: trials at once.

    Raises:
        UserError: a setting is wrong, or the storage has a search of this name with other settings.
    """
    # here, because Optuna takes a while to load, and --help does not need it
    from .about import read_project
    from .searching.results import Results, results
    from .searching.screen import Screen
    from .searching.settings import read_search
    from .searching.study import Study
    from .searching.table import write_table
    from .searching.told import conclusion, introduction
    from .searching.worker import Workers

    settings = read_search(words)
    study = Study(settings)
    root = Path(settings.base.paths.root)

    def found() -> Results:
        return results(settings, study.trials())

    def announce() -> None:
        with study.turn():
            write_table(root / "reports", found())

    at_work = Workers(study, workers, root / LOGS, announce)
    print(introduction(found(), workers), flush=True)
    Screen(study, at_work).follow(at_work.run, lambda: GOES_ON)
    from .reporting.search import write_search  # here, because it loads matplotlib

    with study.turn():  # one page at a time, and the last one has all
        last = found()
        page = write_search(root, last, read_project(ROOT))
    print(conclusion(last))
    print(f"{os.path.relpath(page)}: open it in a browser; beside it {page.stem}.csv, and figures in {page.stem}/")
    return 1 if last.count("failed") else 0


def main(arguments: argparse.Namespace) -> None:
    """Search, and leave with the exit status."""
    os.chdir(ROOT)
    raise SystemExit(search(arguments.settings, jobs_at_once(arguments.jobs) or 1))


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        prog="python -m <package>.search",
        description="Search for good settings; every trial is a run, what is trained is not trained again.",
        epilog="Exit status: 0 all trials have an answer, 1 a training failed, 2 a setting is wrong, 130 interrupted.",
    )
    described.add_argument(
        "settings", nargs="*", help="search=<name> search.trials=50: the search's; model=mlp: every training's"
    )
    described.add_argument("--jobs", metavar="N", help="workers (default: 1, with which the search is reproducible)")
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
