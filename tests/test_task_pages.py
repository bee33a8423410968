"""The pages in docs/ that show the worked tasks are those of tests/tasks/."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .overlays import TASKS
from .task_pages import DOCS, diff_of, pages


def test_the_pages_are_those_of_the_tasks(tmp_path: Path) -> None:
    found = pages(tmp_path)
    assert len(found) == 1 + len(list(TASKS.glob("*/task.toml"))) > 2
    files = [DOCS / "tasks.md", *sorted((DOCS / "tasks").glob("*.md"))]
    written = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in files}
    assert written == found, "the tasks or the project have changed: .venv/bin/python -m tests.task_pages"

    project = tmp_path / "regression"  # control: one more line is another page
    before = diff_of(project)
    (project / "configs/model/mlp.yaml").write_text("model_name: another\n")
    subprocess.run(["git", "add", "--all"], cwd=project, check=True)
    assert diff_of(project) != before and before in found["tasks/regression.md"]
