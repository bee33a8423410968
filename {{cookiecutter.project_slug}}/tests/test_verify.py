"""Verdicts: what contradicts what, how far apart, what is said; the catalogue of planted faults is the template's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from .conftest import Compose
from .project import UserError, command, module

integrity, records, distances = module("verdicts.integrity"), module("repro.record"), module("verdicts.distance")
verdict = module("verdicts.verdict")


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
    records.write(run, record)


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
    assert integrity.contradictions(run, records.read_finished(run)) == []
    spoil, words = EDITS[edit]
    spoil(run)
    found = integrity.contradictions(run, records.read_finished(run))
    assert words in found[0], found


def test_an_edited_run_is_no_result(settings: Compose, trained: Path) -> None:
    content = (trained / "metrics.json").read_text()
    (trained / "metrics.json").write_text(content.replace('"test/accuracy": 0.', '"test/accuracy": 0.9'))
    with pytest.raises(UserError, match=r"was edited after it was trained \(metrics.json: test/accuracy is 0.9"):
        module("train").train(settings())
    (trained / "metrics.json").write_text(content)
    module("train").train(settings())


def test_a_renamed_run_is_noticed_and_a_published_copy_is_not(run: Path) -> None:
    other = f"{run.name.rpartition('-')[0]}-01234567"
    renamed = run.rename(run.with_name(other))
    assert f"the directory is called {other}" in integrity.contradictions(renamed, records.read(renamed))[0]
    published = renamed.rename(renamed.with_name("best"))
    assert integrity.contradictions(published, records.read(published)) == []


def test_a_run_is_verified_in_a_process_of_its_own(run: Path, workspace: Path) -> None:
    verification = module("verdicts.verification")
    found = module("verify").verify(run, verification.Options(), root=workspace)
    assert found.kind is verdict.Kind.IDENTICAL and found.status == 0
    (path,) = (run / "verdicts").iterdir()
    assert json.loads(path.read_text())["verdict"] == "IDENTICAL"
    appendix = module("verdicts.appendix")
    assert len(appendix.verdicts_on(run, records.read(run))) == 1
    assert appendix.verdicts_on(run, {"sha256": "of another record in its place"}) == []
    labels = workspace / "data/processed/val_labels.npy"
    content = labels.read_bytes()
    labels.write_bytes(content[:-8] + bytes(8))
    found = module("verify").verify(run, verification.Options(probe=True), root=workspace)
    labels.write_bytes(content)
    assert found.kind is verdict.Kind.DIFFERENT_INPUTS and found.inputs[0][0] == "data val_labels.npy"


def test_distances_count_numbers_and_units_of_the_last_place(tmp_path: Path) -> None:
    def distance(one: torch.Tensor, other: torch.Tensor) -> tuple[int, float, int]:
        save_file({"a": one, "b": torch.zeros(3)}, tmp_path / "one")
        save_file({"a": other, "b": torch.zeros(3)}, tmp_path / "other")
        found = distances.distance(tmp_path / "one", tmp_path / "other")
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
    (tmp_path / "models").mkdir()
    code = "import time\nfrom datetime import datetime\nx = time.time()\ny = datetime.now()\nrng = default_rng(0)\n"
    (tmp_path / "models/net.py").write_text(code + "z = np.random.default_rng()\n")
    calls = ["time.time", "datetime.now", "np.random.default_rng"]
    lines = [f"models/net.py:{line} calls {call}()" for line, call in zip((3, 4, 6), calls, strict=True)]
    assert module("verdicts.suspects").find(tmp_path) == lines


@pytest.mark.parametrize("kind", list(verdict.Kind))
def test_every_verdict_says_what_to_do_next(kind: object, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"rows": 3, "tensors": 8, "metrics": 6}
    module("verdicts.text").print_verdict(verdict.Verdict(kind, trained.name, compared=counts), trained, kept=True)
    said = capsys.readouterr().out
    assert said.startswith(f"\n{kind.title} ") and "\nNext:\n  " in said  # type: ignore[attr-defined]


def test_what_cannot_be_compared_is_said_in_one_sentence(settings: Compose, workspace: Path) -> None:
    done = command("verify", "nowhere")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    cfg = settings("callbacks.trace=null", "paths.models='${paths.root}/untraced'")
    module("train").train(cfg)
    (untraced,) = Path(cfg.paths.models).glob("debug-*")
    with pytest.raises(UserError, match="has no trace of first steps"):
        module("verify").verify(untraced, module("verdicts.verification").Options(probe=True), root=workspace)
