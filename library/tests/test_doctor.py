"""What the doctor finds, and what it does not: attacks on what is installed, computers, runs, its command."""

from __future__ import annotations

from pathlib import Path

import pytest

from .attack import Attack
from .attacks_installed import CASES


@pytest.mark.parametrize("attack", CASES, ids=lambda attack: attack.name)
def test_what_is_installed(attack: Attack, tmp_path: Path) -> None:
    attack.check(tmp_path)
