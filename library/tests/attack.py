"""One attack on a project or a run, of a kind that is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Attack:
    """A kind, a name, and a check that raises an AssertionError, given an empty folder."""

    kind: str
    name: str
    check: Callable[[Path], None]
