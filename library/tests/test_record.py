"""The record: its form and seal, the state of the code, packages that were changed, what must not be in it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from .conftest import Compose
from .project import UserError, module

record, source, packages = (
    module("samebits.engine.record"),
    module("samebits.engine.git_snapshot"),
    module("samebits.engine.loaded_code"),
)


def test_the_record_has_the_published_form(trained: Path) -> None:
    found = record.read_finished(trained)
    assert found["observed"]["status"] == "finished" and found["observed"]["steps"] == 2
    assert found["environment"]["packages"]["torch"].startswith("2.") and found["environment"]["patched"] == {}
    assert found["environment"]["threads"]["operations"] == 1
    assert found["inputs"]["origin"]["licence"] and found["inputs"]["origin"]["files"][0]["sha256"]
    assert set(found["outputs"]["tensors"]) >= {"layers.0.weight", "layers.10.bias"}
    assert found["outputs"]["trace"]["rows"] == 6  # steps 0 to 2, two validations, the test


def test_a_damaged_or_foreign_record_is_refused(trained: Path, tmp_path: Path) -> None:
    whole = json.loads((trained / "record.json").read_text())
    for spoilt, word in (
        (None, "missing"),
        ("{", "damaged"),
        ("[]", "no JSON object"),
        (json.dumps(whole | {"format": 2}), "has the format 2"),
        (json.dumps({key: value for key, value in whole.items() if key != "outputs"}), r"must contain \['outputs'\]"),
        (json.dumps(whole | {"observed": {"status": "running", "started": "now"}}), "has not finished"),
    ):
        if spoilt is not None:
            (tmp_path / "record.json").write_text(spoilt)
        with pytest.raises(UserError, match=word):
            record.read_finished(tmp_path)


def test_the_seal_tells_of_edits(trained: Path) -> None:
    found = record.read_record(trained)
    assert record.is_sealed(found)
    found["environment"]["python"] = "2.7"
    assert not record.is_sealed(found)


def test_addresses_lose_their_passwords() -> None:
    redact = module("samebits.engine.secrets").redact
    kept = ["https://example.org/a@b", "git@example.org:me/it.git", "https://example.org/?page=2", 3, None, "a@b.org"]
    assert redact(kept) == kept
    hidden = {
        "https://me:pw@h/x": "https://***@h/x",
        "s3://h/?X-Amz-Signature=a1&b=2": "s3://h/?X-Amz-Signature=***&b=2",
    }
    assert redact({"nested": list(hidden)}) == {"nested": list(hidden.values())}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    (root / "code.py").write_text("x = 1\n")
    (root / ".gitignore").write_text("secret.txt\n")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=First")
    return root


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True).stdout


def state(root: Path) -> list[str]:
    return [git(root, *words.split()) for words in ("status --porcelain", "rev-parse HEAD", "stash list", "branch")]


def test_the_code_is_pinned_without_touching_anything(repository: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    clean = source.take_snapshot(repository, "run-1", run)
    assert clean["changed"] == [] and clean["snapshot"] == clean["commit"] and not (run / "code.patch").exists()

    (repository / "code.py").write_text("x = 2\n")
    (repository / "new.py").write_text("y = 1\n")
    (repository / "secret.txt").write_text("not for others")
    (repository / "large.bin").write_bytes(bytes(source.MOST_BYTES + 1))
    (repository / "models").mkdir()
    (repository / "models/.gitignore").write_text("*\n")  # results that a user ignores altogether
    (repository / ".git/info/exclude").write_text("/reports\n/models\n")
    git(repository, "add", "new.py")
    before = state(repository)
    found = source.take_snapshot(repository, "run-2", run)
    assert state(repository) == before
    assert found["changed"] == ["code.py", "new.py"] and list(found["left_out"]) == ["large.bin"]
    assert git(repository, "rev-parse", "refs/runs/run-2").strip() == found["snapshot"] != found["commit"]

    for known in (found, found | {"snapshot": "0" * 40}):  # from the snapshot; from the commit and the patch
        target = tmp_path / known["snapshot"]
        target.mkdir()
        source.export_snapshot(repository, known, run, target)
        assert (target / "code.py").read_text() == "x = 2\n" and (target / "new.py").read_text() == "y = 1\n"
        assert not (target / "secret.txt").exists()
    with pytest.raises(source.NoGit):
        source.export_snapshot(repository, found | {"snapshot": "0" * 40, "commit": "0" * 40}, run, target)


def test_no_lock_of_git_outlives_a_kill(repository: Path, tmp_path: Path) -> None:
    """Found by tests/command_kills.py: `git status` writes the index by the way, and its lock would stay."""
    index, run = repository / ".git/index", tmp_path / "run-9"
    run.mkdir()
    for path in (path for path in repository.rglob("*") if path.is_file() and ".git" not in path.parts):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    before = index.read_bytes()
    source.text(repository, "status", "--porcelain")
    assert index.read_bytes() == before
    git(repository, "status", "--porcelain")
    assert index.read_bytes() != before  # control
    lock = repository / ".git/refs/runs/run-9.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    found = source.take_snapshot(repository, "run-9", run)
    assert git(repository, "rev-parse", "refs/runs/run-9").strip() == found["snapshot"] and "remark" not in found


def test_a_project_may_be_a_folder_of_a_larger_repository(repository: Path, tmp_path: Path) -> None:
    project, target = repository / "sub" / "project", tmp_path / "target"
    project.mkdir(parents=True)
    target.mkdir()
    (project / "model.py").write_text("x = 1\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=Second")
    (project / "model.py").write_text("x = 2\n")
    (repository / "code.py").write_text("not the project's\n")
    found = source.take_snapshot(project, "run", tmp_path)
    assert found["changed"] == ["model.py"]
    for known in (found, found | {"snapshot": "0" * 40}):
        source.export_snapshot(project, known, tmp_path, target)
        assert (target / "model.py").read_text() == "x = 2\n" and not (target / "code.py").exists()


def test_without_git_the_record_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "not a git repository" in source.take_snapshot(tmp_path, "run", tmp_path)["remark"]
    monkeypatch.setenv("PATH", "/nowhere")
    assert "Git is not installed" in source.take_snapshot(tmp_path, "run", tmp_path)["remark"]


def empty_inside(root: Path) -> None:
    git(root, "init", "--quiet", "inside")


def changed_inside(root: Path) -> None:
    empty_inside(root)
    (root / "inside/code.py").write_text("x = 1\n")
    git(root / "inside", "add", "--all")
    git(root / "inside", "commit", "--quiet", "--message=First")
    (root / "inside/code.py").write_text("x = 2\n")


def without_program(root: Path) -> None:
    for key, value in {"process": "no-such-program", "clean": "no-such-program", "required": "true"}.items():
        git(root, "config", f"filter.lfs.{key}", value)
    (root / ".gitattributes").write_text("*.py filter=lfs\n")


def hooks(root: Path) -> None:
    for name in ("reference-transaction", "post-index-change"):
        (root / ".git/hooks" / name).write_text("#!/bin/sh\nexit 1\n")
        (root / ".git/hooks" / name).chmod(0o755)


def without_objects(root: Path) -> None:
    git(root, "repack", "-adq")
    for number in range(256):
        (root / f".git/objects/{number:02x}").write_text("where a folder would be")


GIT_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {  # what is done, and what of it the record says
    "an empty repository inside": (empty_inside, "does not have a commit checked out"),
    "a repository inside, changed": (changed_inside, "committed last in inside"),
    "no place for refs": (lambda root: (root / ".git/refs/runs").write_text(""), "under refs/runs/run"),
    "no place for objects": (without_objects, "under refs/runs/run"),
    "a damaged index": (lambda root: (root / ".git/index").write_bytes(b"no index"), ""),
    "a locked index": (lambda root: (root / ".git/index.lock").write_text(""), ""),
    "a filter that is not installed": (without_program, ""),
    "hooks that fail": (hooks, ""),
    "a name that is no UTF-8": (lambda root: Path(os.fsdecode(os.fsencode(root) + b"/\xff.txt")).write_text(""), ""),
    "a link to nowhere": (lambda root: (root / "link").symlink_to("nowhere"), ""),
    "lines that end otherwise": (lambda root: git(root, "config", "core.autocrlf", "true"), ""),
    "patches of another form": (lambda root: git(root, "config", "diff.noprefix", "true"), ""),
    "commits that are signed": (lambda root: git(root, "config", "commit.gpgsign", "true"), ""),
}


@pytest.mark.parametrize("fault", GIT_FAULTS)
def test_what_git_cannot_keep_is_said_and_all_else_is_kept(fault: str, repository: Path, tmp_path: Path) -> None:
    spoil, said = GIT_FAULTS[fault]
    (repository / "code.py").write_text("x = 2\n")
    git(repository, "config", "core.safecrlf", "true")
    spoil(repository)
    before = (repository / ".git/index").read_bytes(), git(repository, "rev-parse", "HEAD"), git(repository, "branch")
    found = source.take_snapshot(repository, "run", tmp_path)
    after = (repository / ".git/index").read_bytes(), git(repository, "rev-parse", "HEAD"), git(repository, "branch")
    assert after == before
    assert said in found.get("remark", "nothing") if said else "remark" not in found
    assert found["commit"] == before[1].strip() and "code.py" in found["changed"]
    for number, known in enumerate((found, found | {"snapshot": "0" * 40})):  # from the snapshot, from the patch
        (tmp_path / str(number)).mkdir()
        source.export_snapshot(repository, known, tmp_path, tmp_path / str(number))
        assert (tmp_path / str(number) / "code.py").read_text().replace("\r", "") == "x = 2\n"


def test_a_name_that_is_none_for_git_loses_neither_commit_nor_patch(repository: Path, tmp_path: Path) -> None:
    (repository / "code.py").write_text("x = 2\n")
    found = source.take_snapshot(repository, "a..b", tmp_path)
    assert "bad name" in found["remark"] and (tmp_path / "code.patch").exists() and found["changed"] == ["code.py"]


def test_a_training_that_a_hook_of_git_starts_finds_its_own_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "code.py").write_text("x = 2\n")
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    assert source.take_snapshot(repository, None, tmp_path)["changed"] == ["code.py"]


def test_without_a_commit_or_a_repository_the_record_says_so(repository: Path, tmp_path: Path) -> None:
    git(repository, "update-ref", "-d", "HEAD")
    assert "has no commit yet" in source.take_snapshot(repository, "run", tmp_path)["remark"]
    shutil.rmtree(repository / ".git")
    (repository / ".git").write_text("gitdir: /nowhere\n")
    assert "not a git repository: /nowhere" in source.take_snapshot(repository, "run", tmp_path)["remark"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a package of one module, with the list of hashes that a wheel brings."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tiny_package.py").write_text("x = 1\n")
    information = tmp_path / "tiny_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: Tiny_Package\nVersion: 1.0\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"x = 1\n").digest()).rstrip(b"=").decode()
    (information / "RECORD").write_text(f"tiny_package.py,sha256={digest},6\ntiny_package-1.0.dist-info/RECORD,,\n")
    import_module("tiny_package")
    (tmp_path / "old_package-0.1.egg-info").write_text("Name: old-package\nVersion: 0.1\n\nVersion: 0.2\n")  # a file
    forget()
    yield tmp_path
    del sys.modules["tiny_package"]
    forget()


def forget() -> None:
    packages.installed.cache_clear()


def test_a_file_of_a_package_that_was_patched_is_named(installed: Path) -> None:
    assert packages.package_versions()["tiny-package"] == "1.0"
    assert packages.package_versions()["old-package"] == "0.1"
    assert packages.find_loaded().patched == {}
    (installed / "tiny_package.py").write_text("x = 2\n")
    forget()
    assert list(packages.find_loaded().patched) == ["tiny_package.py"]


def test_code_from_elsewhere_is_named_without_its_folder(installed: Path) -> None:
    (installed / "loose_module.py").write_text("x = 1\n")
    import_module("loose_module")
    found = packages.outside_files(packages.find_loaded(), [])
    assert ".../loose_module.py" in found and ".../tests/test_record.py" in found
    assert ".../tiny_package.py" not in found  # which is a package, wherever it is installed
    del sys.modules["loose_module"]
    assert not any("samebits" in name or "site-packages" in name for name in found)


def test_a_run_whose_code_from_elsewhere_has_changed_is_trained_anew_beside_it(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "models" / trained.name)
    content = record.read_record(run)
    content["inputs"]["outside"] = {"helper.py": hashlib.sha256(b"x = 1").hexdigest()}
    record.write_record(run, content)
    for code, name in (("x = 1", trained.name), ("x = 2", f"{trained.name}-2")):
        (tmp_path / "helper.py").write_text(code)
        found = module("samebits.engine.record").find_run(
            tmp_path / "models", "debug-fast-cnn-seed=0", content["inputs"], tmp_path
        )
        assert found.id == name


def test_a_published_record_of_the_same_result_stays(settings: Compose, trained: Path, tmp_path: Path) -> None:
    run = module("samebits.engine.record").RunDirectory(trained, {})
    run.publish(tmp_path / "main")
    before = (tmp_path / "main/record.json").read_bytes()
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    content = record.read_record(again)
    content["observed"]["started"] = "later"
    record.write_record(again, content)
    module("samebits.engine.record").RunDirectory(again, {}).publish(tmp_path / "main")
    assert (tmp_path / "main/record.json").read_bytes() == before
    content["outputs"]["metrics"]["test/loss"] = 0.0  # another result
    record.write_record(again, content)
    module("samebits.engine.record").RunDirectory(again, {}).publish(tmp_path / "main")
    assert (tmp_path / "main/record.json").read_bytes() == (again / "record.json").read_bytes() != before


def test_show_says_what_made_a_run(trained: Path) -> None:
    show = module("samebits.verify.comparison")
    text = dict(show.describe(trained, record.read_record(trained)))
    assert text["run"] == trained.name and "2 steps" in text["trained"] and text["licence"] == "CC BY 4.0"
    with pytest.raises(UserError, match=f"made by the run {trained.name}, whose record is not in models/"):
        show.find_run(trained / "model.safetensors")
