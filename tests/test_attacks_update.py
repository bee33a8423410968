"""Whenever a `make update` is killed, the next one ends well: some of tests/attacks_update.py, which knows more."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from . import attacks_update, wheels
from .attack import Attack, chosen
from .updating import edit, git


@pytest.mark.parametrize("attack", chosen(attacks_update.CASES[1:5], attacks_update.CASES), ids=str)
def test_the_next_update_ends_well(attack: Attack, tmp_path: Path) -> None:
    attack.check(tmp_path)


def test_what_was_edited_since_is_not_overwritten(tmp_path: Path) -> None:
    project = attacks_update.copied(tmp_path)
    attacks_update.cut_off_between_files(project)
    edit(project / "README.md", "line 3\n", "edited since\n")
    again = attacks_update.start(project)
    said, _ = again.communicate(timeout=attacks_update.PATIENCE)
    assert again.returncode == 2 and "README.md was edited after an update was cut off: move it away" in said, said
    (project / "README.md").rename(tmp_path / "README.md")
    again = attacks_update.start(project)
    said, _ = again.communicate(timeout=attacks_update.PATIENCE)
    assert again.returncode == 0 and "The update that was cut off is at its end" in said, said
    assert git(project, "rev-parse", "HEAD^{tree}") == attacks_update.expected()[0]


def test_control_git_by_itself_leaves_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while Git itself writes the files, it leaves a lock, and no library that could begin again."""
    monkeypatch.setattr(attacks_update, "older", cache(attacks_update.older.__wrapped__))
    monkeypatch.setattr(wheels, "CHANGES", {"if not _in_the_way(": "if False and not _in_the_way("})
    project = attacks_update.copied(tmp_path)
    attacks_update.cut_off_between_files(project)
    assert (project / ".git/index.lock").exists() and not [*project.glob("vendor/*.whl")]
    with pytest.raises(AssertionError, match="no wheel from which the next update could start"):
        attacks_update.kept(project)
