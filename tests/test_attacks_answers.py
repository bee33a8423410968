"""Answers that cannot work are refused and all others work: some of tests/attacks_answers.py, which knows more."""

from __future__ import annotations

from pathlib import Path

import pytest

import answer_rules

from . import attack as attack_module
from . import attacks_answers
from .attack import Attack, chosen
from .attacks_answers import REFUSED, TYPED, Answers, is_accepted
from .baking import TEMPLATE

ALL, ODD = attacks_answers.CASES, len(REFUSED) + len(TYPED)
FEW = [*ALL[: len(REFUSED) : 16], *ALL[len(REFUSED) : ODD : 3], *ALL[ODD : ODD + 6]]
DEFAULTS = {
    **{"project_name": "Sea Ice", "project_slug": "sea-ice", "package_name": "sea_ice", "description": ""},
    **{"author_name": "Ada", "author_email": "ada@example.org", "github_owner": "ada", "license": "MIT"},
    **{"python_version": "3.11", "ci": "none", "dvc_remote": ""},
}


@pytest.mark.parametrize(("answers", "part"), REFUSED)
def test_the_rules_name_what_is_wrong(answers: Answers, part: str) -> None:
    derived = {"package_name": answers.get("project_slug", "sea-ice").replace("-", "_").lower()}
    sentence = answer_rules.refusal({**DEFAULTS, **derived, **answers})
    assert sentence and part in sentence


@pytest.mark.parametrize("attack", chosen(FEW, ALL, attacks_answers.REAL), ids=str)
def test_what_is_refused_leaves_nothing_and_what_is_accepted_works(attack: Attack, tmp_path: Path) -> None:
    attack.check(tmp_path)


@pytest.mark.parametrize("field", ["license", "ci", "python_version", "__checked"])
def test_choices_and_the_check_itself_are_no_way_around(field: str, tmp_path: Path) -> None:
    answers = {field: "yes", "package_name": "torch" if field == "__checked" else "mine"}
    attacks_answers.is_refused(answers, "package_name: " if field == "__checked" else f"{field}: 'yes'", tmp_path)


def test_control_without_the_rules_the_files_do_not_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of files find what the rules keep out."""
    project = is_accepted({"dvc_remote": "s3://bucket/x"}, tmp_path)
    config = project / ".dvc/config"
    config.write_text(config.read_text().replace("bucket/x", "bucket/%(x)s"))
    with pytest.raises(AssertionError):
        attacks_answers.url_of(project)
    monkeypatch.setattr(answer_rules, "SLUG", ".+")
    assert answer_rules.refusal({**DEFAULTS, "project_slug": "a-_b"}) is None


def test_attacks_are_the_same_in_both_houses() -> None:
    assert Path(attack_module.__file__).read_bytes() == (TEMPLATE / "library/tests/attack.py").read_bytes()
