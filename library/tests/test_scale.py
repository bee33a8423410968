"""What is done once and not again: hashing unchanged data, composing settings, comparing runs, asking for memory."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from .project import compose, module

remembering = module("samebits.engine.files")
file_sha256 = module("samebits.engine.files").file_sha256


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Count what is read; a file counts as settled at once."""
    read: list[Path] = []

    def count(path: Path) -> str:
        read.append(path)
        return str(file_sha256(path))

    monkeypatch.setattr(remembering, "file_sha256", count)
    monkeypatch.setattr(remembering, "SETTLED", -1.0)
    return read


def look(kept: Path, file: Path) -> str:
    with remembering.hash_cache(kept) as hash_file:
        return str(hash_file(file))


def rewrite(file: Path) -> None:
    file.write_bytes(b"b" * 9)


def restore_the_date(file: Path) -> None:
    before = file.stat()
    file.write_bytes(b"c" * 9)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_size == before.st_size


def replace(file: Path) -> None:
    new = file.with_name("new")
    new.write_bytes(b"d" * 9)
    os.utime(new, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    new.replace(file)


@pytest.mark.parametrize("edit", [rewrite, restore_the_date, replace])
def test_a_file_is_read_again_when_it_has_changed_and_only_then(
    tmp_path: Path, hashed: list[Path], edit: Callable[[Path], None]
) -> None:
    file, kept = tmp_path / "file", tmp_path / "cache/hashes.json"
    file.write_bytes(b"a" * 9)
    before = look(kept, file)
    assert look(kept, file) == before == file_sha256(file) and hashed == [file]
    edit(file)
    assert look(kept, file) == file_sha256(file) != before and hashed == [file, file]


def test_what_has_just_changed_is_not_remembered(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "SETTLED", 10.0)
    file, kept = tmp_path / "file", tmp_path / "hashes.json"
    file.write_bytes(b"a")
    assert look(kept, file) == look(kept, file) and hashed == [file, file]


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"sha256": "0", "files": {}}', "edited"])
def test_damaged_notes_are_done_without(tmp_path: Path, hashed: list[Path], damage: str) -> None:
    file, kept = tmp_path / "file", tmp_path / "hashes.json"
    file.write_bytes(b"a")
    right = look(kept, file)
    content = kept.read_text()
    assert right in content
    kept.write_text(content.replace(right, "0" * 64) if damage == "edited" else damage)
    assert look(kept, file) == right and hashed == [file, file]
    assert look(kept, file) == right and hashed == [file, file]  # the control: whole again


def test_a_folder_that_cannot_be_written_is_no_hindrance(tmp_path: Path, hashed: list[Path]) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a")
    assert look(file / "hashes.json", file) == file_sha256(file)


def test_verdicts_read_every_byte(workspace: Path, hashed: list[Path]) -> None:
    here, data = module("samebits.verify.provenance_diff"), workspace / "data/processed"
    inputs = module("samebits.engine.inputs")
    record = {"inputs": {"data": inputs.data_sha256(data)}}
    assert here.data_differences(record, compose([f'paths.root="{workspace}"'])) == [] == hashed


def test_many_settings_are_composed_as_one_by_one() -> None:
    compose_runs = module("samebits.sweep.plan").compose_runs
    commands = [
        ["seed=1", "model=mlp"],
        ["seed=2", "model=mlp", "model.network.hidden=[7]", "cluster=slurm", "cluster.memory=8GB"],
        ["seed=3", "+trainer.max_steps=5", "trainer.max_epochs=2", "experiment=wide"],
        ["model.optimizer={lr:0.5}", "model.optimizer.lr=0.25", "~callbacks.best", "data.split.seed='${seed}'"],
        ["model.optimizer.lr=0.25", "model.optimizer={lr:0.5}", "hydra.verbose=true", "logger=tensorboard"],
    ]
    assert compose_runs(commands) == [compose(words) for words in commands]
    with pytest.raises(module("samebits.engine.errors").UserError, match=r"there is no setting 'model\.optimiser\.lr'"):
        compose_runs([["model.optimiser.lr=1"]])


def test_groups_are_those_of_comparing_every_pair(trained: Path) -> None:
    runs = experiments = module("samebits.report.runs")
    content = (trained / "record.json").read_text()

    def run(seed: int, epochs: int, rate: float, follows: bool) -> object:
        record = json.loads(content)
        config = record["inputs"]["config"]
        config["seed"], config["trainer"]["max_epochs"], config["model"]["optimizer"]["lr"] = seed, epochs, rate
        config["data"]["module"]["seed"] = seed if follows else 2
        record["run"] = f"run-seed={seed}-{epochs}-{rate}-{follows}"
        return runs.FinishedRun(trained, record)

    every = [run(*each) for each in product(range(4), (2, 3), (1.0, 0.1), (False, True))]
    found = experiments.group(every, None)
    assert sum(len(each.runs) + len(each.repeats) for each in found) == len(every)
    for each in found:
        for other in found:
            same = experiments.same_but_for_seed(each.first, other.first)
            assert same == (each is other)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such switch")
@pytest.mark.parametrize("kept", [True, False])  # the latter is the negative control
def test_memory_that_is_freed_is_kept_for_the_next_step(kept: bool) -> None:
    code = f"""
import torch
from pathlib import Path
from samebits.engine.trainer import keep_freed_memory
assert not {kept} or keep_freed_memory()
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])  # that are in memory
before = pages()
tensors = [torch.ones(7 * 2**20) for _ in range(4)]  # 28 MiB each
del tensors
print(pages() - before)
"""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert (int(printed) * os.sysconf("SC_PAGE_SIZE") > 56 * 2**20) == kept


def test_what_only_looks_at_runs_loads_no_pytorch() -> None:
    """Its import takes seconds: commands that list, plan and report do without."""

    def loads_pytorch(*modules: str) -> bool:
        code = f"import sys, {', '.join(modules)}; print('torch' in sys.modules)"
        return "True" in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    engine = ("distributed", "determinism", "inputs", "record", "run_loader", "trace_reader")
    outer = ("samebits.run", "samebits.report.runs", "samebits.sweep.plan", "samebits.verify.provenance_diff")
    assert not loads_pytorch(*(f"samebits.engine.{name}" for name in engine), *outer)
    assert loads_pytorch("samebits.engine.randomness")  # the control
