"""Verdicts: what contradicts what, how far apart, what is said; the catalogue of planted faults is the template's."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from .conftest import Compose
from .project import LIBRARY, NAME, ROOT, UserError, command, module

records, provenance_diff = module("samebits.engine.record"), module("samebits.verify.provenance_diff")
comparison, verdict = module("samebits.verify.comparison"), module("samebits.verify.verdict")
reruns = module("samebits.verify.rerun")
VERSION = module("samebits").__version__


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / trained.name))


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        content = (run / name).read_text()
        assert old in content
        (run / name).write_text(content.replace(old, new, 1))

    return spoil


def remove(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def nudge(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    weights["layers.3.bias"][0] += 1e-7
    save_file(weights, run / "model.safetensors", {"run": run.name})


def cut(run: Path) -> None:
    (run / "model.safetensors").write_bytes(b"{")


def garble(run: Path) -> None:
    (run / "trace.jsonl").write_bytes(bytes(range(128, 256)) + b"\n")


def reseal(run: Path) -> None:
    record = json.loads((run / "record.json").read_text())
    record["inputs"]["config"]["seed"] = 1
    records.write_record(run, record)


EDITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "metric": (replace("metrics.json", '"test/loss": 2', '"test/loss": 1'), "metrics.json: test/loss is 1"),
    "metrics gone": (remove("metrics.json"), "metrics.json is missing"),
    "setting": (replace("config.yaml", "seed: 0", "seed: 1"), "config.yaml: seed is 1, but the record says 0"),
    "config broken": (replace("config.yaml", "seed: 0", "seed: ["), "config.yaml cannot be read"),
    "trace": (replace("trace.jsonl", '"epoch": 0', '"epoch": 1'), "trace.jsonl was edited"),
    "trace gone": (remove("trace.jsonl"), "trace.jsonl is missing"),
    "trace of bytes": (garble, "line 1 is no row of a trace"),
    "history": (replace("history.csv", ",val/loss,", ",val/loss,9"), "history.csv was edited"),
    "weights": (nudge, "the tensor layers.3.bias is not the one"),
    "weights cut": (cut, "model.safetensors is damaged"),
    "inputs": (reseal, "the inputs have the hash"),
    "environment": (replace("record.json", '"python": "3', '"python": "4'), "record.json was edited after the run"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_contradicts_the_record(run: Path, edit: str) -> None:
    assert provenance_diff.contradictions(run, records.read_finished(run)) == []
    spoil, words = EDITS[edit]
    spoil(run)
    found = provenance_diff.contradictions(run, records.read_finished(run))
    assert words in found[0], found


def test_an_edited_run_is_no_result(settings: Compose, trained: Path) -> None:
    content = (trained / "metrics.json").read_text()
    (trained / "metrics.json").write_text(content.replace('"test/accuracy": 0.', '"test/accuracy": 0.9'))
    with pytest.raises(UserError, match=r"was edited after it was trained \(metrics.json: test/accuracy is 0.9"):
        module("dummy.train").train(settings())
    (trained / "metrics.json").write_text(content)
    module("dummy.train").train(settings())


def test_a_renamed_run_is_noticed_and_a_published_copy_is_not(run: Path) -> None:
    other = f"{run.name.rpartition('-')[0]}-01234567"
    renamed = run.rename(run.with_name(other))
    assert (
        f"the directory is called {other}" in provenance_diff.contradictions(renamed, records.read_record(renamed))[0]
    )
    published = renamed.rename(renamed.with_name("best"))
    assert provenance_diff.contradictions(published, records.read_record(published)) == []


def test_a_run_is_verified_in_a_process_of_its_own(run: Path, workspace: Path) -> None:
    verification = module("samebits.verify.reproduce")
    found = module("samebits.verify.reproduce").verify(run, verification.Options(), root=workspace)
    assert found.kind is verdict.Kind.IDENTICAL and found.status == 0
    (path,) = (run / "verdicts").iterdir()
    assert json.loads(path.read_text())["verdict"] == "IDENTICAL"
    assert len(comparison.verdicts_on(run, records.read_record(run))) == 1
    assert comparison.verdicts_on(run, {"sha256": "of another record in its place"}) == []
    labels = workspace / "data/processed/val_labels.npy"
    content = labels.read_bytes()
    labels.write_bytes(content[:-8] + bytes(8))
    found = module("samebits.verify.reproduce").verify(run, verification.Options(probe=True), root=workspace)
    labels.write_bytes(content)
    assert found.kind is verdict.Kind.DIFFERENT_INPUTS and found.inputs[0][0] == "data val_labels.npy"


def test_distances_count_numbers_and_units_of_the_last_place(tmp_path: Path) -> None:
    def distance(one: torch.Tensor, other: torch.Tensor) -> tuple[int, float, int]:
        save_file({"a": one, "b": torch.zeros(3)}, tmp_path / "one")
        save_file({"a": other, "b": torch.zeros(3)}, tmp_path / "other")
        found = comparison.weight_diff(tmp_path / "one", tmp_path / "other")
        assert found.total == len(one) + 3
        return found.numbers, found.largest, found.ulps

    one = torch.tensor([1.0, 2.0])
    assert distance(one, one) == (0, 0.0, 0)
    after = torch.from_numpy(np.nextafter(one.numpy(), np.array([9.0, 2.0], np.float32)))
    assert distance(one, after) == (1, pytest.approx(2**-23), 1)
    assert distance(torch.tensor([0.0]), torch.tensor([-0.0])) == (1, 0.0, 0)
    tiny = torch.tensor([1e-45])
    assert distance(tiny, -tiny)[2] == 2
    assert distance(torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([1.0078125], dtype=torch.bfloat16))[2] == 1
    assert distance(torch.tensor([1.0], dtype=torch.float64), torch.tensor([1.0 + 2**-52], dtype=torch.float64))[2] == 1


def test_suspects_are_found_by_line(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    code = "import time, numpy as np\nfrom datetime import datetime\nx = time.time()\ny = datetime.now()\n"
    (folder / "net.py").write_text(code + "rng = np.random.default_rng(0)\nz = np.random.default_rng()\n")
    calls = ["time.time()", "datetime.now()", "np.random.default_rng() without a seed"]
    lines = [f"models/net.py:{line} calls {call}" for line, call in zip((3, 4, 6), calls, strict=True)]
    suspects = module("samebits.lint.lint").suspects
    assert suspects({"models/net.py": folder / "net.py"}) == lines


@pytest.mark.parametrize("kind", list(verdict.Kind))
def test_every_verdict_says_what_to_do_next(kind: object, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"rows": 3, "tensors": 8, "metrics": 6}
    verdict.print_verdict(verdict.Verdict(kind, trained.name, compared=counts), trained, kept=True)
    said = capsys.readouterr().out
    assert said.startswith(f"\n{kind.title} ") and "\nNext:\n  " in said  # type: ignore[attr-defined]


def test_a_newer_library_is_told_of_where_results_are_identical(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = [("packages.samebits", "1.0.0", "1.0.1")]
    counts = {"rows": 3, "tensors": 8, "metrics": 6}
    found = verdict.Verdict(verdict.Kind.IDENTICAL, trained.name, environment=newer, compared=counts)
    verdict.print_verdict(found, trained, kept=True)
    said = capsys.readouterr().out
    assert "(samebits 1.0.0 → 1.0.1), and that does not alter the results" in said and "packages.samebits" in said


def test_what_cannot_be_compared_is_said_in_one_sentence(settings: Compose, workspace: Path) -> None:
    done = command("verify", "nowhere")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    cfg = settings("callbacks.trace=null", "paths.models='${paths.root}/untraced'")
    module("dummy.train").train(cfg)
    (untraced,) = Path(cfg.paths.models).glob("debug-*")
    with pytest.raises(UserError, match="has no trace of first steps"):
        module("samebits.verify.reproduce").verify(
            untraced, module("samebits.verify.reproduce").Options(probe=True), root=workspace
        )


def wheel(target: Path, version: str) -> Path:
    """Make a wheel of the library that calls itself another version, and has another comment in a file."""
    path, listed = target / f"samebits-{version}-py3-none-any.whl", ""
    target.mkdir(parents=True, exist_ok=True)
    source, about = LIBRARY / "src", f"samebits-{version}.dist-info"
    files = {
        each.relative_to(source).as_posix(): each.read_bytes()
        for each in sorted((source / "samebits").rglob("*"))
        if each.is_file() and "__pycache__" not in each.parts
    }
    says = "samebits/engine/__init__.py"
    files[says] = files[says].replace(f'"{VERSION}"'.encode(), f'"{version}"'.encode())
    files["samebits/bundle/__init__.py"] += b"# a comment\n"
    files[f"{about}/METADATA"] = f"Metadata-Version: 2.1\nName: samebits\nVersion: {version}\n".encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            listed += f"{name},sha256={digest},{len(content)}\n"
        archive.writestr(f"{about}/RECORD", listed)
    return path


def lock(project: Path, version: str) -> None:
    """Put the library's wheel into a project, and its name into the lock."""
    path = wheel(project / "vendor", version)
    (project / "requirements").mkdir(exist_ok=True)
    (project / "requirements/samebits.txt").write_text(f"./vendor/{path.name} --hash=sha256:{'0' * 64}\n")


def test_a_recorded_tree_brings_its_own_library(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "src/some").mkdir(parents=True)
    (tree / "src/some/train.py").write_text("import samebits\nraise SystemExit(f'trained by {samebits.__version__}')\n")
    run: list[object] = [[], tmp_path, tree, "some"]
    with pytest.raises(reruns.RerunFailed, match=rf"trained by {re.escape(VERSION)}"):
        reruns.rerun(*run)
    lock(tree, "1.0.1")
    wheel(tree / "vendor", "1.0.9")  # which the lock does not name
    with pytest.raises(reruns.RerunFailed, match=r"trained by 1\.0\.1"):
        reruns.rerun(*run)
    shutil.rmtree(tree / ".samebits")
    (tree / "vendor/samebits-1.0.1-py3-none-any.whl").unlink()
    with pytest.raises(UserError, match=r"has no vendor/samebits-1\.0\.1-py3-none-any\.whl"):
        reruns.rerun(*run)


def test_another_library_is_named(tmp_path: Path, workspace: Path) -> None:
    """One of another version with the same bits, and an installed one of which a file was edited."""
    project, installed = tmp_path / "project", tmp_path / "installed"
    shutil.copytree(ROOT, project)
    shutil.copytree(workspace / "data", project / "data", dirs_exist_ok=True)
    lock(project, "1.0.1")
    with zipfile.ZipFile(wheel(tmp_path, "1.0.2")) as archive:
        archive.extractall(installed)
    python = f"#!/bin/sh\ntouch '{tmp_path}/used'\nexec '{sys.executable}' \"$@\"\n"
    (project / "python").write_text(python)
    steps = ("mkdir -p .venv/bin", "cp python .venv/bin/python", "chmod +x .venv/bin/python", "echo installing")
    (project / "requirements/install.sh").write_text(" && ".join(steps))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=first"]):
        subprocess.run([*git, *words], cwd=project, check=True)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(map(str, (installed, project / "src")))
        environment = os.environ | {"PYTHONPATH": paths}
        return subprocess.run(
            [sys.executable, "-m", *words], cwd=project, env=environment, capture_output=True, text=True
        )

    few = ["debug=fast", "trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0"]
    done = call(f"{NAME}.train", *few)
    assert done.returncode == 0, done.stderr
    (run,) = (project / "models").glob("debug-fast-*")
    assert records.read_record(run)["environment"]["packages"]["samebits"] == "1.0.2"

    done = call("samebits", "reproduce", "--fresh", "--json")  # with the older wheel that the commit holds
    said = json.loads(done.stdout)  # which is all that is printed there
    assert done.returncode == 0 and "installing" in done.stderr and (tmp_path / "used").exists()
    assert said["verdict"] == "IDENTICAL" and said["code"] == "recorded" and said["fresh_environment"]
    assert said["environment"] == [["packages.samebits", "1.0.2", "1.0.1"]]

    edited = installed / "samebits/engine/randomness.py"
    edited.write_text(edited.read_text() + "\n# the same bits\n")
    done = call("samebits", "reproduce", "--probe", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 0 and said["verdict"] == "IDENTICAL"
    assert [name for name, *_ in said["environment"]] == ["patched.samebits/engine/randomness.py"]

    edited.write_text(
        edited.read_text() + "\nseed_all_ = seed_all\n\n\ndef seed_all(seed, *more):\n    seed_all_(seed + 1, *more)\n"
    )
    done = call("samebits", "reproduce", "--json", "--no-file")
    said = json.loads(done.stdout)
    assert done.returncode == 1 and said["verdict"] == "ENVIRONMENT" and said["inputs"] == []
    assert said["causes"][0].startswith("samebits/engine/randomness.py is not as its package was installed")


def test_files_of_a_library_that_nobody_released_are_patched_ones(trained: Path) -> None:
    record = records.read_record(trained)
    record["inputs"]["library"] = {"engine/randomness.py": "0" * 64}  # as from an editable installation
    assert (
        comparison.recorded_result(trained, record).environment["patched"]["samebits/engine/randomness.py"] == "0" * 64
    )


def test_an_error_that_nobody_foresaw_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, comparison.nothing_compared():
        raise ZeroDivisionError
    assert left.value.code == 2 and "ZeroDivisionError" in capsys.readouterr().err


def test_invariance_is_seen_in_any_project(
    settings: Compose, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    invariance = module("samebits.verify.invariance")
    names = (invariance.ALONE, "2 workers", "another seed")
    cases = [case for case in invariance.CASES if case.name in names]
    cases.insert(1, invariance.Case("strange", ("data.module.strange=1",)))
    cases.append(invariance.Case("not as it must be", ("seed=3",)))
    monkeypatch.setattr(invariance, "CASES", cases)
    few = [f'paths.root="{workspace}"', "debug=fast", "trainer.max_epochs=1", "snapshot=false"]
    with pytest.raises(SystemExit) as left:
        invariance.main(argparse.Namespace(settings=few))
    said = capsys.readouterr().out
    assert left.value.code == 1 and "4 trainings in" in said and "1 not as they must be" in said
    ends = {line[:36].strip(): line[50:] for line in said.splitlines()}
    assert ends["2 workers"] == "identical" and ends["another seed"] == "differs from 'nothing changed', as it must"
    assert ends["strange"].startswith("not tried") and ends["not as it must be"] == "WRONG: different"
    with pytest.raises(UserError, match=r"no setting 'trainer\.strange'"):
        invariance.main(argparse.Namespace(settings=["trainer.strange=1"]))
