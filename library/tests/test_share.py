"""Sharing runs: which ones, what is refused, and that a failure leaves all as it was."""

from __future__ import annotations

import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from .project import ROOT, UserError, command, module

shared = module("samebits.share")


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """Return a project with the finished runs a and b, and one that was to try something out."""
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "models/.gitignore", tmp_path / "models/.gitignore")
    for name in ("a", "b", "debug-c"):
        shutil.copytree(trained, tmp_path / "models" / name)
        (tmp_path / "models" / name / "history.csv").unlink()  # with it, the name would have to be the record's
    with shared.write_pointers((), tmp_path):
        pass  # those of the project itself
    return tmp_path


def state(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_runs_are_shared_and_no_longer(root: Path) -> None:
    assert shared.finished_runs(root) == {"a", "b"} and not shared.shared_runs(root) & {"a", "b"}
    shared.require_shareable({"a", "b"}, root)
    before = state(root)
    with shared.write_pointers({"b", "a"}, root) as pointers:
        assert pointers == [root / "shared/a.dvc", root / "shared/b.dvc"]
    assert shared.shared_runs(root) == {"a", "b"}
    lines = (root / "models/.gitignore").read_text().splitlines()
    assert lines[-4:] == [shared.BEGIN, "!/a", "!/b", shared.END]
    with shared.write_pointers({"b"}, root) as pointers:
        assert pointers == [root / "shared/b.dvc"]
    assert shared.shared_runs(root) == {"b"}
    with shared.write_pointers((), root) as pointers:
        assert pointers == []
    assert state(root) == before
    (root / "models/.gitignore").unlink()
    with pytest.raises(UserError, match=r"models/.gitignore is missing, in which shared runs are listed: write"):
        shared.shared_runs(root)


def test_git_sees_texts_of_shared_runs_and_nothing_else(root: Path) -> None:
    for name in ("checkpoints/1.ckpt", "logs/events", "wandb/run", "record.json.new"):
        path = root / "models/a" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with shared.write_pointers({"a"}, root):
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
    with shared.write_pointers({"a"}, root):
        pass
    before = state(root)
    with pytest.raises(KeyboardInterrupt), shared.write_pointers({"b"}, root):
        assert state(root) != before
        (root / "shared/b.dvc").write_text("half")
        raise KeyboardInterrupt
    assert state(root) == before


def test_weights_that_are_not_here_are_left_alone(root: Path) -> None:
    with shared.write_pointers({"a"}, root):
        pass
    (root / "models/a/model.safetensors").unlink()
    shared.require_shareable({"a", "b"}, root)
    with shared.write_pointers({"a", "b"}, root) as pointers:
        assert pointers == [root / "shared/b.dvc"]
    assert shared.shared_runs(root) == {"a", "b"}


@pytest.mark.parametrize("left", ["", "outs:\n- path: model.safetensors\n  hash: md5\n  md5: 0123"])
def test_a_pointer_that_a_killed_dvc_left_cut_is_asked_for_again(root: Path, left: str) -> None:
    """Found by tests/command_kills.py: the run was called shared, and its weights were not sent."""
    with shared.write_pointers({"a"}, root):
        pass
    path = root / "shared/a.dvc"
    request = path.read_text()
    whole = f"outs:\n- path: model.safetensors\n  hash: md5\n  md5: {'0' * 32}\n  size: 1\nwdir: ../models/a\n"
    for before, after in ((left, request), (whole, whole)):
        path.write_text(before)
        with shared.write_pointers({"a"}, root) as pointers:
            assert pointers == [path] and path.read_text() == after
    path.write_text(left)
    (root / "models/a/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model.safetensors is missing, so it cannot be shared"):
        shared.require_shareable({"a"}, root)


def test_what_is_not_to_be_shared_is_refused(root: Path) -> None:
    models = root / "models"
    assert shared.named_runs([models / "a", models / "b"], root) == {"a", "b"}
    with pytest.raises(UserError, match="was made to try something out"):
        shared.named_runs([models / "debug-c"], root)
    with pytest.raises(UserError, match="is not in models/"):
        shared.named_runs([models / "a"], root / "elsewhere")
    (models / "a").rename(models / "[a]")
    with pytest.raises(UserError, match="a pattern"):
        shared.require_shareable({"[a]"}, root)
    (models / "b/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"b/model.safetensors is missing"):
        shared.require_shareable({"b"}, root)
    (models / "b/trace.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="is missing"):
        shared.require_shareable({"b"}, root)
    shutil.copy(models / "[a]/model.safetensors", models / "b")
    with pytest.raises(UserError, match=r"was edited after it was trained \(trace.jsonl"):
        shared.require_shareable({"b"}, root)


def test_a_damaged_record_is_not_passed_over(root: Path) -> None:
    (root / "models/a/record.json").write_text("[")
    (root / "models/b/record.json").write_text('{"observed": {"status": "running"}}')
    assert shared.finished_runs(root) == {"a"}
    with pytest.raises(UserError, match=r"record.json is damaged"):
        shared.require_shareable({"a"}, root)


def test_any_failure_of_the_remote_is_one_sentence() -> None:
    said = pytest.raises(UserError, match=r"^gs://bucket: two lines, without https://\*\*\*@host.$")
    with said, shared.storage_errors("gs://bucket"):
        raise ValueError("two\nlines, without https://me:secret@host")
    for name in ("push", "pull"):
        assert command(name, "--help").returncode == 0


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = module("samebits.serve")
    monkeypatch.setitem(sys.modules, "dvc", None)
    with pytest.raises(UserError, match=r"^this needs dvc, not .*, `pip install 'samebits\[share\]'`\.$"):
        shared.pull_main(Namespace())
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    with pytest.raises(UserError, match=r"^this needs jupyterlab, not .*, `pip install 'samebits\[serve\]'`\.$"):
        serve.lab_main([])
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"^mlflow is not installed: make setup EXTRAS=mlflow"):
        serve.tracking_main(serve.tracking_parser().parse_args([]))
    for verb in ("lab", "tracking"):
        done = command(verb, "--help")
        assert done.returncode == 0 and verb in done.stdout


def test_a_lock_that_a_killed_dvc_left_empty_is_removed(tmp_path: Path) -> None:
    """Found by tests/command_kills.py: DVC refuses to begin, whatever is called."""
    path = tmp_path / "rwlock"
    edit = module("dvc.rwlock")._edit_rwlock
    path.touch()
    with pytest.raises(module("dvc.rwlock").RWLockFileCorruptedError), edit(str(tmp_path), module("dvc.fs").localfs, 0):
        pass
    shared.remove_cut_lock(tmp_path)
    with edit(str(tmp_path), module("dvc.fs").localfs, 0):
        pass
    before = path.read_bytes()
    shared.remove_cut_lock(tmp_path)
    assert before and path.read_bytes() == before


def test_the_log_has_links_with_the_token() -> None:
    provider = SimpleNamespace(token="t&t")
    server = SimpleNamespace(identity_provider=provider, public_url="http://127.0.0.1:8888/u/lab", base_url="/u/")
    report, lab = module("samebits.serve").links(server)
    assert report == "There is no reports/report.html yet: make report"
    assert lab == "JupyterLab:  http://127.0.0.1:8888/u/lab?token=t%26t"
