"""The library can be ejected, whole or not at all."""

from __future__ import annotations

import pytest

from .parsing import parse_toml
from .updating import Pair, commit, edit, git
from .wheels import write_wheel

LINE = '"samebits[search] @ {root:uri}/vendor/samebits-1.0.0-py3-none-any.whl"'


def test_ejection_unpacks_the_library_and_unhooks_the_wheel(pair: Pair) -> None:
    said = pair.eject()

    assert "samebits 1.0.0" in said and "make setup" in said
    assert (pair.project / "src/samebits/RECORD").read_text() == "samebits/__init__.py,sha256=abc,1\n"
    assert (pair.project / "src/samebits/cli/eject.py").exists()
    assert not (pair.project / "vendor").exists() and not (pair.project / "requirements/samebits.txt").exists()
    assert sorted(path.name for path in (pair.project / "src").iterdir()) == ["samebits", "tiny"]
    pyproject = parse_toml(pair.project / "pyproject.toml")
    project, tool = pyproject["project"], pyproject["tool"]
    expected = ["torch==2.13.0", "hydra-core<1.4,>=1.3.8", "tomli; python_version < '3.11'", "optuna<5,>=4.9"]
    assert project["dependencies"] == expected
    assert project["optional-dependencies"]["ray"] == ["ray<3,>=2.60; (sys_platform == 'linux')"]
    assert project["scripts"] == {"samebits": "samebits.cli:main"}
    assert "uv" not in tool and list(tool["hatch"]) == ["build"]
    assert tool["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/tiny", "src/samebits"]
    assert tool["ruff"]["extend-exclude"] == ["src/samebits"] and tool["mypy"]["exclude"] == ["^src/samebits/"]
    assert tool["ruff"]["lint"]["isort"]["known-third-party"] == ["samebits"]
    assert tool["mypy"]["overrides"] == [{"module": "samebits.*", "ignore_errors": True}]
    assert "ejected" in pair.eject(status=2)

    commit(pair.project)
    write_wheel(pair.source / "vendor", "1.1.0")
    edit(pair.source / "requirements/samebits.txt", "1.0.0", "1.1.0")
    edit(pair.source / "train.py", "line 30\n", "theirs\n")
    commit(pair.template)
    assert "is ejected" in pair.update()
    assert not (pair.project / "vendor").exists() and "theirs\n" in (pair.project / "train.py").read_text()


def test_other_sources_of_uv_stay(pair: Pair) -> None:
    pyproject = pair.project / "pyproject.toml"
    edit(pyproject, "[tool.uv.sources] # for uv\n", '[tool.uv.sources]\nother = { path = "other" }\n')
    pair.eject()
    assert parse_toml(pyproject)["tool"]["uv"] == {"sources": {"other": {"path": "other"}}}


@pytest.mark.parametrize(("old", "new"), [(f"    {LINE},\n", ""), ("packages", "package"), ("ray = ", "ray = [")])
def test_an_ejection_that_fails_changes_nothing(pair: Pair, old: str, new: str) -> None:
    pyproject = pair.project / "pyproject.toml"
    edit(pyproject, old, new)
    if "ray" not in old:
        edit(pyproject, 'ray = ["samebits[ray]"]\n', "")
    before = pyproject.read_text()
    assert pair.eject(status=2).startswith("error: ")
    assert pyproject.read_text() == before and not (pair.project / "src/samebits").exists()
    assert git(pair.project, "status", "--porcelain") == "M pyproject.toml"
