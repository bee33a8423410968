"""What names a run: what its training can import, and the library's contract; nothing else trains anything anew."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vendoring import LIBRARY

from .baking import TEMPLATE
from .conftest import IDENTITY, Project, fresh

pytestmark = pytest.mark.project

SEEDS = ("SEEDS=0..4", "ARGS=trainer.max_epochs=1")
PACKAGE = "src/handwritten_digits"
NOW: str = tomllib.loads((LIBRARY / "pyproject.toml").read_text())["project"]["version"]
NEXT = NOW + ".1"


@pytest.fixture(scope="module")
def seeded(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Train the main run and five seeds in a project of our own, and commit the results."""
    seeded = fresh(project, tmp_path_factory.mktemp("names"))
    seeded.make("train")
    assert "5 of 5 runs finished" in seeded.make("sweep", *SEEDS)
    commit(seeded.path, "Results")
    return seeded


def commit(folder: Path, message: str) -> None:
    for words in (("add", "--all"), ("commit", "--quiet", "--no-verify", "--allow-empty", "--message", message)):
        subprocess.run(["git", *IDENTITY, *words], cwd=folder, check=True)


def runs(project: Project) -> dict[str, int]:
    """List the runs, and when each record was written last."""
    return {path.parent.name: path.stat().st_mtime_ns for path in project.path.glob("models/*/record.json")}


def add_comment(path: Path) -> None:
    path.write_text(path.read_text() + ("\n<!-- a comment -->\n" if path.suffix == ".md" else "\n\n# a comment\n"))


def test_what_no_training_imports_renames_and_trains_nothing(seeded: Project) -> None:
    before = runs(seeded)
    tests = [str(path.relative_to(seeded.path)) for path in sorted(seeded.path.glob("tests/test_*.py"))[:1]]
    for name in (f"{PACKAGE}/predict.py", f"{PACKAGE}/panels.py", f"{PACKAGE}/evaluate.py", *tests, "README.md"):
        add_comment(seeded.path / name)
    assert seeded.make("sweep", *SEEDS).count("was finished") == 5
    assert "Running" not in seeded.make("train").replace("Running stage 'evaluate'", "")
    assert runs(seeded) == before
    assert "5 seeds" in seeded.make("report")
    network = seeded.path / PACKAGE / "models/network.py"
    kept = network.read_text()
    add_comment(network)  # the control
    seeded.make("train", "ARGS=trainer.max_epochs=1")
    network.write_text(kept)
    new = runs(seeded).keys() - before.keys()
    assert len(new) == 1
    # the same weights under another name are one result, and no second experiment
    report = seeded.make("report")
    assert len(re.findall(r"^cnn-lr=0.002.*seeds", report, re.MULTILINE)) <= 2, report
    commit(seeded.path, "Edits")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a newer template, whose library has another version: a comment in bundle/ has changed."""
    clone = tmp_path_factory.mktemp("newer") / "template"
    subprocess.run(["git", "clone", "--quiet", str(TEMPLATE), str(clone)], check=True)
    subprocess.run(["git", "-C", str(TEMPLATE), "diff", "--quiet", "HEAD"], check=True)  # else the clone is another one
    for path in (clone / "library/pyproject.toml", clone / "library/src/samebits/engine/__init__.py"):
        text = path.read_text()
        assert f'"{NOW}"' in text
        path.write_text(text.replace(f'"{NOW}"', f'"{NEXT}"', 1))
    add_comment(clone / "library/src/samebits/bundle/crate.py")
    pyproject = next(clone.glob("{{*/pyproject.toml"))
    pyproject.write_text(pyproject.read_text().replace(f"=={NOW}", f"=={NEXT}"))
    subprocess.run([sys.executable, "-m", "vendoring"], cwd=clone, check=True)
    commit(clone, f"samebits {NEXT}")
    return clone


def test_a_newer_library_with_the_same_contract_renames_nothing(seeded: Project, newer: Path) -> None:
    before = runs(seeded)
    output = seeded.make("update", f"FROM={newer}", SAMEBITS_COOKIECUTTER=sys.executable)  # need not install its own
    assert f"{NOW} → {NEXT}" in output and "contract" in output
    assert not (seeded.path / f"vendor/samebits-{NOW}-py3-none-any.whl").exists()
    output = seeded.make("train")
    assert "trained already" in output
    assert NEXT in seeded.python("-m", "samebits", "--version")
    assert runs(seeded) == before
    output = seeded.make("reproduce")
    assert "IDENTICAL" in output and re.search(rf"samebits +{re.escape(NOW)} +{re.escape(NEXT)}", output), output


def test_an_edited_file_of_the_library_is_noticed(seeded: Project) -> None:
    """The installed engine is edited: a new name, and for old runs a verdict that names the file."""
    (library,) = seeded.path.glob(".venv/lib/python*/site-packages/samebits")
    path = library / "engine/data_loading.py"
    kept = path.read_text()
    path.unlink()  # it may share its content with another environment's, by a hard link
    changed = kept.replace("torch.randperm(", "-1 - torch.randperm(") if "torch.randperm(" in kept else ""
    assert changed, "the engine shuffles by torch.randperm"
    path.write_text(changed)
    try:
        before = runs(seeded)
        seeded.make("train", "ARGS=trainer.max_epochs=1")
        assert len(runs(seeded).keys() - before.keys()) == 1
        output = seeded.make("reproduce", "RUN=models/main", status=2)
        assert "ENVIRONMENT" in output and "samebits/engine/data_loading.py" in output
    finally:
        path.write_text(kept)


def test_ejected_everything_works_as_before(seeded: Project) -> None:
    commit(seeded.path, "Before ejection")
    before = runs(seeded)
    seeded.make("eject")
    assert (seeded.path / "src/samebits/engine/inputs.py").exists() and not list(seeded.path.glob("vendor/*.whl"))
    assert "trained already" in seeded.make("train")
    where = seeded.python("-c", "import samebits; print(samebits.__file__)").strip()
    assert where == str(seeded.path / "src/samebits/__init__.py")
    assert runs(seeded) == before
    assert "IDENTICAL" in seeded.make("reproduce", "RUN=models/main")  # the newest one was trained by an edited library
    assert re.search(r"\d+ passed", seeded.make("test"))
    seeded.make("lint")
