"""The tables of docs/performance.md."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .rows import Row

BEGIN, END = "<!-- make bench writes from here -->", "<!-- to here -->"
HEAD = ("", "measured against", "here", "ratio (least to most)", "goal", "met")


def write_tables(path: Path, machine: Mapping[str, Any], found: Mapping[str, Sequence[Row]]) -> None:
    """Put the tables in the place of those that are there; the text around them stays."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    parts = [f"{about}; medians, least and most in brackets.", *(table(name, rows) for name, rows in found.items())]
    path.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}")


def title(name: str) -> str:
    """Return the first line of a comparison's own description."""
    described = importlib.import_module(f".{name}", __package__).__doc__ or name
    return described.splitlines()[0].rstrip(".")


def table(name: str, rows: Sequence[Row]) -> str:
    """Write the rows of one comparison under its title."""
    lines = [HEAD, ("---",) * len(HEAD), *(row.cells() for row in rows)]
    return f"### {title(name)}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
