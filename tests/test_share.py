"""Sharing runs: a clone that pulls has them all, whole, and the same for DVC; what fails leaves nothing half-done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .conftest import IDENTITY, Project, lend_environment

pytestmark = pytest.mark.project

WEIGHTS = "models/*/model.safetensors"


def renew(path: Path, fill: Callable[[], object], project: Project) -> Project:
    """Fill a folder anew; its environment, which takes longest to make, stays.

    Args:
        path: of the folder.
        fill: makes it.
        project: from which the environment is taken the first time.
    """
    kept = path.with_name(f"{path.name}-environment")
    if path.exists():
        (path / ".venv").rename(kept)
        shutil.rmtree(path)
    fill()
    if kept.exists():
        kept.rename(path / ".venv")
    else:
        lend_environment(project.path, path)
        Project(path).make("setup")
    return Project(path)


def copy(source: Path, path: Path) -> None:
    shutil.copytree(source, path, symlinks=True, ignore=shutil.ignore_patterns(".venv*"))


def commit(project: Project) -> None:
    project.run("git", "add", "--all")
    project.run("git", *IDENTITY, "commit", "--quiet", "--no-verify", "--message", "Results")


def weights(project: Project) -> dict[str, bytes]:
    return {str(path.relative_to(project.path)): path.read_bytes() for path in project.path.glob(WEIGHTS)}


@pytest.fixture(scope="module")
def trained(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project with the main run and two beside it, and one that was only to try something out."""
    path = tmp_path_factory.mktemp("an author's") / "work"
    author = renew(path, lambda: copy(project.path, path), project)
    main = json.loads((author.path / "models/main/record.json").read_text())["run"]
    for run in (author.path / "models").glob("*/"):
        if run.name not in ("main", main):
            shutil.rmtree(run)
    for seed in (1, 2):
        author.make("train", f"ARGS=trainer.max_epochs=1 seed={seed}")
    author.make("train", "ARGS=debug=fast")
    author.make("evaluate")
    author.make("report")
    commit(author)
    copy(author.path, author.path.with_name("pristine"))
    return author


@pytest.fixture
def author(trained: Project) -> Project:
    path = trained.path
    return renew(path, lambda: copy(path.with_name("pristine"), path), trained)


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """Give the address of a folder on a real server, a key for it, and a home that knows the server."""
    url, key = os.environ.get("TEST_SSH_REMOTE"), os.environ.get("TEST_SSH_KEYFILE")
    if not url or not key:
        assert not os.environ.get("REQUIRE_SSH"), "TEST_SSH_REMOTE and TEST_SSH_KEYFILE are not set"
        pytest.skip("TEST_SSH_REMOTE and TEST_SSH_KEYFILE are not set")
    server = urlsplit(url)
    words = ["ssh-keyscan", "-p", str(server.port or 22), str(server.hostname)]
    keys = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert keys
    (tmp_path / "home/.ssh").mkdir(parents=True)
    (tmp_path / "home/.ssh/known_hosts").write_text(keys)
    yield f"{url.rstrip('/')}/{uuid.uuid4().hex}", key, str(tmp_path / "home")


def add_remote(project: Project, url: str) -> None:
    project.python("-m", "dvc", "remote", "add", "--force", "--default", "storage", url)


def share_and_clone(author: Project, *local: str, home: str = os.environ["HOME"]) -> None:
    """Share all, and look whether a clone is the same.

    Args:
        author: who has runs, and a remote.
        local: settings of the remote that do not go into Git, as `key=value`.
        home: of the user.
    """

    def configure(project: Project) -> None:
        for setting in local:
            project.python("-m", "dvc", "remote", "modify", "--local", "storage", *setting.split("=", 1))

    configure(author)
    output = author.make("push", HOME=home)
    assert "3 runs beside the main one, 3 of them new" in output and "git push origin 'refs/runs/*'" in output
    assert "git add --all models shared .dvc && git commit" in output
    commit(author)
    again = author.make("push", HOME=home)
    assert "0 of them new" in again and "sent    0 files" in again and "git commit" not in again

    path = author.path.with_name("clone")
    words = ["git", "clone", "--quiet", str(author.path), str(path)]
    clone = renew(path, lambda: subprocess.run(words, check=True), author)
    configure(clone)
    assert not weights(clone)
    clone.make("pull", HOME=home)
    expected = {name: content for name, content in weights(author).items() if "/debug-" not in name}
    assert weights(clone) == expected and len(expected) == 4
    assert "Running stage" not in clone.make("train")
    output = clone.make("report")
    assert "Running stage 'report'" in output and "Running stage 'train'" not in output
    assert clone.run("git", "status", "--porcelain") == ""  # the same report, to the byte
    for name in expected:
        assert "WARNING" not in clone.make("show", f"RUN={Path(name).parent}")
    assert "0 of them new" in clone.make("push", HOME=home)
    assert clone.run("git", "status", "--porcelain") == ""


def test_push_and_pull_bring_all_runs_to_another_clone(author: Project, tmp_path: Path) -> None:
    add_remote(author, str(tmp_path / "a store"))
    share_and_clone(author)


def test_push_and_pull_over_ssh(author: Project, ssh: tuple[str, str, str]) -> None:
    url, key, home = ssh
    add_remote(author, url)
    share_and_clone(author, f"keyfile={key}", home=home)


def test_a_server_that_is_not_known_is_not_trusted(author: Project, tmp_path: Path, ssh: tuple[str, str, str]) -> None:
    url, key, home = ssh
    add_remote(author, url)
    stranger = str(tmp_path / "another home")
    assert "does not accept your key" in author.make("push", status=2, HOME=home)
    author.python("-m", "dvc", "remote", "modify", "--local", "storage", "keyfile", key)
    for target in ("push", "pull"):
        output = author.make(target, status=2, HOME=stranger)
        assert "is not in ~/.ssh/known_hosts" in output and "Traceback" not in output
    assert author.run("git", "status", "--porcelain", "models", "shared") == ""
    author.python("-m", "dvc", "push", HOME=stranger)  # why `make push` asks by itself: DVC trusts whoever answers


def test_nothing_is_shared_where_something_is_wrong(author: Project, tmp_path: Path) -> None:
    def refused(sentence: str, *words: str) -> None:
        output = author.make("push", *words, status=2)
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and sentence in errors[0] and "Traceback" not in output, output
        assert author.run("git", "status", "--porcelain", "models", "shared") == ""

    refused("dvc remote add --default storage")
    add_remote(author, "s3://bucket/store")
    refused("run `make setup EXTRAS=s3`")
    add_remote(author, "/proc/no/such/store")
    refused("/proc/no/such/store")
    add_remote(author, str(tmp_path / "store"))
    (one,) = (author.path / "models").glob("*seed=1-*")
    metrics = (one / "metrics.json").read_text()
    (one / "metrics.json").write_text(metrics.replace("0.", "0.9", 1))
    refused(f"models/{one.name} was edited after it was trained (metrics.json: ")
    (one / "metrics.json").write_text(metrics)
    (one / "model.safetensors").rename(tmp_path / "weights")
    refused(f"models/{one.name}/model.safetensors is missing")
    (debug,) = (author.path / "models").glob("debug-*")
    refused("was made to try something out", f"RUN=models/{debug.name}")
    refused("record.json is missing", "RUN=models/nothing")
    (author.path / ".git").rename(tmp_path / "git")
    assert "is not in Git" in author.make("push", status=2)


def test_one_run_is_shared_and_one_that_is_gone_is_no_longer(author: Project, tmp_path: Path) -> None:
    add_remote(author, str(tmp_path / "store"))
    (one,) = (author.path / "models").glob("*seed=1-*")
    (two,) = (author.path / "models").glob("*seed=2-*")
    assert "1 runs beside the main one, 1 of them new" in author.make("push", f"RUN=models/{one.name}")
    assert (author.path / f"shared/{one.name}.dvc").exists() and not (author.path / f"shared/{two.name}.dvc").exists()
    assert "2 runs beside the main one, 1 of them new" in author.make("push", f"RUN=models/{two.name}")
    commit(author)
    shutil.rmtree(author.path / ".dvc/cache")
    (two / "model.safetensors").unlink()
    shutil.rmtree(one)
    assert f"gone    {one.name}" in author.make("push", f"RUN=models/{two.name}")
    status = author.run("git", "status", "--porcelain", "models/.gitignore", "shared").splitlines()
    assert status == [" M models/.gitignore", f" D shared/{one.name}.dvc"]  # the other one is left alone
    author.make("pull")
    assert (two / "model.safetensors").exists() and not one.exists()


def test_what_the_remote_does_not_have_is_named(author: Project, tmp_path: Path) -> None:
    add_remote(author, str(tmp_path / "store"))
    author.make("push")
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "store").mkdir()
    shutil.rmtree(author.path / ".dvc/cache")
    (one,) = (author.path / "models").glob("*seed=1-*")
    (one / "model.safetensors").unlink()
    output = author.make("pull", status=2)
    assert "data/processed/" in output and "nobody else has it" in output
    assert (author.path / "data/processed/digits/dataset.json").exists()
    shutil.rmtree(author.path / "data/raw")
    shutil.rmtree(author.path / "data/processed")
    output = author.make("pull", status=2)
    assert (
        f"models/{one.name}/model.safetensors" in output
        and "cannot be had from" in output
        and "Traceback" not in output
    )
