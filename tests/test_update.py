"""A newer template is merged, and nothing of the user's is lost."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from .baking import TEMPLATE, bake
from .updating import Pair, call, commit, copy_template, edit, generate, git
from .wheels import write_wheel


def test_the_first_commit_holds_what_an_update_needs(pair: Pair) -> None:
    state = json.loads(git(pair.project, "show", "HEAD:.cruft.json"))
    assert state["template"] == str(pair.template) and state["commit"] == git(pair.template, "rev-parse", "HEAD")
    assert state["checkout"] is None and state["directory"] is None
    assert {"project_slug": "tiny", "author_name": "Ada", "ci": "github"}.items() <= state["context"][
        "cookiecutter"
    ].items()
    assert str(pair.project.parent) not in json.dumps(state) and "_repo_dir" not in json.dumps(state)


def test_a_template_cloned_from_a_url_is_recorded_by_the_url(pair: Pair, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(pair.template), str(bare))
    project = generate(tmp_path / "by-url", f"git+file://{bare}")
    assert json.loads((project / ".cruft.json").read_text())["template"] == f"file://{bare}"


def test_a_template_without_a_repository_has_no_commit(pair: Pair, tmp_path: Path) -> None:
    shutil.rmtree(pair.template / ".git")
    project = generate(tmp_path / "other", pair.template)
    assert json.loads((project / ".cruft.json").read_text())["commit"] is None


def test_an_update_is_merged_beside_the_users_edits(pair: Pair) -> None:
    first = git(pair.project, "rev-parse", "HEAD")
    edit(pair.project / "train.py", "line 3\n", "mine\n")
    (pair.project / "mine.txt").write_text("mine\n")
    mine = commit(pair.project)
    (pair.project / "untracked.txt").write_text("untracked\n")
    edit(pair.source / "train.py", "line 30\n", "theirs\n")
    edit(pair.source / "README.md", "line 30\n", "{{ cookiecutter.new }}\n")
    edit(
        pair.template / "cookiecutter.json", '"ci"', '"new": "a new question of {{ cookiecutter.author_name }}",\n"ci"'
    )
    newest = commit(pair.template, "Better lines")

    said = pair.update()

    assert "Better lines" in said and "README.md, train.py" in said and "samebits  1.0.0 → 1.0.0" in said
    text = (pair.project / "train.py").read_text()
    assert "mine\n" in text and "theirs\n" in text and "line 3\n" not in text
    assert "a new question of Ada\n" in (pair.project / "README.md").read_text()
    assert (pair.project / "mine.txt").exists() and (pair.project / "untracked.txt").exists()
    assert git(pair.project, "status", "--porcelain") == "?? untracked.txt"
    assert git(pair.project, "rev-parse", "HEAD^1") == mine and git(pair.project, "rev-parse", "template^") == first
    assert git(pair.project, "rev-parse", "HEAD^2") == git(pair.project, "rev-parse", "template")
    assert git(pair.project, "log", "-1", "--format=%an") == "Ada"  # Git knows of nobody here
    state = json.loads((pair.project / ".cruft.json").read_text())
    assert state["commit"] == newest and state["context"]["cookiecutter"]["new"] == "a new question of Ada"
    assert ".env" not in git(pair.project, "ls-tree", "-r", "--name-only", "template").split()

    assert pair.update().startswith("Nothing new")
    edit(pair.source / "train.py", "line 35\n", "theirs again\n")
    commit(pair.template)
    pair.update()
    assert (pair.project / "train.py").read_text() == text.replace("line 35", "theirs again")


def test_a_conflict_is_gits_ordinary_one(pair: Pair) -> None:
    edit(pair.project / "train.py", "line 3\n", "mine\n")
    edit(pair.project / "dropped.txt", "line 3\n", "mine\n")
    commit(pair.project)
    edit(pair.source / "train.py", "line 3\n", "theirs\n")
    (pair.source / "dropped.txt").unlink()
    commit(pair.template)

    said = pair.update(status=1)

    assert "could not merge dropped.txt, train.py" in said and "git commit" in said
    assert "<<<<<<< HEAD\nmine\n=======\ntheirs\n>>>>>>> template\n" in (pair.project / "train.py").read_text()
    assert (pair.project / "dropped.txt").read_text().count("mine") == 1
    assert "UU train.py" in git(pair.project, "status", "--porcelain")
    assert "not committed" in pair.update(status=2)

    git(pair.project, "merge", "--abort")
    assert "mine" in (pair.project / "train.py").read_text()
    pair.update(status=1)
    (pair.project / "train.py").write_text("resolved\n")
    commit(pair.project)
    assert pair.update().startswith("Nothing new")


@pytest.mark.parametrize(
    ("contract", "sentence"), [(1, "1 → 1: no training's bits change"), (2, "1 → 2: some trainings'")]
)
def test_it_says_whether_bits_change(pair: Pair, contract: int, sentence: str) -> None:
    write_wheel(pair.source / "vendor", "1.1.0", contract)
    changes = "# Changelog\n\n## 2.0.0\n- Later.\n\n## 1.1.0\n- Faster.\n\n## 1.0.0\n- The first.\n"
    (pair.template / "library/CHANGELOG.md").write_text(changes)
    commit(pair.template)
    said = pair.update()
    assert "samebits  1.0.0 → 1.1.0" in said and sentence in said
    assert "- Faster." in said and "- The first." not in said and "- Later." not in said
    assert [path.name for path in pair.project.glob("vendor/*")] == ["samebits-1.1.0-py3-none-any.whl"]


def test_a_changed_config_is_said_to_rename_runs(pair: Pair) -> None:
    (pair.source / "configs").mkdir()
    (pair.source / "configs/train.yaml").write_text("seed: 0\n")
    commit(pair.template)
    assert "runs      may get new names by changes in configs/train.yaml" in pair.update()


def test_it_needs_the_standard_library_alone(tmp_path: Path) -> None:
    for verb in ("update", "eject"):
        words = (sys.executable, "-S", "-m", f"samebits.cli.{verb}", "--help")
        assert "usage" in call(tmp_path, *words, PYTHONPATH=str(TEMPLATE / "library/src"))
    control = (sys.executable, "-S", "-c", "import samebits.engine.inputs")
    assert "ModuleNotFoundError" in call(tmp_path, *control, status=1, PYTHONPATH=str(TEMPLATE / "library/src"))


def test_free_text_is_rendered_again_as_it_was_typed(tmp_path: Path) -> None:
    template = copy_template(tmp_path / "template")
    typed = {
        "description": "{{ 7 * 7 }} {% raw %} \\n 'x' \"y\" = 🧪",
        "project_name": "=a; $HOME",
        "project_slug": "a",
    }
    typed |= {"license": "Apache-2.0", "ci": "none"}
    baked = bake(tmp_path / "out", typed, template=str(template), environment={"PYTHONSAFEPATH": "1"})
    pair = Pair(template, baked.project)
    assert pair.update().startswith("Nothing new")  # after every file was rendered again
    edit(pair.source / "dvc.yaml", "stages:", "stages:  # {{ cookiecutter.project_slug }}")
    commit(template)
    assert "dvc.yaml" in pair.update()


def squash(project: Path, message: str) -> None:
    """Make a project's history one commit, with its edits in it."""
    git(project, "checkout", "--quiet", "--orphan", "squashed")
    git(project, "commit", "--quiet", "--message", message)


def test_edits_in_a_squashed_history_are_not_taken_back(pair: Pair) -> None:
    edit(pair.project / "train.py", "line 3\n", "mine\n")
    commit(pair.project)
    squash(pair.project, git(pair.project, "log", "--format=%B", "--max-parents=0"))
    edit(pair.source / "train.py", "line 30\n", "theirs\n")
    commit(pair.template)
    pair.update()
    text = (pair.project / "train.py").read_text()
    assert "mine\n" in text and "theirs\n" in text


def test_control_a_wrong_base_would_take_them_back(pair: Pair) -> None:
    edit(pair.project / "train.py", "line 3\n", "mine\n")
    commit(pair.project)
    squash(pair.project, f"Squashed\n\nRendering: {git(pair.project, 'rev-parse', 'HEAD^{tree}')}")
    edit(pair.source / "train.py", "line 30\n", "theirs\n")
    commit(pair.template)
    pair.update()
    assert "mine\n" not in (pair.project / "train.py").read_text()


def test_another_address_is_recorded(pair: Pair, tmp_path: Path) -> None:
    pair.template.rename(tmp_path / "moved")
    assert "make update FROM=" in pair.update(status=2)
    pair.update("../../moved")
    assert json.loads((pair.project / ".cruft.json").read_text())["template"] == str(tmp_path / "moved")
    assert pair.update().startswith("Nothing new")


def test_what_is_in_the_way_is_named_in_one_sentence(pair: Pair) -> None:
    def refused(sentence: str) -> None:
        said = pair.update(status=2)
        assert said.startswith("error: ") and sentence in said and said.count("\n") == 0, said

    edit(pair.source / "train.py", "line 30\n", "theirs\n")
    (pair.source / "new.txt").write_text("theirs\n")
    commit(pair.template)
    before = git(pair.project, "rev-parse", "HEAD")
    edit(pair.project / "train.py", "line 3\n", "mine\n")
    refused("train.py changed and not committed")
    git(pair.project, "checkout", "--", ".")
    (pair.project / "new.txt").write_text("mine\n")
    refused("new.txt")
    (pair.project / "new.txt").unlink()
    git(pair.project, "branch", "--force", "template", git(pair.project, "commit-tree", "-m", "mine", "HEAD^{tree}"))
    refused("git branch --move template")
    git(pair.project, "branch", "-D", "template")
    edit(pair.template / "cookiecutter.json", '"github",', "")
    commit(pair.template)
    refused("mend them in .cruft.json")
    assert git(pair.project, "rev-parse", "HEAD") == before and git(pair.project, "status", "--porcelain") == ""
    edit(pair.project / ".cruft.json", '"commit"', '"comet"')
    commit(pair.project)
    refused("bring it back")
    git(pair.project, "rm", "--quiet", ".cruft.json")
    commit(pair.project)
    refused("cruft link")
    shutil.rmtree(pair.project / ".git")
    refused("git init")
