"""Whatever happens to a `make setup`, the next one ends well: some of tests/attacks_setup.py, which knows more."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import attacks_setup
from .attack import Attack, chosen

STEPS, ALL = attacks_setup.STEPS, attacks_setup.CASES
FEW = [*ALL[:STEPS:6], *ALL[STEPS : STEPS + 8 : 4], *ALL[STEPS + 8 : STEPS + 28 : 9], *ALL[STEPS + 28 :]]


@pytest.mark.parametrize("attack", chosen(FEW, ALL, attacks_setup.REAL), ids=str)
def test_the_next_setup_ends_well(attack: Attack, tmp_path: Path) -> None:
    attack.check(tmp_path)


@pytest.mark.parametrize(
    ("without", "instead", "name"),
    [
        ('if [ -e "$VENV/.installed" ] && [', "if [", "killed at step 6"),  # pip is half there
        ('if [ -e "$VENV/.installed" ] && [', "if [", "killed at step 13"),  # a package is half there
        ("fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass", "2 at once"),
    ],
)
def test_control(without: str, instead: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interruption left was built upon, and two at once built at the same time."""
    made = attacks_setup.Setup.__init__

    def unmended(self: attacks_setup.Setup, folder: Path) -> None:
        made(self, folder)
        script = self.path / "requirements/install.sh"
        text = script.read_text()
        assert without in text
        script.write_text(text.replace(without, instead))

    monkeypatch.setattr(attacks_setup.Setup, "__init__", unmended)
    (attack,) = [attack for attack in attacks_setup.CASES if attack.name == name]
    with pytest.raises(AssertionError):
        attack.check(tmp_path)
