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

from .project import NAME, compose, module

remembering = module("repro.remembered")
file_sha256 = module("repro.hashing").file_sha256


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
    with remembering.remembered(kept) as hash_file:
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
    here, data = module("verdicts.here"), workspace / "data/processed"
    inputs = module("repro.inputs")
    record = {"inputs": {"data": inputs.data_sha256(data)}}
    assert here.data_differences(record, compose([f'paths.root="{workspace}"'])) == [] == hashed


def test_many_settings_are_composed_as_one_by_one() -> None:
    composed_all = module("sweeping.composing").composed_all
    commands = [
        ["seed=1", "model=mlp"],
        ["seed=2", "model=mlp", "model.network.hidden=[7]", "cluster=slurm", "cluster.memory=8GB"],
        ["seed=3", "+trainer.max_steps=5", "trainer.max_epochs=2", "experiment=wide"],
        ["model.optimizer={lr:0.5}", "model.optimizer.lr=0.25", "~callbacks.best", "data.split.seed='${seed}'"],
        ["model.optimizer.lr=0.25", "model.optimizer={lr:0.5}", "hydra.verbose=true", "logger=tensorboard"],
    ]
    assert composed_all(commands) == [compose(words) for words in commands]
    with pytest.raises(module("errors").UserError, match=r"there is no setting 'model\.optimiser\.lr'"):
        composed_all([["model.optimiser.lr=1"]])


def test_groups_are_those_of_comparing_every_pair(trained: Path) -> None:
    experiments, runs = module("reporting.experiments"), module("reporting.runs")
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
from {NAME}.allocator import keep_freed_memory
assert not {kept} or keep_freed_memory()
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])  # that are in memory
before = pages()
tensors = [torch.ones(7 * 2**20) for _ in range(4)]  # 28 MiB each
del tensors
print(pages() - before)
"""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert (int(printed) * os.sysconf("SC_PAGE_SIZE") > 56 * 2**20) == kept
