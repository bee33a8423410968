"""Sharing runs: which ones, what is refused, and that a failure leaves all as it was."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .project import ROOT, UserError, command, module

shared, remote = module("sharing.runs"), module("sharing.remote")


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """Return a project with the finished runs a and b, and one that was to try something out."""
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "models/.gitignore", tmp_path / "models/.gitignore")
    for name in ("a", "b", "debug-c"):
        shutil.copytree(trained, tmp_path / "models" / name)
        (tmp_path / "models" / name / "history.csv").unlink()  # with it, the name would have to be the record's
    with shared.written((), tmp_path):
        pass  # those of the project itself
    return tmp_path


def state(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_runs_are_shared_and_no_longer(root: Path) -> None:
    assert shared.finished(root) == {"a", "b"} and not shared.listed(root) & {"a", "b"}
    shared.check({"a", "b"}, root)
    before = state(root)
    with shared.written({"b", "a"}, root) as pointers:
        assert pointers == [root / "shared/a.dvc", root / "shared/b.dvc"]
    assert shared.listed(root) == {"a", "b"}
    lines = (root / "models/.gitignore").read_text().splitlines()
    assert lines[-4:] == [shared.BEGIN, "!/a", "!/b", shared.END]
    with shared.written({"b"}, root) as pointers:
        assert pointers == [root / "shared/b.dvc"]
    assert shared.listed(root) == {"b"}
    with shared.written((), root) as pointers:
        assert pointers == []
    assert state(root) == before


def test_git_sees_texts_of_shared_runs_and_nothing_else(root: Path) -> None:
    for name in ("checkpoints/1.ckpt", "logs/events", "wandb/run", "record.json.new"):
        path = root / "models/a" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with shared.written({"a"}, root):
        pass
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    words = ["git", "ls-files", "--others", "--exclude-standard", "models"]
    seen = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout.split()
    assert "models/a/record.json" in seen
    assert {Path(path).name for path in seen} <= {
        ".gitignore",
        "code.patch",
        "config.yaml",
        "metrics.json",
        "predictions.csv",
        "record.json",
        "trace.jsonl",
    }
    assert not [path for path in seen if path.startswith(("models/b/", "models/debug-c/"))]


def test_a_failure_leaves_all_as_it_was(root: Path) -> None:
    with shared.written({"a"}, root):
        pass
    before = state(root)
    with pytest.raises(KeyboardInterrupt), shared.written({"b"}, root):
        assert state(root) != before
        (root / "shared/b.dvc").write_text("half")
        raise KeyboardInterrupt
    assert state(root) == before


def test_weights_that_are_not_here_are_left_alone(root: Path) -> None:
    with shared.written({"a"}, root):
        pass
    (root / "models/a/model.safetensors").unlink()
    shared.check({"a", "b"}, root)
    with shared.written({"a", "b"}, root) as pointers:
        assert pointers == [root / "shared/b.dvc"]
    assert shared.listed(root) == {"a", "b"}


def test_what_is_not_to_be_shared_is_refused(root: Path) -> None:
    models = root / "models"
    assert shared.named([models / "a", models / "b"], root) == {"a", "b"}
    with pytest.raises(UserError, match="was made to try something out"):
        shared.named([models / "debug-c"], root)
    with pytest.raises(UserError, match="is not in models/"):
        shared.named([models / "a"], root / "elsewhere")
    (models / "a").rename(models / "[a]")
    with pytest.raises(UserError, match="a pattern"):
        shared.check({"[a]"}, root)
    (models / "b/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"b/model.safetensors is missing"):
        shared.check({"b"}, root)
    (models / "b/trace.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="is missing"):
        shared.check({"b"}, root)
    shutil.copy(models / "[a]/model.safetensors", models / "b")
    with pytest.raises(UserError, match=r"was edited after it was trained \(trace.jsonl"):
        shared.check({"b"}, root)


def test_a_damaged_record_is_not_passed_over(root: Path) -> None:
    (root / "models/a/record.json").write_text("[")
    (root / "models/b/record.json").write_text('{"observed": {"status": "running"}}')
    assert shared.finished(root) == {"a"}
    with pytest.raises(UserError, match=r"record.json is damaged"):
        shared.check({"a"}, root)


def test_any_failure_of_the_remote_is_one_sentence() -> None:
    said = pytest.raises(UserError, match=r"^gs://bucket: two lines, without https://\*\*\*@host.$")
    with said, remote.one_sentence("gs://bucket"):
        raise ValueError("two\nlines, without https://me:secret@host")
    for name in ("share", "pull"):
        assert command(name, "--help").returncode == 0
