"""What would keep a run from being reproduced here: `samebits doctor [RUN]`."""

from __future__ import annotations

from dataclasses import dataclass

OK, ATTENTION, PROBLEM = "ok", "attention", "problem"  # a problem keeps a run from being reproduced


@dataclass(frozen=True)
class Check:
    """What was looked at, and what was found there."""

    section: str
    what: str
    found: str
    mark: str = OK
    mend: str = ""  # the command; empty where there is none
