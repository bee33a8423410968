"""A template of a few files, a project that it made, and commands in them: for the tests of updates and ejection."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .baking import SOURCE, TEMPLATE, bake
from .wheels import write_wheel

HOME = {"HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
LINES = "".join(f"line {number}\n" for number in range(40))
PYPROJECT = """\
[project]
name = "tiny"
dependencies = [
    "torch==2.13.0",
    "samebits[search] @ {root:uri}/vendor/samebits-1.0.0-py3-none-any.whl",
]

[project.optional-dependencies]
ray = ["samebits[ray]"]

[tool.uv.sources] # for uv
samebits = { path = "vendor/samebits-1.0.0-py3-none-any.whl" }

[tool.hatch.metadata]
allow-direct-references = true # of the library

[tool.hatch.build.targets.wheel]
packages = ["src/tiny"]

[tool.ruff]
line-length = 120

[tool.mypy]
files = ["src"]

[tool.samebits]
package = "tiny"
"""


def call(folder: Path, *words: str | Path, status: int = 0, **variables: str) -> str:
    """Run a command where Git knows of no user; return what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PYTHON"))}
    done = subprocess.run(
        [*map(str, words)], cwd=folder, env={**kept, **HOME, **variables}, text=True, capture_output=True
    )
    assert done.returncode == status, f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return (done.stdout + done.stderr).strip()


def git(folder: Path, *words: str, status: int = 0) -> str:
    return call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words, status=status)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, (path, old)
    path.write_text(text.replace(old, new, 1))


def commit(folder: Path, message: str = "An edit") -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


@dataclass
class Pair:
    """A template in a repository, and a project that it made."""

    template: Path
    project: Path

    @property
    def source(self) -> Path:
        """The template's folder of what is rendered."""
        return next(self.template.glob("{{*"))

    def update(self, *words: str, status: int = 0, **variables: str) -> str:
        """Update without any package at hand, in the way of `make update`."""
        (wheel,) = [*self.project.glob("vendor/*.whl")] or [self.project / "src"]
        variables = {"PYTHONPATH": str(wheel), "SAMEBITS_COOKIECUTTER": sys.executable, **variables}
        return call(self.project, sys.executable, "-S", "-m", "samebits.cli.update", *words, status=status, **variables)

    def eject(self, status: int = 0) -> str:
        (wheel,) = [*self.project.glob("vendor/*.whl")] or [self.project / "src"]
        return call(
            self.project, sys.executable, "-S", "-m", "samebits.cli.eject", status=status, PYTHONPATH=str(wheel)
        )


def generate(folder: Path, template: Path | str) -> Path:
    """Make a project; PYTHONSAFEPATH, since the template around these tests has modules of the same names."""
    return bake(folder, {"ci": "github"}, template=str(template), environment={"PYTHONSAFEPATH": "1"}).project


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path)


def make_pair(folder: Path) -> Pair:
    """Make a template of a few files, with the real hook, and a project."""
    template = folder / "template"
    source = template / SOURCE.name
    for name in ("hooks", f"{source.name}/src/tiny", f"{source.name}/requirements", "library"):
        (template / name).mkdir(parents=True)
    for name in ("hooks/post_gen_project.py", "local_extensions.py", "answer_rules.py"):
        shutil.copy(TEMPLATE / name, template / name)
    asked: dict[str, object] = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    answers = {name: answer for name, answer in asked.items() if not name.startswith("_")}  # which the rules look at
    answers |= {"project_slug": "tiny", "author_name": "Ada", "author_email": "ada@example.org"}
    answers |= {"__year": "{% now 'utc', '%Y' %}"}
    answers |= {"_extensions": ["local_extensions.Answers"], "_copy_without_render": ["*.whl"]}
    (template / "cookiecutter.json").write_text(json.dumps(answers, indent=2))
    (template / "library/CHANGELOG.md").write_text("# Changelog\n\n## 1.0.0\n- The first.\n")
    texts = {".gitlab-ci.yml": "", ".gitignore": ".env\n", "pyproject.toml": PYPROJECT, "dropped.txt": LINES}
    texts |= {"train.py": LINES, "README.md": "# {{ cookiecutter.author_name }}\n" + LINES, "src/tiny/__init__.py": ""}
    texts |= {"requirements/samebits.txt": "./vendor/samebits-1.0.0-py3-none-any.whl --hash=sha256:0\n"}
    for name, text in texts.items():
        (source / name).write_text(text)
    write_wheel(source / "vendor", "1.0.0")
    git(template, "init", "--quiet")
    commit(template, "The first version")
    return Pair(template, generate(folder / "out", template))


def copy_template(folder: Path) -> Path:
    """Copy the template, with a made-up wheel, into a repository of its own."""
    names = git(TEMPLATE, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, names):
        if (TEMPLATE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TEMPLATE / name, folder / name)
    write_wheel(folder / SOURCE.name / "vendor", "1.0.0")
    git(folder, "init", "--quiet")
    commit(folder, "Older")
    return folder
