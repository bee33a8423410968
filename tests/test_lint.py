"""`samebits lint` finds nothing in the generated project and in the worked tasks, and finds what is planted there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .baking import TEMPLATE, bake
from .overlays import TASKS, lay_over

# The library's source, with the standard library alone: nothing needs to be installed
LINT = "from samebits.lint.lint import main, parser; main(parser().parse_args())"
PLANTED = "\n\ndef shuffle_classes(names):\n    return list(set(names))\n"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bake(tmp_path_factory.mktemp("lint") / "out").project


def lint(project: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(TEMPLATE / "library/src")}
    return subprocess.run([sys.executable, "-c", LINT], cwd=project, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("task", [None, *sorted(path.parent.name for path in TASKS.glob("*/task.toml"))])
def test_nothing_is_found_in_the_project_and_in_each_task_but_what_is_planted(
    task: str | None, fresh: Path, tmp_path: Path
) -> None:
    project = Path(shutil.copytree(fresh, tmp_path / "project", symlinks=True))
    if task:
        lay_over(task, project)
    done = lint(project)
    assert done.returncode == 0 and done.stdout.startswith("Nothing irreproducible"), done.stdout + done.stderr
    path = next((project / "src").rglob("datamodule.py"))
    path.write_text(path.read_text() + PLANTED)
    done = lint(project)
    assert done.returncode == 1 and ": set-order: lists the set set(names); put sorted" in done.stdout


def test_make_lint_and_the_hook_before_each_commit_call_it(fresh: Path) -> None:
    recipe = (fresh / "Makefile").read_text().partition("\nlint: setup")[2].partition("\n\n")[0]
    assert "$(SAMEBITS) lint" in recipe
    hook = (fresh / ".pre-commit-config.yaml").read_text().partition("- id: samebits-lint\n")[2].partition("- id:")[0]
    assert "entry: .venv/bin/python -m samebits lint\n" in hook and "pass_filenames: false\n" in hook
