"""The worked tasks as pages to read: docs/tasks.md lists them, docs/tasks/<name>.md shows each as a diff.

`python -m tests.task_pages` writes them anew. They need no environment: nothing is installed or trained.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from .baking import TEMPLATE, bake
from .overlays import MOST_LINES, SIMILAR, Changes, lay_over, read_task, tasks

DOCS = TEMPLATE / "docs"
BY = "<!-- written by `python -m tests.task_pages`, from tests/tasks/ -->"
INDEX = f"""{BY}
# Other tasks

What it takes to turn a fresh project into one for another task: at most {MOST_LINES} lines, in the places that "Making
it yours" in the project's README names. Each is laid over a generated project and tried by `tests/test_tasks.py`: with
all of `make train evaluate report lint test`, a prediction, a kill in the middle of training, and `make reproduce`.
The page of a task shows it as a diff; its files are in `tests/tasks/`.

| task | lines written | removed |
|---|---:|---:|
"""
PAGE = f"""{BY}
# {{name}}

{{summary}} {{written}} lines are written. [All tasks](../tasks.md)

| file | lines written | removed |
|---|---:|---:|
{{rows}}

Of a file that is deleted or mostly written anew, what it held is left out; lines that stay in it are not counted.

{{fence}}diff
{{diff}}
{{fence}}
"""


def summary(task: str) -> str:
    """Read in one sentence what a task is, `summary` in its task.toml."""
    text = read_task(task).get("summary", "")
    assert text, f"tests/tasks/{task}/task.toml has no summary: say in one sentence what the task is"
    return " ".join(text.split())


def diff_of(project: Path) -> str:
    """Show the staged changes of a project as a diff that depends on them alone, not on Git's settings here."""
    always = ["--no-color", "--no-ext-diff", "--diff-algorithm=myers", "--src-prefix=a/", "--dst-prefix=b/"]
    short = [SIMILAR, "--unified=1", "--break-rewrites=60%/60%", "--irreversible-delete"]
    shown = subprocess.run(
        ["git", "diff", "--cached", *always, *short],
        cwd=project,
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout
    lines = (line.rstrip() for line in shown.splitlines())
    return "\n".join(line for line in lines if not line.startswith("index "))


def page(task: str, changed: Changes, diff: str) -> str:
    """Write the page of a task."""
    rows = [f"| `{name}` | {lines} | {changed.removed[name]} |" for name, lines in sorted(changed.written.items())]
    return PAGE.format(
        name=task,
        summary=summary(task),
        written=sum(changed.written.values()),
        rows="\n".join(rows),
        fence="````" if "```" in diff else "```",
        diff=diff,
    )


def pages(folder: Path) -> dict[str, str]:
    """Lay each task over a project of its own in a folder; return its page, and the list, by their paths in docs/."""
    fresh = bake(folder / "out").project
    found, index = {}, INDEX
    for task in tasks():
        project = folder / task
        shutil.copytree(fresh, project)
        changed = lay_over(task, project)
        found[f"tasks/{task}.md"] = page(task, changed, diff_of(project))
        counts = f"{sum(changed.written.values())} | {sum(changed.removed.values())}"
        index += f"| [{task}](tasks/{task}.md): {summary(task)} | {counts} |\n"
    return {"tasks.md": index, **found}


def main() -> None:
    """Write the pages, and remove those of tasks that are no more."""
    with tempfile.TemporaryDirectory() as folder:
        found = pages(Path(folder))
    (DOCS / "tasks").mkdir(exist_ok=True)
    for name, text in found.items():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"docs/{name}: {len(text.splitlines())} lines")
    for path in (DOCS / "tasks").glob("*.md"):
        if f"tasks/{path.name}" not in found:
            path.unlink()


if __name__ == "__main__":
    main()
