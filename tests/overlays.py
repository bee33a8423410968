"""Worked tasks, laid over a fresh project as its user would change it: each is a folder in tests/tasks/.

Its files go to the same places in the project; task.toml says which of the project's files are removed or renamed,
what is edited in those that stay, and what is expected of it all. user_data.py, where there is one, is run in the
project, by its environment: it makes the data that its user has. `python -m tests.overlays regression PROJECT` lays a
task over, and prints what it has changed.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from .baking import TEMPLATE

TASKS = TEMPLATE / "tests" / "tasks"
NOT_LAID = ("task.toml", "inputs", "user_data.py")  # inputs: what its predict.py is tried with
SIMILAR = "--find-renames=40%"  # of its lines, by which Git knows a small file again
MOST_LINES = 150  # that a user writes to make a project theirs
# where they do, as "Making it yours" says: two new YAML files, and lines in those that choose and show
PLACES = (
    "configs/callbacks/default.yaml",
    "configs/data/*",
    "configs/model/*",
    "configs/train.yaml",
    "configs/trainer/cpu.yaml",
    "configs/report.yaml",
    "data/README.md",
    "pyproject.toml",
    "src/*/data/*",
    "src/*/models/*",
    "src/*/panels.py",
    "src/*/predict.py",
    "tests/test_*.py",
)


@dataclass(frozen=True)
class Changes:
    """What Git says of the files of a project, since its last commit: renamed files count by what differs in them."""

    written: dict[str, int]  # lines, by file
    removed: dict[str, int]  # likewise
    text: str  # as `git diff --stat` shows it

    @property
    def elsewhere(self) -> list[str]:
        """The files with written lines where nothing needs to be changed."""
        return [name for name, lines in self.written.items() if lines and not any(fnmatch(name, at) for at in PLACES)]


def tasks() -> list[str]:
    """List the names of the tasks."""
    return sorted(path.parent.name for path in TASKS.glob("*/task.toml"))


def read_task(task: str) -> dict[str, Any]:
    """Read a task's task.toml: `summary`, a sentence; `remove`, `rename` and `edit`; and `expect`, what comes out.

    metrics: of the main run, between two bounds; predictions: the head of predictions.csv, where there is one;
    report: texts in it; predict: words for predict.py, and what it prints; short: settings of a run that is killed and
    reproduced; packages: that are locked besides, as pyproject.toml is edited to ask for them.
    """
    return tomllib.loads((TASKS / task / "task.toml").read_text(encoding="utf-8"))


def lay_over(task: str, project: Path) -> Changes:
    """Lay a task over a generated project, default answers given, and say what it has changed."""
    folder, said = TASKS / task, read_task(task)
    for name in said.get("remove", []):
        (project / name).unlink()
    for old, new in said.get("rename", {}).items():
        (project / old).rename(project / new)
    for name, pairs in said.get("edit", {}).items():
        text = (project / name).read_text(encoding="utf-8")
        for old, new in pairs:
            assert text.count(old) == 1, f"{name} of the template holds {text.count(old)} times: {old}"
            text = text.replace(old, new)
        (project / name).write_text(text, encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file() and not {*NOT_LAID, "__pycache__"} & set(path.relative_to(folder).parts):
            target = project / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    if (folder / "user_data.py").exists() and (project / ".venv").exists():  # a page of documentation needs no data
        subprocess.run([project / ".venv/bin/python", folder / "user_data.py"], cwd=project, check=True)
    return changes(project)


def changes(project: Path) -> Changes:
    """Count what is changed since the project's last commit."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=project, check=True, capture_output=True, text=True).stdout

    git("add", "--all")
    fields = git("diff", "--cached", "--numstat", "-z", SIMILAR).split("\0")
    written, removed = {}, {}
    while len(fields) > 1:
        added, gone, name = fields.pop(0).split("\t")
        if not name:  # renamed: its old and its new name follow
            _, name = fields.pop(0), fields.pop(0)
        written[name] = int(added)
        removed[name] = int(gone)
    return Changes(written, removed, git("diff", "--cached", "--stat", SIMILAR))


if __name__ == "__main__":
    print(lay_over(sys.argv[1], Path(sys.argv[2])).text)
