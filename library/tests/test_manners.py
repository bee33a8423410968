"""What is no fault is not called one, what is damaged is said in one sentence, and nothing is lost on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from .conftest import Compose
from .project import NAME, ROOT, UserError, command, module

comparison, files = module("samebits.verify.comparison"), module("samebits.engine.files")
records, inputs = module("samebits.engine.record"), module("samebits.engine.inputs")
verdict, verification = module("samebits.verify.verdict"), module("samebits.verify.reproduce")
provenance_diff = module("samebits.verify.provenance_diff")
OPTIONS = verification.Options()
LEFT = (".DS_Store", "Thumbs.db", "desktop.ini", "._train_images.npy", ".ipynb_checkpoints/a.npy", ".nfs0001", "a.npy~")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished run that may be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / trained.name))


# --- data


def test_what_systems_leave_in_folders_is_no_data(tmp_path: Path, run: Path, settings: Compose) -> None:
    cfg = settings()
    copied = Path(shutil.copytree(cfg.paths.root, tmp_path / "other", ignore=shutil.ignore_patterns("models")))
    here = settings(f'paths.root="{copied}"')
    before = inputs.collect(here)
    for name in LEFT:
        for folder in (here.paths.processed, here.paths.raw):
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("left here")
    assert inputs.collect(here) == before and before["data"] == inputs.collect(cfg)["data"]
    assert provenance_diff.data_differences(records.read_record(run), here) == []
    module("samebits.fetch").fetch(here)
    (Path(here.paths.processed) / "more.npy").write_text("data")  # the twin: a file as data are
    assert set(inputs.collect(here)["data"]) == {*before["data"], "more.npy"}


def test_the_templates_dvcignore_has_the_same_names() -> None:
    path = ROOT.parents[2] / "{{cookiecutter.project_slug}}/.dvcignore"
    listed = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert set(listed) == {*files.JUNK, "*.egg-info"}


# --- distances


def saved(path: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors, path)
    return path


KINDS = [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("kind", [*KINDS, torch.int64, torch.int8, torch.uint8, torch.bool], ids=str)
def test_numbers_of_each_type_are_measured(kind: torch.dtype, tmp_path: Path) -> None:
    values = torch.tensor([0.0, 1.0, 1.0]).to(kind)
    one, same = (saved(tmp_path / name, a=values, empty=values[:0]) for name in ("one", "same"))
    other = saved(tmp_path / "other", a=torch.tensor([0.0, 1.0, 0.0]).to(kind), empty=values[:0])
    assert comparison.weight_diff(one, same).numbers == 0
    found = comparison.weight_diff(one, other)
    assert (found.numbers, found.total, found.largest) == (1, 3, 1.0) and found.ulps >= 1


@pytest.mark.parametrize(("kind", "unsigned"), [(torch.float8_e4m3fn, torch.uint8), (torch.float8_e5m2, torch.uint8)])
def test_numbers_of_eight_bits_are_those_of_torch(kind: torch.dtype, unsigned: torch.dtype, tmp_path: Path) -> None:
    every = torch.arange(256, dtype=unsigned).view(kind)
    content = saved(tmp_path / "all", a=every).read_bytes()
    ((_, tensor),) = comparison.deserialize(content)
    torch.testing.assert_close(
        torch.from_numpy(comparison._numbers(tensor)[0]).float(), every.float(), rtol=0, atol=0, equal_nan=True
    )


def test_integers_are_apart_by_their_difference(tmp_path: Path) -> None:
    for kind, one, other in ((torch.int8, -1, -3), (torch.uint8, 127, 129), (torch.int64, -(2**60), -(2**60) - 2)):
        paths = [saved(tmp_path / str(i), a=torch.tensor([n], dtype=kind)) for i, n in enumerate((one, other))]
        assert comparison.weight_diff(*paths).ulps == 2


def test_what_is_no_number_is_the_same_as_itself_alone(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    one = saved(tmp_path / "one", a=torch.tensor([nan, inf, -inf]))
    assert comparison.weight_diff(one, saved(tmp_path / "two", a=torch.tensor([nan, inf, -inf]))).numbers == 0
    found = comparison.weight_diff(one, saved(tmp_path / "three", a=torch.tensor([1.0, inf, -inf])))
    assert found.numbers == 1 and found.largest != found.largest
    assert comparison.weight_diff(one, saved(tmp_path / "four", a=torch.tensor([nan, 1.0, -inf]))).largest == inf


def test_another_type_is_said_as_such(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = [torch.float32, torch.float64]
    paths = [saved(tmp_path / str(kind), a=torch.ones(2, 3, dtype=kind)) for kind in kinds]
    assert comparison.weight_diff(*paths) is None
    sides = []
    for path in paths:
        outputs = {"tensors": {"a": path.name}, "metrics": {}}
        sides.append(comparison.Result([], outputs, {}, {}, path))
    found = comparison.compare(*sides)
    assert found.metrics == [("the tensor a", "float32 (2, 3)", "float64 (2, 3)")] and found.distance is None
    comparison.print_results(comparison.terminal(), found, 1, ("recorded", "here"))
    assert "the tensor a: float32 (2, 3) recorded, float64 (2, 3) here" in capsys.readouterr().out


# --- runs that are damaged, and folders that may not be written


GARBAGE = b"\x80\xff\x00 no text {"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOIL: dict[str, Callable[[Path], Any]] = {
    "cut": cut,
    "garbage": lambda path: path.write_bytes(GARBAGE),
    "list": lambda path: path.write_text("[1]"),
    "folder": folder,
    "empty": lambda path: path.write_text("{}"),
    "gone": Path.unlink,
    "unfinished": lambda path: path.write_text(path.read_text().replace('"finished"', '"running"')),
}


@pytest.mark.parametrize("how", SPOIL)
def test_a_damaged_record_is_no_verdict(how: str, run: Path, workspace: Path) -> None:
    SPOIL[how](run / "record.json")
    with pytest.raises(UserError, match=r"record\.json|has not finished") as error:
        verification.verify(run, OPTIONS, root=workspace)
    assert "\n" not in str(error.value)


def test_a_damaged_record_ends_with_the_status_of_what_cannot_be_compared(run: Path) -> None:
    done = command("compare", str(run), str(run))
    assert done.returncode == 0, done.stderr
    SPOIL["cut"](run / "record.json")
    for verb in (["reproduce", str(run)], ["compare", str(run), str(run)], ["show", str(run)], ["bundle", str(run)]):
        done = command(*verb)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("how", ["garbage", "list", "folder"])
@pytest.mark.parametrize("name", ["config.yaml", "metrics.json"])
def test_a_damaged_file_contradicts_the_record(name: str, how: str, run: Path) -> None:
    SPOIL[how](run / name)
    assert provenance_diff.contradictions(run, records.read_record(run))


def test_the_others_are_reported_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(shutil.copytree(run, run.with_name("damaged-01234567")))
    SPOIL["garbage"](other / "record.json")
    finished, _ = module("samebits.report.runs").read_runs(run.parent, [])
    said = capsys.readouterr().err
    assert [each.id for each in finished] == [run.name] and "without damaged-01234567: " in said, said


def test_a_verdict_that_cannot_be_kept_is_printed(
    run: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "verdicts").write_text("not a folder")
    (workspace / "reports").rmdir() if (workspace / "reports").is_dir() else None
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    found = verdict.Verdict(verdict.Kind.IDENTICAL, run.name, compared={"rows": 1, "tensors": 1, "metrics": 1})
    found.details = {"record": "", "when": "", "by": None, "code": "here", "fresh_environment": False, "machine": {}}
    verification.keep_verdict(found, run, "stem", sign=False)
    (path,) = here.iterdir()
    assert json.loads(path.read_text())["verdict"] == "IDENTICAL" and not found.kept
    verdict.print_verdict(found, run, found.kept)
    said = " ".join(capsys.readouterr().out.split())
    assert "verdicts cannot be written" in said and f"the verdict's file is ./{path.name}" in said
    assert "git add" not in said

    monkeypatch.setattr(verification, "write_atomically", fail)  # neither beside the run nor here
    verification.keep_verdict(found, run, "stem", sign=False)
    assert "No file keeps this verdict" in found.remarks[-1]


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_readers_absence_is_no_error(run: Path) -> None:
    words = [sys.executable, "-m", "samebits", "show", str(run)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 141 and done.stderr == ""


# --- runs that never were


def test_a_refused_training_leaves_no_run(settings: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = settings(f'paths.models="{tmp_path}"')
    datamodule = module(f"{NAME}.data.datamodule").ArrayDataModule

    def refuse(self: object, stage: str) -> None:
        raise ValueError("no such data")

    monkeypatch.setattr(datamodule, "setup", refuse)
    with pytest.raises(ValueError, match="no such data"):
        module(f"{NAME}.train").train(cfg)
    assert not list(tmp_path.glob("*-*"))
    monkeypatch.undo()

    def stop(self: Any, *_: object) -> None:
        if self.global_step == 1:
            raise ValueError("in its second step")

    monkeypatch.setattr(module(f"{NAME}.models.classifier").Classifier, "on_train_batch_start", stop)
    with pytest.raises(ValueError, match="second step"):
        module(f"{NAME}.train").train(cfg.copy())
    (begun,) = tmp_path.glob("*-*")
    assert records.read_record(begun)["observed"]["status"] == "running"


def test_a_copy_of_the_project_does_not_work_on_the_original(tmp_path: Path) -> None:
    copied = Path(shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns("processed", "raw", ".cache")))
    words = [sys.executable, "-m", f"{NAME}.train", "debug=fast", "--cfg", "job"]
    for folder in (copied, copied / "configs"):
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 2 and f"imported from {ROOT}" in done.stderr and "make setup" in done.stderr
    environment = os.environ | {"PYTHONPATH": f"{copied / 'src'}{os.pathsep}{os.environ['PYTHONPATH']}"}
    for folder, variables in ((tmp_path, dict(os.environ)), (copied, environment)):  # from elsewhere; with its own code
        assert subprocess.run(words, cwd=folder, env=variables, capture_output=True).returncode == 0


def test_a_runs_name_is_one_for_git(tmp_path: Path, settings: Compose) -> None:
    found = inputs.collect(settings())
    for name in ("a..b", "..", ".hidden", "lock.lock", "x@{y}", "end.", "a b~c^d:e"):
        named = records.find_run(tmp_path, name, found, ROOT).id
        assert subprocess.run(["git", "check-ref-format", f"refs/runs/{named}"]).returncode == 0, named
        assert not named.startswith(".")
    assert records.find_run(tmp_path, "cnn-lr=0.1,b=2+c", found, ROOT).id.startswith("cnn-lr=0.1,b=2+c-")
