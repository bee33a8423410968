"""Rules of the repository that no linter knows."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from . import structure
from .baking import SOURCE, TEMPLATE

MOST_LINES = 400


def tracked() -> list[Path]:
    """List the files that Git would commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TEMPLATE,
        capture_output=True,
        text=True,
        check=True,
    )
    return [TEMPLATE / name for name in listed.stdout.split("\0") if name and (TEMPLATE / name).is_file()]


def too_long(path: Path) -> bool:
    return len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES


def unpinned(workflow: str) -> list[str]:
    """List the actions of a workflow that are not pinned by the hash of a commit, with its version beside it."""
    uses = re.findall(r"uses: *(.+)", workflow)
    return [action for action in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action)]


def test_no_file_is_long() -> None:
    figures = SOURCE.parent / "bench/results.json"
    others = {".txt", ".whl", ".png"}  # locks, the list of files, the library as a file of its own; images
    pages = SOURCE.parent / "docs/tasks"  # diffs, written by a program
    files = [each for each in tracked() if each.suffix not in others and each != figures and each.parent != pages]
    assert len(files) > 80
    assert [path for path in files if too_long(path)] == []
    assert too_long(SOURCE / "requirements/main.txt")  # the check can fail


def test_python_of_the_generated_project_imports_relatively_and_holds_no_jinja() -> None:
    for path in (SOURCE / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "cookiecutter" not in text, path
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
        absolute = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        absolute |= {
            (node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and not node.level
        }
        assert not absolute & {"src", "config", "errors", "repro", "handwritten_digits"}, path
    for path in (SOURCE / "tests").rglob("*.py"):
        assert "cookiecutter" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("folder", [TEMPLATE, SOURCE], ids=["template", "project"])
def test_actions_are_pinned_and_permissions_are_least(folder: Path) -> None:
    workflow = (folder / ".github/workflows/ci.yml").read_text()
    assert re.search(r"uses:", workflow) and unpinned(workflow) == []
    assert re.search(r"^permissions:\n  contents: read$", workflow, re.MULTILINE)
    assert unpinned("uses: actions/checkout@v7") == ["actions/checkout@v7"]  # the check can fail


def test_readmes_name_only_commands_and_pages_that_exist() -> None:
    targets: set[str] = set()
    for folder in (SOURCE, TEMPLATE):  # the template's README names the project's commands, too
        targets |= set(re.findall(r"^([a-z.]+):.*##", (folder / "Makefile").read_text(), re.MULTILINE))
        for page in (folder / "README.md", *(folder / "docs").glob("*.md")):
            text = page.read_text()
            assert (named := set(re.findall(r"`make ([a-z]+)", text))) <= targets, (page, named - targets)
            links = {link for link in re.findall(r"\]\(([\w./-]+)", text) if not link.startswith("http")}
            assert all((page.parent / link).exists() for link in links), (page, links)
    assert "reproduce" in targets and "nothing" not in targets


def test_files_lines_and_seams_of_both_houses_are_within_their_bounds() -> None:
    assert structure.report() == []


def test_the_bounds_of_the_project_can_be_missed(tmp_path: Path) -> None:
    project = Path(shutil.copytree(SOURCE, tmp_path / "project"))
    network = next(project.glob("src/*/models/network.py"))
    network.write_text(network.read_text() + "import samebits.engine.weights\n" + "x = 1\n" * 900)
    (project / "tests/test_more.py").write_text('"""Of cnn alone."""\n' * 351)
    (project / "README.md").write_text("a line\n" * 121)
    found = structure.report(project)
    assert [line.split(":")[0] for line in found] == ["src", "tests", "README.md", "network.py", "test_more.py"], found


def test_notebooks_are_as_nbstripout_leaves_them() -> None:
    """Else the first commit with the hooks in place would change them."""
    for path in (SOURCE / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert [cell["id"] for cell in cells] == [str(number) for number in range(len(cells))], path
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), path
