"""Outside judges find nothing in the repository, the library and generated projects, and find what is planted there."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from .baking import SOURCE, TEMPLATE, bake
from .crates import VALIDATORS
from .structure import LIBRARY
from .updating import copy_template

CODE = {"template": "vendoring.py", "library": "src/samebits/share.py", "github": "src/handwritten_digits/panels.py"}
WORKFLOW = ".github/workflows/ci.yml"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copy what Git would keep of the repository, and generate a project for each host."""
    folder = tmp_path_factory.mktemp("judges")
    projects = {ci: bake(folder / ci, {"ci": ci}).project for ci in ("github", "gitlab")}
    template = copy_template(folder / "template")
    return {"template": template, "library": template / "library", **projects}


def judge(program: str, place: Path, *words: str) -> list[str]:
    """Return the lines in which a judge finds fault with what lies in a folder."""
    tool = VALIDATORS / program
    if not tool.exists():
        pytest.skip(f"no {program}: make .venv-validators/.installed")
    done = subprocess.run([tool, *words], cwd=place, capture_output=True, text=True)
    assert "no audit was performed" not in done.stderr, done.stderr
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).splitlines() if done.returncode else []


def layout(place: Path) -> list[str]:
    """List the checks of repo-review that fail; what a place ignores stands in its pyproject.toml, with the reason."""
    text = "\n".join(judge("repo-review", place, ".", "--format", "json", "--stderr", "json"))
    checks = json.JSONDecoder().raw_decode(text)[0]["checks"] if text else {}
    return [name for name, check in checks.items() if check["result"] is False]


def undeclared(place: Path) -> list[str]:
    return [found[0] for line in judge("deptry", place, ".") if (found := re.search(r"DEP00\d '\w+'", line))]


def workflows(place: Path) -> list[str]:
    return judge("zizmor", place, "--offline", "--no-progress", "--persona=auditor", ".")


def images(place: Path) -> list[str]:
    return judge("hadolint", place, "Dockerfile", ".binder/Dockerfile")


def metadata(place: Path) -> list[str]:
    return judge("validate-pyproject", place, "pyproject.toml")


JUDGED: dict[Callable[[Path], list[str]], tuple[str, ...]] = {
    layout: ("template", "library", "github", "gitlab"),
    undeclared: ("template", "library", "github"),
    metadata: ("template", "library", "github"),
    workflows: ("template", "github"),
    images: ("github",),
}


@pytest.mark.parametrize(
    ("check", "name"),
    [pytest.param(check, name, id=f"{check.__name__}-{name}") for check, names in JUDGED.items() for name in names],
)
def test_judges_find_nothing(check: Callable[[Path], list[str]], name: str, places: dict[str, Path]) -> None:
    assert check(places[name]) == []


PLANTED = [
    *((undeclared, name, path, "\n\nimport of_nobody\n", "DEP001 'of_nobody'") for name, path in CODE.items()),
    (undeclared, "library", "tests/test_share.py", "\n\nimport of_nobody\n", "DEP001 'of_nobody'"),
    (layout, "template", ".github/dependabot.yml", None, "GH200"),
    (layout, "library", "pyproject.toml", ("xfail_strict = true\n", ""), "PP305"),
    (layout, "github", "pyproject.toml", ("[dependency-groups]", "[tool.groups]"), "PP006"),
    (layout, "github", WORKFLOW, ("  workflow_dispatch:", "  # no button:"), "GH103"),
    (metadata, "github", "pyproject.toml", ("requires-python", "requires-pythons"), "requires-pythons"),
    (workflows, "template", WORKFLOW, ("persist-credentials: false", "persist-credentials: true"), "artipacked"),
    (workflows, "github", WORKFLOW, ("permissions:\n  contents: read\n", "permissions: write-all\n"), "permissions"),
    (workflows, "github", WORKFLOW, (re.compile("actions/cache@[0-9a-f]+"), "actions/cache@v5"), "unpinned-uses"),
    (images, "github", "Dockerfile", ("USER 1000:1000\n", "USER root\n"), "DL3002"),
    (images, "github", ".binder/Dockerfile", ("# hadolint ignore=DL3008\n", ""), "DL3008"),
]


@pytest.mark.parametrize(
    ("check", "name", "path", "edit", "found"), [pytest.param(*case, id=f"{case[-1]}-{case[1]}") for case in PLANTED]
)
def test_judges_find_what_is_planted(
    check: Callable[[Path], list[str]],
    name: str,
    path: str,
    edit: str | tuple[str | re.Pattern[str], str] | None,
    found: str,
    places: dict[str, Path],
) -> None:
    file = places[name] / path
    kept = file.read_bytes()
    text = kept.decode()
    try:
        if edit is None:
            file.unlink()
        elif isinstance(edit, str):
            file.write_text(text + edit)
        else:
            old, new = edit
            changed = old.sub(new, text) if isinstance(old, re.Pattern) else text.replace(old, new)
            assert changed != text
            file.write_text(changed)
        assert any(found in line for line in check(places[name]))
    finally:
        file.write_bytes(kept)


def test_both_workflows_have_the_same_actions() -> None:
    """Dependabot renews those of the repository; those that projects get are copied by hand."""
    mine, theirs = (
        dict(re.findall(r"uses: (\S+)@(.+)", (folder / WORKFLOW).read_text())) for folder in (TEMPLATE, SOURCE)
    )
    assert mine and mine == {name: theirs[name] for name in mine}


def names(lines: list[str]) -> set[str]:
    """Reduce requirements to the names of packages."""
    return {found[0] for line in lines if (found := re.match(r"[a-z0-9._-]+", line.lower()))} - {"samebits"}


def declared(pyproject: str) -> set[str]:
    table = tomllib.loads(pyproject)
    project = table["project"]
    groups = [*project["optional-dependencies"].values(), *table["dependency-groups"].values()]
    return names([*project["dependencies"], *(line for group in groups for line in group)])


def locked(*files: Path) -> set[str]:
    return names([line for file in files for line in file.read_text().splitlines() if "==" in line])


def test_what_is_declared_is_locked(places: dict[str, Path]) -> None:
    """`make lock` was run after the last edit of a list, or the package was there before."""
    of_library = [LIBRARY / f"{name}.txt" for name in ("hypothesis", "lightning", "schemathesis")]
    locks = [*(SOURCE / "requirements").glob("*.txt"), *of_library]
    for place in ("library", "github"):
        text = (places[place] / "pyproject.toml").read_text()
        assert declared(text) and declared(text) - locked(*locks) == set()
        assert declared(text.replace('"numpy', '"of-nobody')) - locked(*locks) == {"of-nobody"}  # the control
    for name in ("requirements", "validators"):
        wanted = names((TEMPLATE / f"{name}.in").read_text().splitlines())
        assert wanted and wanted - locked(TEMPLATE / f"{name}.txt") == set()
