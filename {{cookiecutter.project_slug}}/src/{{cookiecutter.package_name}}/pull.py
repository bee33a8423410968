"""Fetch data and weights that others have shared: `python -m <package>.pull`, or `make pull`."""

from __future__ import annotations

import argparse

from .cli import run_with_arguments
from .sharing import remote


def main(arguments: argparse.Namespace) -> None:
    """Fetch what is not here, and say how much that was."""
    with remote.opened() as repo:
        changed = remote.pull(repo)
        for path in changed:
            print(f"{'new':<8}{path}")
        print(f"{'pulled':<8}{len(changed)} files and folders from {remote.address(repo)}; the others were here")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    return argparse.ArgumentParser(prog="python -m <package>.pull", description=__doc__.split(":")[0])


if __name__ == "__main__":
    run_with_arguments(main, parser())
