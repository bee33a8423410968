"""The processes of a training: what becomes of all, when one of them ends badly."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from .project import module

Processes = module("samebits.engine.distributed").Processes
SECOND_FAILS = "import os, sys, time; sys.exit(3) if os.environ['RANK'] == '1' else time.sleep({seconds})"


@pytest.mark.parametrize(
    ("seconds", "status", "said"), [(60, 1, "error: process 1 (of 2"), (0, 0, "warning: process 1")]
)
def test_one_that_fails_counts_unless_all_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: int, status: int, said: str
) -> None:
    """The first process writes everything: whether it had come to its end decides."""
    command = [sys.executable, "-c", SECOND_FAILS.format(seconds=seconds)]
    assert Processes(command, tmp_path, dict(os.environ), 2).run() == status
    assert capsys.readouterr().err.startswith(said)
