"""Each combination of answers gives exactly the files that it should, and every file parses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .baking import TEMPLATE, bake, files_of
from .parsing import parse, parse_toml, parse_yaml

EXPECTED = (TEMPLATE / "tests/expected_files.txt").read_text().split()
LONG_ANSWER = dict(description="An experiment", author_name="Ada Lovelace", author_email="ada@example.org")

GITHUB = {".github/workflows/ci.yml", ".github/dependabot.yml"}
COMBINATIONS: dict[str, tuple[dict[str, str], set[str]]] = {
    "defaults": ({}, GITHUB),
    "gitlab": ({"ci": "gitlab", "license": "Apache-2.0", "project_name": "Sea Ice"}, {".gitlab-ci.yml"}),
    "no ci": ({"ci": "none", "license": "GPL-3.0-or-later", "package_name": "x1_2"}, set()),
    "own remote": ({"dvc_remote": "ssh://me@server:2222/dvc", "license": "BSD-3-Clause"}, GITHUB),
    "closed": ({"license": "Proprietary", "dvc_remote": "/mnt/share/dvc store"}, GITHUB),
    "long": ({**LONG_ANSWER, "project_name": "A " + "very " * 40 + "long name"}, GITHUB),
}


@pytest.fixture(scope="module", params=COMBINATIONS)
def combination(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str], set[str]]:
    answers, files = COMBINATIONS[request.param]
    return bake(tmp_path_factory.mktemp("baked") / "out", answers).project, answers, files


def test_exactly_the_expected_files(combination: tuple[Path, dict[str, str], set[str]]) -> None:
    project, answers, files = combination
    package = answers.get("package_name") or project.name.replace("-", "_").lower()
    expected = {name.replace("<package>", package) for name in EXPECTED} | files
    assert {path.relative_to(project).as_posix() for path in files_of(project)} == expected


def test_every_file_parses_and_no_template_tag_is_left(combination: tuple[Path, dict[str, str], set[str]]) -> None:
    project, _, _ = combination
    for path in files_of(project):
        parse(path)
        if path.suffix == ".whl":
            continue
        text = path.read_text(encoding="utf-8")
        assert "cookiecutter" not in text or path.name == ".cruft.json", path
        left = re.findall(r"(?<!\$)\{\{ |\{%|\{#", text) if path.suffix not in (".py", ".html") else []
        assert not left, f"{path}: {left}"


def test_the_answers_arrive(combination: tuple[Path, dict[str, str], set[str]]) -> None:
    project, answers, _ = combination
    pyproject = parse_toml(project / "pyproject.toml")["project"]
    licence = answers.get("license", "MIT")
    assert pyproject["name"] == project.name
    assert pyproject["license"] == ("LicenseRef-Proprietary" if licence == "Proprietary" else licence)
    first_words = {
        "MIT": "MIT License",
        "Apache-2.0": "Apache License",
        "GPL-3.0-or-later": "GNU GENERAL PUBLIC LICENSE",
        "BSD-3-Clause": "BSD 3-Clause License",
        "Proprietary": "Copyright",
    }
    assert (project / "LICENSE").read_text().strip().startswith(first_words[licence])
    citation = parse_yaml(project / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["title"]
    assert ("license" in citation) == (licence != "Proprietary")
    assert answers.get("dvc_remote", "") in (project / ".dvc/config").read_text()
    assert ("remote" in (project / ".dvc/config").read_text()) == bool(answers.get("dvc_remote"))


def test_the_project_starts_with_one_commit_and_a_clean_tree(
    combination: tuple[Path, dict[str, str], set[str]],
) -> None:
    project, _, _ = combination

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=project, capture_output=True, text=True, check=True).stdout

    assert git("rev-list", "--count", "HEAD").strip() == "1"
    assert git("status", "--porcelain") == ""
    assert git("branch", "--show-current").strip() == "main"
    assert ".env" not in git("ls-files").split()
    assert not (project / ".env").exists()


def test_the_parsers_can_fail(tmp_path: Path) -> None:
    for name, text in {
        "a.py": "def f(:",
        "a.toml": 'a = "\\ud83d"',
        "a.yaml": "a: 'b",
        "a.json": "{'a': 1}",
        "a.sh": "if then",
        "a.txt": "package==1.0",
        "samebits.txt": "./vendor/samebits-1.0.0-py3-none-any.whl",
        "a.whl": "not a zip",
        "Makefile": "help:\n    spaces instead of a tab",
        "Dockerfile": "FORM python",
        "a.unknown": "",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises((AssertionError, KeyError)):
            parse(tmp_path / name)
