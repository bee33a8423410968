"""Print one of the library's configs, to be copied into the project: `samebits config determinism/portable`."""

from __future__ import annotations

import argparse
from importlib.resources import files

from ..engine.errors import UserError

CONFIGS = files("samebits.configs")


def names() -> list[str]:
    """List the configs that come with the library, as `determinism/portable`."""
    groups = [group for group in CONFIGS.iterdir() if group.is_dir() and not group.name.startswith("_")]
    return sorted(
        f"{group.name}/{each.name.removesuffix('.yaml')}"
        for group in groups
        for each in group.iterdir()
        if each.name.endswith(".yaml")
    )


def main(arguments: argparse.Namespace) -> None:
    """Print it.

    Raises:
        UserError: there is none of this name.
    """
    if arguments.name is None:
        print("\n".join(names()))
        return
    if arguments.name not in names():
        raise UserError(f"the library has no config {arguments.name!r}: choose from {', '.join(names())}.")
    print(CONFIGS.joinpath(f"{arguments.name}.yaml").read_text(encoding="utf-8"), end="")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        description="Print one of the library's configs, to be copied: a file of the same name in the project's"
        " configs/ wins over it."
    )
    described.add_argument("name", nargs="?", help="as determinism/portable (default: list them)")
    return described
