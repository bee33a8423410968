"""One attack on a project or a run, of a kind that is counted; `python -m tests.attacks` of the template tries all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Attack:
    """A kind, a name, and a check that raises an AssertionError, given an empty folder."""

    kind: str
    name: str
    check: Callable[[Path], None]

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def chosen(few: Sequence[Attack], everything: Sequence[Attack], real: Sequence[Attack] = ()) -> list[Attack]:
    """Choose what a test tries: a few; all where the variable ATTACKS is `all`, what is slow where it is `real`."""
    return list({"all": everything, "real": real}.get(os.environ.get("ATTACKS", ""), few))
