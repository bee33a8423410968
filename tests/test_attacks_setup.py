"""Whatever happens to a `make setup`, the next one ends well: some of tests/attacks_setup.py, which knows more."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import attacks_setup
from .attack import Attack, chosen

STEPS, ALL = attacks_setup.STEPS, attacks_setup.CASES
FEW = [*ALL[:STEPS:6], *ALL[STEPS : STEPS + 9 : 4], *ALL[STEPS + 9 : STEPS + 29 : 9], *ALL[STEPS + 29 : STEPS + 33]]
FETCHED, LAST = STEPS + 33, STEPS + 33 + attacks_setup.FETCHING
FEW += [*ALL[FETCHED:LAST:5], *ALL[LAST:]]


@pytest.mark.parametrize("attack", chosen(FEW, ALL, attacks_setup.REAL), ids=str)
def test_the_next_setup_ends_well(attack: Attack, tmp_path: Path) -> None:
    attack.check(tmp_path)


NOT_WHOLE = {'if [ -e "$VENV/.installed" ] && [': "if ["}
NO_OWN_UV = {'"$VENV/bin/uv" pip install': "uv pip install", '|| tools="$tools -r requirements/uv.txt"': "|| true"}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        (NOT_WHOLE, "killed at step 6"),  # pip is half there
        (NOT_WHOLE | {"uninstall $changed": "true"}, "killed at step 15"),  # a package is half there
        ({"| names |": "| sed d |"}, "a lock with its hash"),
        (NO_OWN_UV, "an evil uv: make setup"),
        ({'"$uv" python install': "false python install"}, "Python fetched, killed at step 1"),
        ({"; then uv=$aside/bin/uv; fi": "; then :; fi"}, "Python fetched, killed at step 1"),  # by a uv of the PATH
        ({"[ ! -d offline/wheels ] || . requirements/offline.sh": ":"}, "packages of a bundle, changed"),
        ({"fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)": "pass"}, "2 at once"),
    ],
)
def test_control(changes: dict[str, str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interruption left was built upon, another hash was not seen, and two at once built at the same time."""
    made = attacks_setup.Setup.__init__

    def unmended(self: attacks_setup.Setup, folder: Path) -> None:
        made(self, folder)
        script = self.path / "requirements/install.sh"
        text = script.read_text()
        for without, instead in changes.items():
            if without not in text:  # else than what is wanted below
                raise LookupError(without)
            text = text.replace(without, instead)
        script.write_text(text)

    monkeypatch.setattr(attacks_setup.Setup, "__init__", unmended)
    (attack,) = [attack for attack in attacks_setup.CASES if attack.name == name]
    with pytest.raises(AssertionError):
        attack.check(tmp_path)
