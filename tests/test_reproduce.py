"""What a stranger does with a project: clone it, train it again, look at what made it, and find no secret in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import IDENTITY, Project, lend_environment

pytestmark = pytest.mark.project

SECRETS = {"AWS_SECRET_ACCESS_KEY": "aws-0f1e2d3c", "WANDB_API_KEY": "wandb-4b5a6978", "GITHUB_TOKEN": "ghp-8796a5b4"}
LOGIN = "login-c3d2e1f0"


@pytest.fixture(scope="module")
def clone(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Commit the results, and clone them to another folder: without runs, data and weights."""
    project.make("evaluate")
    project.run("git", "add", "--all")
    project.run("git", *IDENTITY, "commit", "--quiet", "--no-verify", "--allow-empty", "--message", "Results")
    clone = Project(tmp_path_factory.mktemp("a stranger's") / "clone")
    subprocess.run(["git", "clone", "--quiet", str(project.path), str(clone.path)], check=True)
    lend_environment(project.path, clone.path)
    return clone


def test_a_clone_gives_the_committed_run_again(clone: Project, tmp_path: Path) -> None:
    assert sorted(path.name for path in (clone.path / "models").iterdir()) == [".gitignore", "main"]
    assert not (clone.path / "models/main/model.safetensors").exists()
    output = clone.make("reproduce", "BY=A stranger", HOME=str(tmp_path), TZ="Asia/Kathmandu")
    assert "\nIDENTICAL " in output
    (path,) = (clone.path / "models/main/verdicts").glob("*-IDENTICAL.json")
    verdict = json.loads(path.read_text())
    assert verdict["by"] == "A stranger" and verdict["compared"]["rows"] > 20 and not verdict["comparison"]["tensors"]
    said = (clone.path / "reports/reproduction.md").read_text()
    assert "by A stranger" in said and "**IDENTICAL**" in said and verdict["run"] in said
    assert clone.run("git", "status", "--porcelain").split() == [
        "??",
        "models/main/verdicts/",
        "??",
        "reports/reproduction.md",
    ]
    assert clone.run("git", "for-each-ref", "refs/runs") == ""
    assert "IDENTICAL" in clone.make("show")


def test_the_pipeline_repeats_to_the_byte(clone: Project) -> None:
    """dvc.lock is a contract: whoever runs everything again is left with the same file."""
    clone.python("-m", "dvc", "repro", "--force", "evaluate", PATH=f"{clone.path / '.venv/bin'}:{os.environ['PATH']}")
    assert clone.run("git", "diff", "--stat", "--", "dvc.lock", "models/main", "reports/metrics.json") == ""
    lock = (clone.path / "dvc.lock").read_text()
    assert "models/main/trace.jsonl" in lock and "record.json" not in lock
    (clone.path / "dvc.lock").write_text(lock.replace("size: ", "size: 1", 1))  # the check can fail
    assert "dvc.lock" in clone.run("git", "diff", "--stat")
    (clone.path / "dvc.lock").write_text(lock)


def test_a_new_environment_from_the_lock_and_the_recorded_code(clone: Project) -> None:
    """An edit that alters results is reported, and the run's own code, in packages installed anew, still gives them."""
    (network,) = clone.path.glob("src/*/models/network.py")
    content = network.read_text()
    network.write_text(content.replace("nn.ReLU()", "nn.LeakyReLU()", 1))
    output = clone.make("probe", "RUN=models/main", status=2)
    assert "\nDIFFERENT INPUTS " in output and "+            nn.LeakyReLU()," in output
    assert "operator relu in network.layers.1 (the other: leaky_relu" in output
    output = clone.make("reproduce", "RUN=models/main", "FRESH=1")
    assert "Installing the locked packages" in output and "\nIDENTICAL " in output
    network.write_text(content)
    assert (
        "installed anew from the lock, with the code of the run: **IDENTICAL**"
        in (clone.path / "reports/reproduction.md").read_text()
    )


def test_a_run_beside_is_compared_and_stray_weights_lead_back_to_it(clone: Project, tmp_path: Path) -> None:
    for seed in (1, 2):
        clone.make("train", f"ARGS=debug=reference seed={seed} trainer.max_epochs=1")
    one, two = (next((clone.path / "models").glob(f"reference-cnn-seed={seed}-*")) for seed in (1, 2))
    output = clone.make("compare", f"A=models/{one.name}", f"B=models/{two.name}", status=2)
    assert re.search(r"settings seed +1 +2", output) and "first at step 0, in the weights" in output
    assert "IDENTICAL" in clone.make("compare", f"A=models/{one.name}", f"B=models/{one.name}")

    shutil.copy(one / "model.safetensors", tmp_path / "stray.safetensors")
    said = clone.make("show", f"RUN={tmp_path}/stray.safetensors")
    commit = clone.run("git", "rev-parse", "HEAD").strip()
    assert one.name in said and commit[:12] in said and "CC BY 4.0" in said and "data/README.md" in said
    content = bytearray((one / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "stray.safetensors").write_bytes(content)
    said = clone.make("show", f"RUN={tmp_path}/stray.safetensors", status=2)
    assert "do not use it" in said and "Traceback" not in said


def test_the_reference_guards_against_changes(clone: Project) -> None:
    assert "There is no reference yet: make reference" in clone.make("guard")
    clone.make("reference")
    assert "reports/reference/model.safetensors" not in clone.run("git", "status", "--porcelain", "-uall")
    assert "the results stand" in clone.make("guard")
    (network,) = clone.path.glob("src/*/models/network.py")
    content = network.read_text()
    late = "        self.steps = getattr(self, 'steps', 0) + self.training\n"
    late += "        images = images * (1.01 if self.steps == 12 else 1.0)\n"
    network.write_text(content.replace("        scores: torch.Tensor", f"{late}        scores: torch.Tensor", 1))
    output = clone.make("guard", status=2)
    assert "The change alters the results from step 12 on, first in the loss." in output
    output = clone.make("guard", "OP=1", status=2)
    assert "The change alters the results from step 12 on, first in the loss, operator convolution in network" in output
    network.write_text(content)
    assert not list((clone.path / "reports/reference").glob("verdicts"))


def test_no_secret_is_written_down(clone: Project) -> None:
    address = f"https://me:{LOGIN}@example.org"
    clone.run("git", "remote", "set-url", "origin", f"{address}/project.git")
    config = clone.path / "configs/data/digits.yaml"
    content = config.read_text()
    config.write_text(content.replace("pkg://sklearn/", f"{address}/sklearn/"))
    said = clone.make("train", "ARGS=debug=fast seed=77", **SECRETS)  # type: ignore[arg-type] # no name is `status`
    assert "configs/data/digits.yaml" in said and "it holds a password or a key" in said  # and is not in code.patch
    clone.run("git", "remote", "set-url", "origin", "https://example.org/project.git")
    config.write_text(content)
    (run,) = (clone.path / "models").glob("debug-fast-cnn-seed=77-*")
    written = {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert {"record.json", "config.yaml"} <= written.keys()
    assert b"https://***@example.org" in written["record.json"] and b"https://***@example.org" in written["config.yaml"]
    for secret in (*SECRETS.values(), LOGIN):
        assert [name for name, content in written.items() if secret.encode() in content] == []


def test_a_file_too_large_to_be_code_is_left_out(clone: Project) -> None:
    clone.make("data")  # dvc.lock is up to date
    (clone.path / "notes").mkdir()
    (clone.path / "notes/idea.txt").write_text("written down, not committed\n")
    (clone.path / "notes/large.bin").write_bytes(bytes(6_000_000))
    before = clone.run("git", "status", "--porcelain"), clone.run("git", "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    output = clone.make("train", "ARGS=debug=fast seed=78")
    assert "warning: notes/large.bin (6 MB) is neither committed nor ignored" in output
    after = clone.run("git", "status", "--porcelain"), clone.run("git", "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    assert after == before
    (run,) = (clone.path / "models").glob("debug-fast-cnn-seed=78-*")
    source = json.loads((run / "record.json").read_text())["source"]
    assert source["left_out"] == {"notes/large.bin": 6_000_000} and "notes/idea.txt" in source["changed"]
    assert clone.run("git", "show", f"refs/runs/{run.name}:notes/idea.txt") == "written down, not committed\n"
    assert clone.run("git", "rev-parse", f"refs/runs/{run.name}").strip() == source["snapshot"]
    assert "written down" in (run / "code.patch").read_text()
    shutil.rmtree(clone.path / "notes")
