"""What a training touched besides its inputs, as a record has it: in five lines, and as causes of other results."""

from __future__ import annotations

from pathlib import Path

from ..engine import access_log
from ..engine.inputs import named_paths
from ..engine.record import Record
from .provenance_diff import NOTHING, Difference

MOST_NAMES = 8  # in one line


def five_lines(record: Record) -> list[tuple[str, str]]:
    """Describe it in five lines, each with its label: files, folders, variables, addresses, programs."""
    environment, observed = record["environment"], record["observed"].get("touched", {})
    variables, addresses = environment.get("asked", {}).items(), observed.get("addresses", {}).items()
    lines = {
        "outside": list(record["inputs"].get("outside", {})),
        "listed": list(environment.get("listed", {})),
        "variables": [
            name.replace(access_log.ALL, "all of them") + (" (not set)" if value == "not set" else "")
            for name, value in variables
        ],
        "addresses": [name if who == access_log.TRAINING else f"{name} ({who})" for name, who in addresses],
        "programs": observed.get("programs", []),
    }
    return [(label, _few(names, MOST_NAMES)) for label, names in lines.items()]


def _few(names: list[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")


def unrecorded_answers(record: Record) -> list[str]:
    """Say, in a sentence each, which addresses the training asked, and that it asked for the time of day."""
    observed = record["observed"]
    asked, clock = access_log.unrecorded(observed.get("touched", {})), observed.get("clock") or []
    found = [f"the training asked {_few(asked, 3)}, whose answers are not recorded"] if asked else []
    return found + ([f"the training asked for the time of day: {_few(clock, 2)}"] if clock else [])


def causes(record: Record, environment: list[Difference]) -> list[str]:
    """Say, of what differs in the environment, which variables and folders the code saw otherwise; and what it started.

    Args:
        record: the run's.
        environment: how it differs from the re-run's.
    """
    found = []
    for row, mine, theirs in environment:
        kind, _, name = row.partition(".")
        if kind == "asked" and name != access_log.ALL:
            found.append(f"the environment variable {name}, which the code asks for, is not as it was recorded")
        elif kind == "listed" and NOTHING not in (mine, theirs):
            same_names = mine.split()[0] == theirs.split()[0]
            how = "was listed in another order than" if same_names else "holds other files than"
            found.append(f"the folder {name} {how} it was recorded with")
    programs = record["observed"].get("touched", {}).get("programs", [])
    started = f"the training started {_few(programs, 3)}, and what such programs read is not recorded"
    return [*found, started] if programs else found


def link_outside(record: Record, root: Path, tree: Path) -> None:
    """Bring what the run read besides its data, and files that its settings name, into a tree of its code.

    Args:
        record: the run's.
        root: of the project, which may have them.
        tree: as Git has it.
    """
    inputs = record["inputs"]
    names = {path.relative_to(root).as_posix() for path in named_paths(inputs) if path.is_relative_to(root)}
    for name in names | {name for name in inputs.get("outside", {}) if not name.startswith(("~", "/", "..."))}:
        if (root / name).is_file() and not (tree / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).symlink_to((root / name).resolve())
