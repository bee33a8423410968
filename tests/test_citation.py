"""CITATION.cff is valid by the format's own schema, whatever the answers; GitHub and Zenodo read nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .baking import TEMPLATE, bake
from .test_answers import TEXTS

VALIDATOR = TEMPLATE / ".venv-validators/bin/cffconvert"
LICENCES = ("MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0-or-later", "Proprietary")


def invalid(path: Path) -> str:
    """Return what the validator complains of, or nothing."""
    assert VALIDATOR.exists(), "the validators are missing: make .venv-validators/.installed"
    done = subprocess.run([VALIDATOR, "--validate", "-i", path], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert ("are valid according to schema version 1.2.0" in said) == (done.returncode == 0), said
    return said if done.returncode else ""


@pytest.mark.parametrize("ci", ["github", "gitlab"])
@pytest.mark.parametrize("licence", LICENCES)
def test_the_citation_is_valid_with_every_licence(licence: str, ci: str, tmp_path: Path) -> None:
    project = bake(tmp_path / "out", {"license": licence, "ci": ci, "github_owner": "group/sub.group"}).project
    assert not invalid(project / "CITATION.cff")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_citation_is_valid_with_any_text(text: str, tmp_path: Path) -> None:
    answers = {"project_name": text, "description": text, "author_name": text, "project_slug": "my-work"}
    assert not invalid(bake(tmp_path / "out", answers).project / "CITATION.cff")


def test_an_empty_description_leaves_a_valid_citation(tmp_path: Path) -> None:
    assert not invalid(bake(tmp_path / "out", {"description": ""}).project / "CITATION.cff")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("type: software", "type: program"),
        ("title: ", "titel: "),
        ("license: MIT", "license: MIT-like"),
        ("10.24432/C50P49", "https://doi.org/10.24432/C50P49"),
        ("authors:\n  - name", "authors:\n  - nickname"),
    ],
)
def test_the_validator_can_say_no(old: str, new: str, tmp_path: Path) -> None:
    path = bake(tmp_path / "out").project / "CITATION.cff"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    assert invalid(path)
